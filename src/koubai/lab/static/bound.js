// @ts-check
// What theory guarantees of a descent, drawn on it: by how much f falls at least in each step, and how fast it must go.

import { Refused, unlessSuperseded } from "./connection.js";
import { createCurves } from "./curves.js";
import { swatch } from "./marks.js";
import { number as written } from "./text.js";
import { el, toggle } from "./widgets.js";

export const PROMISED = 6, LIMIT = 7; // slots of their curves

/**
 * get(): {bound}; set(values); one(): the descent that is looked at; redraw: draw the curves again.
 * slot(): its colour.
 * @param {{lab: any, get: () => any, set: (values: any) => void, one: () => any, slot: () => number, redraw: () => void}} options
 */
export function createBound({ lab, get, set, one, slot, redraw }) {
  let found = /** @type {any} */ (null), failed = "";
  const on = toggle({ label: "descent.bound_show", value: get().bound, onChange: (bound) => set({ bound }) });
  const body = el("div", { class: "bound" }), chart = el("div");
  const element = el("div", { class: "section-body" }, on.element, chart, body);
  const falls = createCurves(chart, { label: "descent.bound_fall", xLabel: "descent.curve_steps", yLabel: "descent.bound_fall_axis", height: 132 });
  chart.hidden = true;

  async function ask() {
    if (!get().bound) return;
    const given = one();
    try {
      const answer = await lab.ask("descent.theory", "theory", given);
      if (!element.isConnected) return;
      found = { ...answer, key: JSON.stringify(given) };
      failed = "";
    } catch (error) {
      if (!(error instanceof Refused)) return unlessSuperseded(error);
      found = null;
      failed = error.message;
    }
    show();
    redraw();
    return undefined;
  }

  function show() {
    body.hidden = !get().bound;
    // a promise below 0 promises nothing
    chart.hidden = !get().bound || !(found?.arrays.promised?.[0] > 0);
    if (!chart.hidden) {
      const { t, fall, promised } = found.arrays;
      falls.setSeries([{ x: t, y: fall, slot: slot(), strong: true }, { x: t, y: promised, slot: PROMISED }]);
    }
    if (!found) {
      body.replaceChildren(...(failed ? [el("p", { class: "hint" }, failed)] : []));
      lab.report("descent", { theory: null });
      return;
    }
    const row = (key, value, mark = null) => el("tr", {}, el("td", {}, mark === null ? null : swatch(mark), el("span", { t: key })), el("td", {}, value));
    const rows = [
      row("descent.bound_curvature", `${written(found.mu)} … ${written(found.L)}`),
      row("descent.bound_rate", found.bound === null ? "–" : `${written(found.lr)}  /  ${written(found.bound)}`),
    ];
    if (found.gain !== null) rows.push(row("descent.bound_gain", `${written(found.gain)} · ‖∇f‖²`, found.gain > 0 ? PROMISED : null));
    if (found.factor !== null) rows.push(row("descent.bound_factor", found.factor < 1 ? written(found.factor) : "–", found.arrays.limit ? LIMIT : null));
    if (found.classic !== null) rows.push(row("descent.bound_classic", written(found.classic)));
    rows.push(row("descent.bound_measured", written(found.measured)));
    body.replaceChildren(el("table", {}, el("tbody", {}, ...rows)), ...(found.holds === false ? [el("p", { class: "hint", t: "descent.bound_broken" })] : []), ...found.notes.slice(0, 1).map((n) => el("p", { class: "hint" }, n)));
    const { L, mu, bound, lr, gain, factor, classic, measured, predicted, holds, arrays } = found;
    const worst = arrays.t ? Math.min(...Array.from(arrays.fall, (v, i) => v - arrays.promised[i])) : null;
    lab.report("descent", { theory: { L, mu, bound, lr, gain, factor, classic, measured, predicted, holds, status: found.run.status, steps: arrays.t?.length ?? 0, least_margin: worst } });
  }

  /** The curve to draw beside the run's, which lies below it. `below`: what is taken off f. */
  function series(below) {
    const limit = get().bound && found?.arrays.limit;
    return limit ? [{ y: Array.from(limit, (v) => v - below), slot: LIMIT }] : [];
  }

  /** Show what the state says. */
  function update() {
    on.set(get().bound);
    body.hidden = !get().bound;
    chart.hidden ||= !get().bound;
    if (!get().bound && found) { found = null; lab.report("descent", { theory: null }); }
  }
  return { element, ask, update, series, onLanguage() { if (found) show(); falls.redraw(); }, onTheme() { falls.redraw(); }, destroy() { falls.destroy(); } };
}
