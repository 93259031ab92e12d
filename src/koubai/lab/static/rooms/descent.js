// @ts-check
// The descent room: drag the start, and the whole paths of all chosen optimizers follow.

import { Refused, unlessSuperseded } from "../connection.js";
import { createBound } from "../bound.js";
import { createCurves } from "../curves.js";
import { createField } from "../field.js";
import { createFunctionPicker } from "../function.js";
import { createNarration, magnified, paintStep } from "../narration.js";
import { MOST, createHyperparameters, createOptimizerList, entryOf, labelsOf, plainOptimizer } from "../optimizers.js";
import { createPartials, heldAt } from "../partials.js";
import { createRace } from "../race.js";
import { createShare } from "../share.js";
import { css } from "../marks.js";
import { is } from "../state.js";
import { createStrip } from "../strip.js";
import { createSurface } from "../surface.js";
import { number as written } from "../text.js";
import { button, choice, el, logSlider, number, section, tabs, toggle, transport } from "../widgets.js";

const REST = 140; // ms without a change after which the verdict, the strip and the texts follow
const NO_LINE_SEARCH_RATES = 96;

const pair = (check) => is.list(check, 2, 2);
const isFunction = is.any(is.record({ problem: is.text(60) }), is.record({ expression: is.text(1000) }));
const isWindow = (v) => pair(pair(is.number(-1e12, 1e12)))(v) && v.every(([l, h]) => h > l);
const isEnd = is.any(is.nothing, is.number(-1e150, 1e150));
const isBounds = (v) => pair(pair(isEnd))(v) && v.every(([l, h]) => l === null || h === null || h > l);
const isOptimizer = (v) => is.flat()(v) && typeof v.name === "string";

export const id = "descent";

/** What the room keeps in the address. */
export const schema = {
  function: { default: { problem: "elongated_bowl" }, check: isFunction },
  draft: { default: "", check: is.text(1000) },
  window: { default: null, check: is.any(is.nothing, isWindow) },
  x0: { default: [-7, 2], check: pair(is.number(-1e12, 1e12)) },
  optimizers: {
    default: [
      { name: "SGD", lr: 0.95 }, { name: "Momentum", lr: 0.1 }, { name: "Adagrad", lr: 1.5 }, { name: "Adam", lr: 0.3 },
    ],
    check: is.list(isOptimizer, 1, MOST),
  },
  chosen: { default: 0, check: is.integer(0, MOST - 1) },
  max_steps: { default: 200, check: is.integer(0, 20000) },
  gtol: { default: 1e-6, check: is.number(0, 1e12) },
  seed: { default: 0, check: is.integer(0, 2 ** 31 - 1) },
  bounds: { default: null, check: is.any(is.nothing, isBounds) },
  t: { default: null, check: is.any(is.nothing, is.integer(0, 20000)) },
  arrows: { default: false, check: is.bool },
  hold: { default: null, check: is.any(is.nothing, is.one(0, 1)) },
  bound: { default: false, check: is.bool },
  view: { default: "contours", check: is.one("contours", "surface") },
  panel: { default: "curves", check: is.one("curves", "step", "race", "share") },
  speed: { default: 30, check: is.one(1, 3, 10, 30, 100, 300) },
  budget: { default: 300, check: is.integer(1, 20000) },
  race_lr: { default: "given", check: is.one("given", "tuned", "same") },
};

/** A point put into the box, where there is one. */
function within(x, bounds) {
  return bounds ? x.map((v, i) => Math.min(bounds[i][1] ?? Infinity, Math.max(bounds[i][0] ?? -Infinity, v))) : x;
}

