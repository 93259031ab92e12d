// @ts-check
// The gradient at the start, variable by variable: f along each while the other is held, with its tangent there.

import { Refused, unlessSuperseded } from "./connection.js";
import { arrow } from "./field.js";
import { css } from "./marks.js";
import { digits, makePlane } from "./plane.js";
import { choice, el, section } from "./widgets.js";

const SUB = "₀₁";

/**
 * get(): {function, x0, hold, arrows}; set(values); seen(): the window of the field.
 * @param {{lab: any, get: () => any, set: (values: any) => void, seen: () => number[][], redraw: () => void}} options
 */
export function createPartials({ lab, get, set, seen, redraw }) {
  let found = /** @type {any} */ (null);
  const hold = choice({
    label: "descent.hold", value: held(get().hold),
    options: [{ value: "none", label: "descent.hold_none" }, { value: "1", label: "descent.hold_1" }, { value: "0", label: "descent.hold_0" }],
    onChange: (v) => set({ hold: v === "none" ? null : Number(v) }),
  });
  const values = [0, 1].map(() => el("b", { class: "partial" }));
  const planes = [0, 1].map((k) => makePlane({
    draw: (c, p) => draw(c, p, k), label: { text: `f(x${SUB[k]})` }, xName: () => `x${SUB[k]}`, yName: () => "f", pad: [14, 12, 28, 44], className: "calm",
  }));
  const notes = [0, 1].map(() => el("span", { class: "hint", t: "descent.held" }));
  const parts = [0, 1].map((k) => el("div", { class: "slice" },
    el("p", { class: "slice-head" }, el("span", { class: "math" }, `∂f/∂x${SUB[k]}`), notes[k], values[k]), el("div", { class: "slice-plane" }, planes[k].element)));
  const made = section("descent.partials", hold.element, ...parts);
  made.element.hidden = true;

  function held(v) { return v === null ? "none" : String(v); }

  function draw(c, p, k) {
    if (!found) return;
    const x = found.arrays[`at.${k}`], f = found.arrays[`f.${k}`];
    c.strokeStyle = p.colors.soft;
    c.lineWidth = 2;
    c.beginPath();
    let pen = false;
    for (let i = 0; i < x.length; i++) {
      if (!Number.isFinite(f[i])) { pen = false; continue; }
      if (pen) c.lineTo(p.px(x[i]), p.py(f[i])); else c.moveTo(p.px(x[i]), p.py(f[i]));
      pen = true;
    }
    c.stroke();
    const at = found.x[k], slope = found.g[k];
    const half = (p.x.high - p.x.low) / 5;
    c.strokeStyle = p.colors.accent;
    c.lineWidth = 2;
    c.beginPath();
    c.moveTo(p.px(at - half), p.py(found.f - half * slope));
    c.lineTo(p.px(at + half), p.py(found.f + half * slope));
    c.stroke();
    c.fillStyle = p.colors.accent;
    c.beginPath();
    c.arc(p.px(at), p.py(found.f), 5, 0, 7);
    c.fill();
    c.strokeStyle = p.colors.ground;
    c.lineWidth = 1.5;
    c.stroke();
  }

  /** Ask for what belongs to the start of now. */
  async function ask() {
    if (made.element.hidden) return;
    try {
      const { function: f, x0 } = get();
      const answer = await lab.ask("descent.partials", "partials", { function: f, x: x0, window: seen() });
      if (made.element.isConnected) take(answer);
    } catch (error) { if (!(error instanceof Refused)) unlessSuperseded(error); }
  }
  function take(answer) {
    found = answer;
    [0, 1].forEach((k) => {
      values[k].textContent = digits(answer.g[k]);
      const f = [...answer.arrays[`f.${k}`]].filter(Number.isFinite);
      const low = Math.min(answer.f, ...f), high = Math.max(answer.f, ...f), room = (high - low || 1) * 0.1;
      const x = answer.arrays[`at.${k}`];
      planes[k].view({ low: x[0], high: x[x.length - 1] }, { low: low - room, high: high + room });
    });
    lab.report("descent", { partials: { x: answer.x, f: answer.f, g: answer.g, numerical: answer.numerical, function: get().function } });
    redraw();
  }

  /** Show the panel where it belongs, and follow the start. */
  function update() {
    const s = get();
    made.element.hidden = !s.arrows && s.hold === null;
    hold.set(held(s.hold));
    notes.forEach((n, k) => { n.hidden = s.hold !== k; parts[k].lastElementChild?.classList.toggle("stale", s.hold === k); });
    if (made.element.hidden) { found = null; lab.report("descent", { partials: null }); } else ask();
    planes.forEach((p) => p.redraw());
  }

  /** The line on which a held start moves, and the gradient as an arrow uphill and one downhill. */
  function paint(c, field) {
    const { hold: h, x0 } = get();
    const [w, height] = field.size;
    const x = field.X(x0[0]), y = field.Y(x0[1]);
    if (h !== null) {
      c.strokeStyle = css("--accent");
      c.lineWidth = 1.5;
      c.setLineDash([5, 5]);
      c.beginPath();
      if (h === 1) { c.moveTo(0, y); c.lineTo(w, y); } else { c.moveTo(x, 0); c.lineTo(x, height); }
      c.stroke();
      c.setLineDash([]);
    }
    if (!found || !get().arrows) return;
    const dx = field.X(found.x[0] + found.g[0]) - field.X(found.x[0]), dy = field.Y(found.x[1] + found.g[1]) - field.Y(found.x[1]);
    const long = Math.hypot(dx, dy);
    if (!(long > 0) || !Number.isFinite(long)) return;
    const k = 92 / long, fx = field.X(found.x[0]), fy = field.Y(found.x[1]);
    arrow(c, fx, fy, fx - dx * k, fy - dy * k, { color: css("--arrow-step"), casing: css("--raised"), width: 3 });
    arrow(c, fx, fy, fx + dx * k, fy + dy * k, { color: css("--arrow-gradient"), casing: css("--raised"), width: 3 });
    label(c, "∇f", fx + dx * k * 1.16, fy + dy * k * 1.16);
    label(c, "−∇f", fx - dx * k * 1.18, fy - dy * k * 1.18);
  }
  function label(c, text, x, y) {
    c.font = `600 13px ${css("--sans")}`;
    c.textAlign = "center";
    c.textBaseline = "middle";
    c.lineWidth = 4;
    c.strokeStyle = css("--raised");
    c.lineJoin = "round";
    c.strokeText(text, x, y);
    c.fillStyle = css("--ink");
    c.fillText(text, x, y);
  }

  return {
    element: made.element, update, ask, paint,
    onTheme() { planes.forEach((p) => p.onTheme()); },
    destroy() { planes.forEach((p) => p.destroy()); },
  };
}

/** Where a start may be while one variable is held: the other one, on a grid that a hand can hit. */
export function heldAt(x, before, hold, scale) {
  if (hold === null) return x;
  const raw = 5 / scale[1 - hold], power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= raw * 0.999) ?? raw;
  const out = [...before];
  out[1 - hold] = Number((Math.round(x[1 - hold] / step) * step).toPrecision(12));
  return out;
}