/** Draw the box that descents stay in; where it has no end it is open. */
function paintBox(c, api, bounds) {
  if (!bounds) return;
  const far = 1e5; // pixels: outside of any picture
  const at = (v, to) => Math.max(-far, Math.min(far, to(v)));
  const [l, r] = [at(bounds[0][0] ?? -1e150, api.X), at(bounds[0][1] ?? 1e150, api.X)];
  const [b, t] = [at(bounds[1][0] ?? -1e150, api.Y), at(bounds[1][1] ?? 1e150, api.Y)];
  c.save();
  for (const [style, width] of [[css("--field-back"), 4], [css("--ink"), 1.5]]) {
    c.strokeStyle = style;
    c.lineWidth = width;
    c.setLineDash([7, 4]);
    c.strokeRect(l, t, r - l, b - t);
  }
  c.restore();
}

/** Open the room in `container`. */
export function mount(container, lab) {
  const own = () => lab.store.state.descent;
  const change = (values, how = {}) => lab.store.set("descent", values, how);
  const problems = new Map(lab.catalogue.problems.filter((p) => p.dimension === 2).map((p) => [p.name, p]));
  // what a link names must be there: else the defaults, which are
  const unknown = [];
  const mend = (values, field = "") => { lab.store.mend("descent", values); if (field) unknown.push(`descent.${field}`); };
  if (own().function.problem && !problems.has(own().function.problem)) mend({ function: schema.function.default, x0: schema.x0.default, window: null }, "function");
  const known = own().optimizers.filter((o) => entryOf(lab, o));
  if (known.length !== own().optimizers.length) mend({ optimizers: known.length ? known : schema.optimizers.default, chosen: 0 }, "optimizers");
  if (own().chosen >= own().optimizers.length) mend({ chosen: 0 });
  if (JSON.stringify(within(own().x0, own().bounds)) !== JSON.stringify(own().x0)) mend({ x0: within(own().x0, own().bounds) }, "x0");
  if (own().budget > lab.catalogue.limits.budget) mend({ budget: lab.catalogue.limits.budget }, "budget");
  if (unknown.length) lab.badLink(...unknown);

  let runs = /** @type {any[]} */ ([]); // by slot; null where off
  let step = /** @type {any} */ (null), gone = false, dragTime = 0, diagnosis = /** @type {any} */ (null);

  // -- the stage -----------------------------------------------------------------------------------------------------

  const stage = el("div", { class: "stage" });
  const controls = el("div", { class: "controls" });
  container.append(el("div", { class: "bench" }, stage, controls));

  const painted = [];
  const field = createField(stage, {
    lab,
    onStart: (x, { time }) => {
      dragTime ||= time || performance.now();
      change({ x0: within(heldAt(x, own().x0, own().hold, field.scale), own().bounds) });
      if (own().hold !== null || own().bounds) field.setStart(own().x0); // the hand may have left where nothing changed
    },
    onView: (seen, how) => {
      if (!how?.resized) change({ window: seen });
      requestGround();
    },
    onPainted: () => {
      if (paintedPaths) {
        paintedPaths = false;
        lab.painted();
        if (dragTimeOfAnswer) {
          const since = dragTimeOfAnswer;
          dragTimeOfAnswer = 0;
          // after this frame's paint has been handed over
          setTimeout(() => {
            painted.push(performance.now() - since);
            if (painted.length > 2000) painted.shift();
            lab.frames.drag = painted;
          });
        }
      }
    },
  });
  let paintedPaths = false, dragTimeOfAnswer = 0;
  const surface = createSurface(field.element, {
    lab,
    onStart: (x, { time }) => { dragTime ||= time || performance.now(); change({ x0: within(x, own().bounds) }); },
    onPainted: () => { paintedPaths = false; lab.painted(); },
  });
  const viewChoice = choice({
    label: "descent.view", value: own().view,
    options: [{ value: "contours", label: "descent.view_contours" }, { value: "surface", label: "descent.view_surface" }],
    onChange: (view) => change({ view }),
  });
  const arrowSwitch = el("button", { type: "button", class: "arrow-switch", tLabel: "descent.arrows", tTitle: "descent.arrows" }, "∇f");
  arrowSwitch.addEventListener("click", () => change({ arrows: !own().arrows }));
  field.element.append(el("div", { class: "field-top" }, viewChoice.element, arrowSwitch));

  const player = transport({ speed: own().speed, onSpeed: (speed) => change({ speed }), onSeek: (t, clock) => change({ t }, { clock }) });
  const title = el("p", { class: "title", t: "descent.judging" }), why = el("p", { class: "why" });
  const fixButton = button("descent.fix", tryFix, { kind: "primary" });
  const fixText = el("small");
  fixButton.hidden = true;
  const fixPlace = el("div", { class: "fix" }, fixButton, fixText);
  const verdict = el("div", { class: "verdict" }, title, why, fixPlace);
  stage.append(el("div", { class: "under" }, player.element, verdict));

  // -- the controls --------------------------------------------------------------------------------------------------

  const picker = createFunctionPicker({
    lab, room: id, dimension: 2,
    value: () => own().function, draft: () => own().draft || own().function.expression || "x**2/20 + y**2",
    onDraft: (draft) => change({ draft }),
    onFunction: (f, problem) => {
      if (problem) change({ function: f, x0: problem.x0, window: null, t: null, bounds: null });
      else change({ function: f, t: null });
    },
  });

  const list = createOptimizerList({
    lab, get: () => ({ optimizers: own().optimizers, chosen: own().chosen }),
    set: (optimizers, chosen) => change({ optimizers, chosen }),
  });
  const chosen = () => own().optimizers[own().chosen] ?? own().optimizers[0];
  const setChosen = (o) => change({ optimizers: own().optimizers.map((other, i) => (i === own().chosen ? o : other)) });
  const rateOf = (o) => o.lr ?? entryOf(lab, o)?.defaults?.[o.semantics ?? entryOf(lab, o).semantics[0]]?.lr ?? entryOf(lab, o)?.lr;

  const rateNumber = number({ label: "descent.rate", value: rateOf(chosen()), low: Number.MIN_VALUE, high: 1e12, log: true, onInput: (lr) => setChosen({ ...chosen(), lr }), bare: true });
  const findButton = button("descent.find_rate", findRate, { kind: "quiet", title: "descent.find_rate_title" });
  const rate = el("div", { class: "rate" },
    el("div", { class: "rate-head" }, el("span", { class: "name-of", t: "descent.rate_long" }), rateNumber.element));
  const strip = createStrip(rate, { onRate: (lr) => setChosen({ ...chosen(), lr }) });
  const hyper = createHyperparameters({ lab, get: chosen, set: setChosen, rate });
  const hyperSection = section("descent.hyperparameters", rate, hyper.element);
  hyperSection.end.append(findButton);

  const steps = logSlider({ label: "descent.max_steps", value: own().max_steps, low: 1, high: 20000, integer: true, least: 0, most: 20000, onInput: (max_steps) => change({ max_steps }) });
  const gtol = logSlider({ label: "descent.gtol", value: own().gtol, low: 1e-14, high: 10, zero: true, least: 0, most: 1e12, onInput: (v) => change({ gtol: v }) });
  const x0 = [0, 1].map((i) => number({
    label: { text: `x${"₀₁"[i]}` }, value: own().x0[i], low: -1e12, high: 1e12, step: 0.1, digits: 8,
    onInput: (v) => change({ x0: within(own().x0.map((old, k) => (k === i ? v : old)), own().bounds) }),
  }));
  const box = el("p", { class: "hint" });
  const boxRow = el("div", { class: "row bounds" }, box, button("descent.no_bounds", () => change({ bounds: null }), { kind: "plain" }));
  const startSection = section("descent.start_and_end", el("div", { class: "pair" }, ...x0.map((n) => n.element)), boxRow, steps.element, gtol.element);

  const curvesPanel = el("div"), stepPanel = el("div"), racePanel = el("div"), sharePanel = el("div");
  const curves = createCurves(curvesPanel, {
    label: "descent.curves", xLabel: "descent.curve_steps", yLabel: "descent.curve_loss", height: 176, onCursor: (t) => change({ t: Math.max(0, Math.min(total(), Math.round(t))) }),
  });
  const narration = createNarration({ lab, onLit: () => { field.setTime(own().t); } });
  stepPanel.append(narration.element);
  const race = createRace({
    lab, get: own, set: change,
    arguments: () => ({ function: own().function, x0: own().x0, optimizers: active().map((i) => plainOptimizer(own().optimizers[i])), bounds: own().bounds, seed: own().seed }),
    slots: active,
    onRates: (rates) => change({ optimizers: own().optimizers.map((o, i) => (rates.get(i) > 0 && !entryOf(lab, o)?.searches ? { ...o, lr: rates.get(i) } : o)) }),
  });
  racePanel.append(...race.element.childNodes);
  const share = createShare({ lab, room: id, state: spec, snapshot: () => (own().view === "surface" ? surface.snapshot() : field.snapshot()), slot: () => Math.max(0, active().indexOf(own().chosen)) });
  sharePanel.append(...share.element.childNodes);
  const panels = tabs({
    label: "descent.panels", value: own().panel,
    items: [
      { id: "curves", label: "descent.panel_curves", panel: curvesPanel }, { id: "step", label: "descent.panel_step", panel: stepPanel },
      { id: "race", label: "descent.panel_race", panel: racePanel }, { id: "share", label: "descent.panel_share", panel: sharePanel },
    ],
    onChange: (panel) => change({ panel }),
  });
  const partials = createPartials({ lab, get: own, set: change, seen: () => field.seen(), redraw: () => field.setTime(own().t) });
  const bound = createBound({ lab, get: own, set: change, one: () => one(), slot: () => own().chosen, redraw: drawCurves });
  curvesPanel.append(bound.element);
  controls.append(picker.element, partials.element, list.element, hyperSection.element, panels.element, startSection.element);

  // -- asking --------------------------------------------------------------------------------------------------------

  /** The slots of the optimizers that are on. */
  function active() { return own().optimizers.map((_, i) => i).filter((i) => !own().optimizers[i].off); }
  /** What is replayed and exported: only what has a part in the numbers. */
  function spec() {
    const { function: f, x0: start, max_steps, gtol: tolerance, bounds, seed, window } = own();
    return { function: f, x0: start, optimizers: active().map((i) => plainOptimizer(own().optimizers[i])), max_steps, gtol: tolerance, bounds, seed, window: window ?? field.seen() };
  }
  const one = () => ({ function: own().function, x0: own().x0, optimizer: plainOptimizer(chosen()), max_steps: own().max_steps, gtol: own().gtol, bounds: own().bounds, seed: own().seed });

  /** Show what could not be computed instead of a verdict; what was on the page stays. */
  function refused(error) {
    if (!(error instanceof Refused)) return unlessSuperseded(error);
    if (gone) return undefined;
    delete title.dataset.t;
    lab.say(title, "descent.refused");
    delete why.dataset.t;
    why.textContent = error.message;
    verdict.dataset.kind = "bad";
    fixButton.hidden = true;
    fixText.textContent = "";
    diagnosis = null;
    lab.report(id, { refused: error.message, verdict: null, pending: false });
    return undefined;
  }

  let newest = 0;
  async function descend() {
    const mine = ++newest;
    const slots = active();
    const labels = labelsOf(own().optimizers);
    const since = dragTime;
    dragTime = 0;
    if (!slots.length) { showRuns(slots, null, labels, own().x0); sayNobody(); lab.report(id, { pending: false }); return; }
    const { function: f, x0: start, max_steps, gtol: tolerance, bounds, seed } = own();
    let answer;
    lab.report(id, { pending: true });
    try {
      answer = await lab.ask("descent.paths", "descend", { function: f, x0: start, optimizers: slots.map((i) => plainOptimizer(own().optimizers[i])), max_steps, gtol: tolerance, bounds, seed });
    } catch (error) { refused(error); return; }
    if (gone) return;
    dragTimeOfAnswer = since;
    showRuns(slots, answer, labels, start);
    lab.report(id, { pending: mine !== newest });
  }

  let shownTotal = -1;
  function showRuns(slots, answer, labels, start) {
    runs = own().optimizers.map(() => null);
    const paths = [];
    slots.forEach((slot, k) => {
      const run = answer.runs[k];
      const x = answer.arrays[`path.${k}`];
      runs[slot] = { ...run, t: answer.arrays[`t.${k}`], curve: answer.arrays[`fun.${k}`], path: x };
      if (x) paths.push({ x, t: answer.arrays[`t.${k}`], rows: x.length / 2, slot, label: x.length > 2 ? labels[slot] : "", strong: slot === own().chosen });
    });
    // the chosen one on top
    paths.sort((a, b) => Number(a.strong) - Number(b.strong));
    const end = total();
    if (own().t !== null && own().t > end) change({ t: null }, { clock: true });
    if (end !== shownTotal || own().t === null) player.set({ total: end, t: own().t ?? end });
    shownTotal = end;
    field.setPaths(paths);
    surface.setPaths(paths);
    paintedPaths = true;
    drawCurves();
    list.update(runs);
    if (own().panel === "step") narrate();
    lab.report(id, {
      runs: slots.map((slot, k) => ({ slot, name: labels[slot], x: answer.runs[k].x, fun: answer.runs[k].fun, nit: answer.runs[k].nit, status: answer.runs[k].status })),
      x0: start, total: end, refused: null, labels,
    });
  }

  function drawCurves() {
    const shown = runs.map((r, slot) => ({ r, slot })).filter(({ r }) => r?.curve);
    let least = Infinity;
    for (const { r } of shown) for (const v of r.curve) if (v < least) least = v;
    // a loss below 0 has no logarithm: then what is left above the least found
    const below = least <= 0;
    lab.report(id, { curve_offset: below ? least : 0 });
    curves.setSeries([...bound.series(below ? least : 0), ...shown.map(({ r, slot }) => ({
      x: r.t, y: below ? r.curve.map((v) => v - least) : r.curve, slot, strong: slot === own().chosen,
    }))]);
    curves.setCursor(own().t);
  }

  const total = () => Math.max(0, ...runs.filter(Boolean).map((r) => r.nit ?? 0));

  let groundAsked = "";
  async function requestGround() {
    requestArrows();
    const window = field.seen();
    const [w, h] = field.size;
    const wide = Math.round(Math.min(200, Math.max(90, w / 4.5)));
    const resolution = [wide, Math.max(40, Math.round((wide * h) / w))];
    const key = JSON.stringify([own().function, window, resolution]);
    if (key === groundAsked) return;
    groundAsked = key;
    let answer;
    try { answer = await lab.ask("descent.field", "field", { function: own().function, window, resolution }); } catch (error) {
      groundAsked = "";
      refused(error);
      return;
    }
    if (gone) return;
    const [gh, gw] = answer.arrays.z.shape;
    const ground = field.setGround({ z: answer.arrays.z, w: gw, h: gh, window });
    surface.setGround(ground);
    lab.report(id, { field: { low: answer.low, high: answer.high, window } });
  }

  let arrowsAsked = "";
  async function requestArrows() {
    arrowSwitch.setAttribute("aria-pressed", String(own().arrows));
    arrowSwitch.hidden = own().view === "surface";
    if (!own().arrows) { field.setArrows(null); arrowsAsked = ""; return; }
    const window = field.seen(), [w, h] = field.size;
    const counts = [w, h].map((n) => Math.max(4, Math.min(40, Math.round(n / 46))));
    const key = JSON.stringify([own().function, window, counts]);
    if (key === arrowsAsked) return;
    arrowsAsked = key;
    try {
      const found = await lab.ask("descent.arrows", "arrows", { function: own().function, window, counts });
      if (!gone) field.setArrows(found.arrays);
    } catch (error) { arrowsAsked = ""; refused(error); }
  }

  // -- the verdict, the strip, the step: they follow when hands rest --------------------------------------------------

  let resting = 0;
  function afterRest() {
    clearTimeout(resting);
    resting = window.setTimeout(() => { judge(); sweep(); narrate(); bound.ask(); share.update(own().panel === "share"); race.stale(); }, REST);
  }

  /** All optimizers are off: there is nothing to judge. */
  function sayNobody() {
    diagnosis = null;
    lab.say(title, "descent.nobody");
    lab.say(why, "descent.nobody_why");
    verdict.dataset.kind = "mid";
    fixButton.hidden = true;
    delete fixText.dataset.t;
    fixText.textContent = "";
    lab.report(id, { verdict: null });
  }

  async function judge() {
    if (!active().length) { sayNobody(); return; }
    const label = labelsOf(own().optimizers)[own().chosen];
    let found;
    try { found = await lab.ask("descent.verdict", "diagnose", one()); } catch (error) { refused(error); return; }
    if (gone || !active().length) return;
    diagnosis = found;
    delete title.dataset.t;
    delete why.dataset.t;
    title.textContent = `${label}: ${found.verdict}`;
    why.textContent = upper(found.explanation);
    verdict.dataset.kind = found.code === "converged" ? "good" : found.is_fault === false ? "mid" : "bad";
    fixButton.hidden = !found.remedy;
    if (!fixed) {
      delete fixText.dataset.t;
      fixText.textContent = found.remedy ? found.remedy.text : "";
    }
    fixed = false;
    lab.report(id, { verdict: { code: found.code, title: found.verdict, why: found.explanation, remedy: found.remedy, evidence: found.evidence, name: chosen().name } });
    lab.announce(`${title.textContent}. ${why.textContent}`);
  }
  // not a symbol, "f" say
  const upper = (s) => (/^[a-z][a-z]/.test(s ?? "") || /^a /.test(s ?? "") ? s[0].toUpperCase() + s.slice(1) : s);

  let fixed = false;
  async function tryFix() {
    fixButton.setAttribute("aria-busy", "true");
    let found;
    try { found = await lab.ask("descent.fix", "fix", one()); } catch (error) { refused(error); return; } finally { fixButton.removeAttribute("aria-busy"); }
    if (gone) return;
    const { optimizer, max_steps, x0: start, gtol: tolerance, bounds } = found.changes ?? {};
    lab.report(id, { fix: { helped: found.helped, before: found.before.fun, after: found.after.fun, changes: found.changes } });
    const values = {};
    if (optimizer && entryOf(lab, optimizer)) values.optimizers = own().optimizers.map((o, i) => (i === own().chosen ? { ...optimizer } : o));
    if (Number.isInteger(max_steps)) values.max_steps = Math.min(20000, max_steps);
    if (Array.isArray(start) && start.length === 2) values.x0 = start;
    if (typeof tolerance === "number") values.gtol = tolerance;
    if (bounds) {
      const box = bounds.map((ends) => ends.map((v) => (Number.isFinite(v) ? v : null)));
      if (isBounds(box)) values.bounds = box;
    }
    if (Object.keys(values).length) {
      fixed = true;
      lab.say(fixText, found.helped ? "descent.fix_helped" : "descent.fix_tried", { before: written(found.before.fun, 3), after: written(found.after.fun, 3) });
      change(values);
    } else {
      lab.say(fixText, "descent.fix_none");
      fixButton.hidden = true;
    }
  }

  let stripFor = "";
  async function sweep() {
    const o = chosen();
    const entry = entryOf(lab, o);
    if (!entry || entry.searches) { strip.setData(null); return; }
    const subject = JSON.stringify([own().function, o.name, o.semantics ?? ""]);
    const ask = (low, high, count) => lab.ask("descent.rates", "rates", { ...one(), low, high, count });
    try {
      if (subject !== stripFor) {
        // where do rates begin to matter on this function? a coarse look first, then the range is held
        const wide = await ask(1e-9, 1e4, 92);
        if (gone) return;
        const good = [...wide.arrays.kind].map((k, i) => (k === 2 || k === 3 ? wide.arrays.lr[i] : 0)).filter(Boolean);
        const now = rateOf(o);
        const first = good[0] ?? now, last = wide.bound || good.at(-1) || now;
        const high = 10 ** Math.min(Math.ceil(Math.log10(last * 2)), Math.floor(Math.log10(first)) + 5);
        const low = 10 ** Math.min(Math.floor(Math.log10(first)) - 1, Math.round(Math.log10(high)) - 4);
        stripFor = subject;
        strip.setRate(rateOf(chosen()));
        strip.setRange(low, high);
      }
      const [low, high] = strip.range;
      const found = await ask(low, high, NO_LINE_SEARCH_RATES);
      if (gone) return;
      strip.setData({ ...found.arrays, bound: found.bound, start: found.start });
      lab.report(id, { rates_unknown: null, rates: { bound: found.bound, low, high, kinds: [...found.arrays.kind], lr: [...found.arrays.lr] } });
    } catch (error) {
      if (gone) return;
      if (!(error instanceof Refused)) { unlessSuperseded(error); return; }
      stripFor = "";
      // what is wrong with the function or the start, the verdict says
      strip.setUnknown(["internal", "limit"].includes(error.code) ? error.message : "");
      lab.report(id, { rates: null, rates_unknown: { code: error.code, message: error.message } });
    }
  }

  async function narrate() {
    if (own().panel !== "step") { if (step) { step = null; field.setTime(own().t); } return; }
    const run = runs[own().chosen];
    const t = Math.min(own().t ?? 0, Math.max(0, (run?.nit ?? own().max_steps) - 1));
    try { step = await lab.ask("descent.step", "step", { ...one(), t }); } catch (error) {
      step = null;
      narration.render(null, "");
      if (!(error instanceof Refused)) unlessSuperseded(error);
      return;
    }
    if (gone) return;
    narration.render(step, labelsOf(own().optimizers)[own().chosen], magnified(step, field));
    field.setTime(own().t);
    lab.report(id, { step: { t: step.t, x: step.x, g: step.g, x_next: step.x_next, terms: step.terms } });
  }
  field.setExtra((c, api) => { paintBox(c, api, own().bounds); partials.paint(c, api); if (step && own().panel === "step") paintStep(c, api, step, narration.lit); });

  async function findRate() {
    findButton.setAttribute("aria-busy", "true");
    try {
      const found = await lab.ask("descent.find", "find_lr", { function: own().function, x0: own().x0, optimizer: plainOptimizer(chosen()), bounds: own().bounds, seed: own().seed });
      if (gone) return;
      lab.report(id, { found: { lr: found.lr, low: found.low, high: found.high, nfev: found.nfev } });
      setChosen({ ...chosen(), lr: Number(found.lr.toPrecision(4)) });
      lab.announce(lab.t("descent.found_rate", { lr: written(found.lr), nfev: written(found.nfev) }));
    } catch (error) { refused(error); } finally { findButton.removeAttribute("aria-busy"); }
  }

  // -- following the state ---------------------------------------------------------------------------------------------

  function showState() {
    const s = own();
    field.setStart(s.x0);
    surface.setStart(s.x0);
    field.setTime(s.t);
    surface.setTime(s.t);
    player.set({ t: s.t ?? total(), total: total() });
    if (player.buttons) player.setSpeed(s.speed);
    curves.setCursor(s.t);
    viewChoice.set(s.view);
    surface.show(s.view === "surface");
    requestArrows();
    partials.update();
    bound.update();
    x0.forEach((n, i) => n.set(s.x0[i]));
    boxRow.hidden = !s.bounds;
    if (s.bounds) {
      const [first, second] = s.bounds.map((ends) => `[${written(ends[0] ?? -Infinity)}, ${written(ends[1] ?? Infinity)}]`);
      lab.say(box, "descent.bounds", { first, second });
    }
    steps.set(s.max_steps);
    gtol.set(s.gtol);
    picker.set();
    list.update(runs);
    hyper.update();
    const lr = rateOf(chosen());
    lab.say(hyperSection.element.querySelector("h2"), "descent.hyperparameters_of", { name: labelsOf(s.optimizers)[s.chosen] ?? "" });
    findButton.hidden = !!entryOf(lab, chosen())?.searches;
    if (lr) { rateNumber.set(lr); strip.setRate(lr); }
    race.update();
    if (panels.value !== s.panel) panels.set(s.panel);
    lab.report(id, { rate: lr ?? null, chosen: chosen().name });
  }

  function showWindow() {
    const problem = problems.get(own().function.problem ?? "");
    field.setHome(problem?.window ?? [[-10, 10], [-10, 10]]);
    field.setWindow(own().window ?? problem?.window ?? [[-10, 10], [-10, 10]], { keepHome: true });
    field.setMinima(problem ? problem.minima.map((m) => m.x) : []);
    requestGround();
  }

  const COMPUTED = ["function", "x0", "optimizers", "max_steps", "gtol", "seed", "bounds"];
  const stop = lab.store.subscribe((_, how) => {
    if (gone || how.settled) return;
    if (how.group && how.group !== "descent") return;
    const changed = how.changed ?? Object.keys(schema);
    const only = (...names) => changed.every((k) => names.includes(k));
    if (only("t")) {
      field.setTime(own().t);
      surface.setTime(own().t);
      curves.setCursor(own().t);
      if (!player.playing) player.set({ t: own().t ?? total() });
      if (own().panel === "step") narrate();
      return;
    }
    if (only("draft", "speed")) return;
    if (only("x0")) {
      // at each move of the pointer: nothing but what moves
      field.setStart(own().x0);
      surface.setStart(own().x0);
      x0.forEach((n, i) => n.set(own().x0[i]));
      partials.ask();
      descend();
      afterRest();
      return;
    }
    if (changed.includes("function")) { stripFor = ""; showWindow(); }
    else if (changed.includes("window") && !same(own().window, field.seen())) showWindow();
    showState();
    if (changed.some((k) => COMPUTED.includes(k))) { descend(); afterRest(); }
    else if (changed.includes("chosen")) { showChosen(); afterRest(); }
    else if (changed.includes("bound")) { drawCurves(); bound.ask(); }
    else if (changed.includes("panel")) { narrate(); share.update(own().panel === "share"); }
  });
  const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
  function showChosen() { if (runs.some(Boolean)) descend(); }

  showWindow();
  showState();
  descend();
  resting = window.setTimeout(() => { judge(); sweep(); narrate(); bound.ask(); share.update(own().panel === "share"); }, 30);

  return {
    unmount() {
      gone = true;
      clearTimeout(resting);
      player.setPlaying(false);
      stop();
      field.destroy();
      surface.destroy();
      curves.destroy();
      partials.destroy();
      bound.destroy();
      strip.destroy();
    },
    onLanguage() { judge(); picker.onLanguage(); bound.onLanguage(); partials.update(); strip.redraw(); curves.redraw(); field.redraw(); },
    onTheme() { field.redraw(); surface.redraw(); curves.redraw(); strip.redraw(); partials.onTheme(); bound.onTheme(); },
    controls: {
      function: picker.element, optimizers: list.element, hyperparameters: hyperSection.element, rate, start: startSection.element,
      panels: panels.element, verdict, transport: player.element, view: viewChoice.element, strip: strip.element,
      find: findButton, rate_number: rateNumber.element.parentElement, hyper: hyper.element, x0: x0[0].element.parentElement, max_steps: steps.element, gtol: gtol.element,
      partials: partials.element, bound: bound.element, arrows: arrowSwitch,
      curves: curves.element, step: stepPanel, race: racePanel, share: sharePanel,
    },
  };
}

export default { id, schema, mount };
