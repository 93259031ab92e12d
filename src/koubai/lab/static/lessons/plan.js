// @ts-check
// What the lessons are made of: where each step begins, what it leaves on the page, when it is done, which numbers it
// shows. The words are in the catalogues, under lessons.ID.sN; the numbers are the engine's, from `shown`.

import { digits } from "../plane.js";
import { number, percent } from "../text.js";

/** A vector as it is written in an article: eight decimals, as NumPy prints. */
const printed = (x) => `(${x.map((v) => (Math.abs(v) >= 1e-4 && Math.abs(v) < 1e6 ? trim(v.toFixed(8)) : number(v, 9))).join(", ")})`.replaceAll("-", "−");
const trim = (s) => s.replace(/0+$/, "").replace(/\.$/, "");
const point = (x, n = 4) => `(${x.map((v) => number(v, n)).join(", ")})`;
const off = (v) => (v === 0 ? "0" : v >= 1e-3 ? number(v, 2) : v.toExponential(1).replace("-", "−"));

const far = (a, b) => Math.hypot(...a.map((v, i) => v - b[i]));
const near = (a, b, within) => Math.abs(a - b) <= within;
const rateOf = (s) => s.descent.optimizers[s.descent.chosen]?.lr;
/** The descents that belong to the state of now, null while they are on their way. */
const descents = (s) => (s.shown.descent.pending === false && s.shown.descent.runs?.length ? s.shown.descent.runs : null);
const first = (s) => descents(s)?.[0] ?? null;
const walked = (s) => (s.shown.derivative.pending === false ? s.shown.derivative.run ?? null : null);
/** The differences that belong to the x and h of now. */
const differences = (s) => {
  const d = s.shown.derivative;
  return d.x === s.derivative.x && d.h === s.derivative.h ? d : null;
};
const partials = (s) => {
  const p = s.shown.descent.partials;
  return p && far(p.x, s.descent.x0) === 0 && JSON.stringify(p.function) === JSON.stringify(s.descent.function) ? p : null;
};
const theory = (s) => {
  const t = s.shown.descent.theory;
  return t && descents(s) && t.lr === rateOf(s) ? t : null;
};
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const degrees = (a, b) => {
  const c = (a[0] * b[0] + a[1] * b[1]) / (Math.hypot(...a) * Math.hypot(...b));
  return (180 / Math.PI) * Math.acos(Math.min(1, Math.max(-1, c)));
};
/** Between downhill and the way to where the descent ends. */
const astray = (s) => {
  const p = partials(s), end = first(s)?.x;
  if (!p || !end || !(far(end, p.x) > 0)) return null;
  return degrees(p.g.map((g) => -g), end.map((v, i) => v - p.x[i]));
};

const sgd = (lr) => [{ name: "SGD", lr }];
const ownFunction = (room) => (s, m) => !same(s[room].function, m.begun[room].function) && !s.shown[room].complaint;

/**
 * room: where the lesson is; a step may have another. base: what each room is set to; set: what a step adds to that.
 * show: the controls that stay, by the names that the room gives them, or "all". see(s): the numbers of the text
 * lessons.ID.sN.see, null while they are not there. done(s, m): m.begun is the state at the step's beginning.
 * clear: what was shown before and must not be taken for this step's. open: a selector of details to open.
 */
export const LESSONS = [
  {
    id: "slope", room: "derivative",
    base: { derivative: { function: { expression: "x**3" }, window: [0, 16], tab: "slope", x: 10, h: 5, method: "forward" } },
    steps: [
      {
        show: ["h"],
        see: (s) => { const d = differences(s); return d && { h: number(d.h), value: digits(d.forward) }; },
        done: (s) => differences(s) !== null && s.derivative.h <= 0.0105,
      },
      {
        set: { h: 0.01, method: "central" }, show: ["h", "values"],
        see: (s) => { const d = differences(s); return d && { h: number(d.h), value: digits(d.central), off: off(Math.abs(d.central - d.exact)) }; },
        done: (s) => differences(s) !== null && s.derivative.h === 1e-4,
      },
      {
        set: { h: 1e-4, method: "central", window: [-12, 12] }, show: ["x"],
        see: (s) => { const d = differences(s); return d && { x: number(d.x), value: digits(d.exact) }; },
        done: (s) => differences(s) !== null && Math.abs(s.derivative.x) <= 0.3,
      },
      { own: true, done: ownFunction("derivative") },
    ],
  },
  {
    id: "rounding", room: "derivative",
    base: { derivative: { function: { expression: "x**2" }, window: [-1, 5], tab: "slope", x: 2, h: 0.1, method: "forward" } },
    steps: [
      {
        show: ["h", "values"],
        see: (s) => { const d = differences(s); return d && { forward: digits(d.forward), backward: digits(d.backward), central: digits(d.central) }; },
        done: (s) => differences(s) !== null && s.derivative.h === 1e-4,
      },
      {
        set: { h: 1e-4 }, show: ["h", "values", "verdict"],
        see: (s) => { const d = differences(s); return d && { h: number(d.h), forward: digits(d.forward) }; },
        done: (s) => differences(s)?.forward === 0 && s.derivative.h <= 1e-50,
      },
      {
        set: { h: 1 }, show: ["h", "vee", "verdict"],
        see: (s) => { const d = differences(s); return d && { h: number(d.h), off: off(Math.abs(d.forward - d.exact)) }; },
        done: (s) => differences(s) !== null && s.shown.derivative.regime === "bottom",
      },
      {
        set: { h: 1e-8 }, show: ["x", "values"],
        see: (s) => { const d = differences(s); return d && { value: digits(d.adaptive), error: off(d.adaptive_error), off: off(Math.abs(d.adaptive - d.exact)), n: d.adaptive_nfev }; },
        done: (s) => differences(s) !== null && s.derivative.x !== 2,
      },
      { own: true, done: ownFunction("derivative") },
    ],
  },
  {
    id: "gradient", room: "descent",
    base: { descent: { function: { expression: "x0**2 + x1**2" }, window: [[-6, 6], [-5, 5]], x0: [3, 4], optimizers: sgd(0.4), max_steps: 0, gtol: 0 } },
    steps: [
      {
        set: { x0: [1, 4], hold: 1 }, show: ["partials", "x0"],
        see: (s) => { const p = partials(s); return p && { x: point(p.x), value: digits(p.g[0]) }; },
        done: (s) => partials(s) !== null && near(s.descent.x0[0], 3, 0.026) && s.descent.x0[1] === 4,
      },
      {
        set: { x0: [3, 1], hold: 0 }, show: ["partials", "x0"],
        see: (s) => { const p = partials(s); return p && { x: point(p.x), a: digits(p.g[0]), b: digits(p.g[1]) }; },
        done: (s) => partials(s) !== null && near(s.descent.x0[1], 4, 0.026) && s.descent.x0[0] === 3,
      },
      {
        set: { x0: [3, 4] }, show: ["partials", "arrows"],
        see: (s) => { const p = partials(s); return p && { x: point(p.x), g: point(p.g) }; },
        done: (s, m) => s.descent.arrows && partials(s) !== null && far(s.descent.x0, m.begun.descent.x0) > 1,
      },
      {
        set: { x0: [-4, 1.5], arrows: true, max_steps: 400 }, show: ["function", "partials"],
        see: (s) => { const a = astray(s); return a === null ? null : { angle: number(Math.round(a * 10) / 10) }; },
        done: (s, m) => !same(s.descent.function, m.begun.descent.function) && (astray(s) ?? 0) > 5,
      },
      { own: true, keep: { hold: null, arrows: true, max_steps: 100 }, done: (s, m) => ownFunction("descent")(s, m) && partials(s) !== null },
    ],
  },
  {
    id: "walking", room: "derivative",
    base: {
      derivative: {
        function: { expression: "(x - 1)**2" }, window: [-4, 6], tab: "descent", x0: -1.4761195622774732,
        optimizer: { name: "SGD", lr: 0.1 }, max_steps: 60, gtol: 0, t: 0,
      },
      descent: {
        function: { expression: "(x0 - 1)**2 + (x1 - 2)**2" }, window: [[-3.5, 4.5], [-1, 4]], x0: [0, 0], optimizers: sgd(0.1), max_steps: 20, gtol: 0, t: 0, speed: 10,
      },
    },
    steps: [
      {
        show: ["transport", "update"],
        see: (s) => { const p = s.shown.derivative.step; return p && { t: p.t, next: p.t + 1, x: digits(p.x), g: digits(p.g), to: digits(p.x_next) }; },
        done: (s) => s.shown.derivative.step?.t >= 3,
      },
      {
        set: { t: 60 }, show: ["gtol", "transport"],
        see: (s) => { const r = walked(s); return r && { n: r.nit, x: digits(r.x) }; },
        done: (s) => s.derivative.gtol === 0.1 && walked(s)?.status === "converged",
      },
      {
        room: "descent", show: ["transport", "curves"],
        see: (s) => { const r = first(s); return r && (s.descent.t ?? r.nit) >= r.nit ? { n: r.nit, x: printed(r.x) } : null; },
        done: (s) => (s.descent.t === null || s.descent.t >= 20) && first(s) !== null,
      },
      {
        room: "descent", set: { window: [[-10, 10], [-10, 10]], max_steps: 100, t: null }, show: ["x0"],
        see: (s) => { const r = first(s); return r && { start: point(s.descent.x0), x: printed(r.x) }; },
        done: (s, m) => first(s) !== null && far(s.descent.x0, m.begun.descent.x0) > 3,
      },
      { room: "descent", own: true, done: ownFunction("descent") },
    ],
  },
  {
    id: "rate", room: "descent",
    base: { descent: { function: { expression: "x0**2 + x1**2" }, window: [[-6, 6], [-5, 5]], x0: [-3, 4], optimizers: sgd(0.1), max_steps: 100, gtol: 0 } },
    steps: [
      {
        show: ["rate_number", "verdict"],
        see: (s) => { const r = first(s); return r && { rate: number(rateOf(s)), n: r.nit, x: printed(r.x) }; },
        done: (s) => rateOf(s) === 10 && first(s)?.status === "diverged",
      },
      {
        show: ["rate_number", "verdict"],
        see: (s) => { const r = first(s); return r && { rate: number(rateOf(s)), n: r.nit, x: printed(r.x) }; },
        done: (s) => rateOf(s) === 1e-10 && first(s) !== null,
      },
      {
        show: ["rate"],
        see: (s) => { const b = s.shown.descent.rates?.bound; return b > 0 && near(rateOf(s), b, 0.1 * b) ? { rate: number(rateOf(s)), bound: number(b), curvature: number(2 / b) } : null; },
        done: (s) => first(s) !== null && near(rateOf(s), 1, 0.1),
      },
      {
        show: ["rate", "find"], clear: ["found"],
        see: (s) => { const f = s.shown.descent.found; return f && { rate: number(f.lr), n: f.nfev }; },
        done: (s) => !!s.shown.descent.found,
      },
      { own: true, done: ownFunction("descent") },
    ],
  },
  {
    id: "valleys", room: "derivative",
    base: {
      derivative: { function: { expression: "x**2/8 + sin(2*x)" }, window: [-6, 6], tab: "descent", x0: 4.6, optimizer: { name: "SGD", lr: 0.1 }, max_steps: 200, gtol: 1e-6, t: 200 },
      basins: { function: { problem: "himmelblau" }, window: [[-6, 6], [-6, 6]], optimizer: { name: "SGD", lr: 0.01 }, steps: 200, x0: [-0.5, -0.5] },
    },
    steps: [
      {
        show: ["start", "lowest", "places"],
        see: (s) => { const r = walked(s), d = s.shown.derivative; return r?.x != null && d.minima ? { x: number(r.x), f: number(r.fun), share: percent(d.lowest) } : null; },
        done: (s) => { const r = walked(s), low = s.shown.derivative.minima?.[0]; return !!r && !!low && near(r.x, low.x, 0.01); },
      },
      {
        set: { function: { expression: "x**4 - 2*x**2 + x/2" }, window: [-2, 2], x0: 1.8, optimizer: { name: "SGD", lr: 0.05 } }, show: ["optimizer_rate", "verdict"],
        see: (s) => { const r = walked(s); return r?.x != null ? { rate: number(s.derivative.optimizer.lr), x: number(r.x), f: number(r.fun) } : null; },
        done: (s) => { const r = walked(s); return r?.status === "converged" && r.x < 0; },
      },
      {
        set: { function: { expression: "x**4 - 2*x**2 + x/2" }, window: [-2, 2], x0: 1.5, optimizer: { name: "SGD", lr: 0.18 } }, show: ["optimizer_rate", "verdict"],
        see: (s) => { const r = walked(s); return r?.x != null ? { rate: number(s.derivative.optimizer.lr), n: r.nit, x: number(r.x) } : null; },
        done: (s) => { const r = walked(s); return !!r && r.status !== "converged" && s.derivative.optimizer.lr > 0.18; },
      },
      {
        room: "basins", show: ["shares", "verdict"],
        see: (s) => { const p = s.shown.basins.path; return p && same(p.x0, s.basins.x0) ? { start: point(p.x0, 3), end: point(p.x, 4) } : null; },
        done: (s, m) => {
          const p = s.shown.basins.path;
          if (!p || !same(p.x0, s.basins.x0)) return false;
          if (same(p.x0, m.begun.basins.x0)) m.end = p.x;
          return !!m.end && p.status === "converged" && far(p.x, m.end) > 1;
        },
      },
      { room: "basins", own: true, done: ownFunction("basins") },
    ],
  },
  {
    id: "walkers", room: "descent",
    base: {
      descent: {
        function: { expression: "x0**2/20 + x1**2" }, window: [[-8.5, 4.5], [-4, 4]], x0: [-7, 2], max_steps: 30, gtol: 0,
        optimizers: [{ name: "SGD", lr: 0.95 }, { name: "Momentum", lr: 0.1 }, { name: "Adagrad", lr: 1.5 }, { name: "RMSprop", lr: 0.3 }, { name: "Adam", lr: 0.3 }],
      },
    },
    steps: [
      {
        set: { optimizers: [{ name: "SGD", lr: 0.95 }, { name: "Momentum", lr: 0.1, off: true }, { name: "Adagrad", lr: 1.5, off: true }, { name: "RMSprop", lr: 0.3, off: true }, { name: "Adam", lr: 0.3, off: true }] },
        show: ["optimizers"],
        see: (s) => { const r = descents(s); return r && { n: s.descent.max_steps, list: r.map((o) => `${o.name} ${number(o.fun, 3)}`).join(" · ") }; },
        done: (s) => s.descent.optimizers.every((o) => !o.off) && (descents(s)?.length ?? 0) >= 5,
      },
      {
        set: {
          chosen: 4, panel: "step", t: 0,
          optimizers: [{ name: "SGD", lr: 0.95, off: true }, { name: "Momentum", lr: 0.1, off: true }, { name: "Adagrad", lr: 1.5, off: true }, { name: "RMSprop", lr: 0.3, off: true }, { name: "Adam", lr: 0.3 }],
        },
        show: ["transport", "step"],
        see: (s) => {
          const p = s.shown.descent.step;
          return p && { t: p.t, next: p.t + 1, g: point(p.g, 3), dx: point(p.x_next.map((v, i) => v - p.x[i]), 3) };
        },
        done: (s) => s.descent.t >= 2 && s.shown.descent.step?.t >= 2,
      },
      {
        set: { panel: "race", budget: 100, max_steps: 100 }, show: ["race"], clear: ["race"],
        see: (s) => { const r = s.shown.descent.race; return r && { budget: r.budget, name: r.winner ?? "–" }; },
        done: (s) => !!s.shown.descent.race,
      },
      {
        set: { optimizers: [{ name: "RMSprop", lr: 0.1 }, { name: "RMSprop", lr: 0.1 }], chosen: 1, max_steps: 60 }, show: ["optimizers", "hyper"], open: ".more",
        see: (s) => { const r = descents(s); return r?.length === 2 ? { a: printed(r[0].x), b: printed(r[1].x) } : null; },
        done: (s) => s.descent.optimizers.some((o) => o.semantics === "keras") && descents(s) !== null,
      },
      {
        own: true,
        keep: {
          chosen: 0, max_steps: 100, panel: "curves", t: null,
          optimizers: [
            { name: "SGD", lr: 0.95, semantics: "keras" }, { name: "RMSprop", lr: 0.3, semantics: "keras" }, { name: "Adam", lr: 0.3, semantics: "keras" },
            { name: "AdamW", lr: 0.3, semantics: "keras" }, { name: "Adadelta", lr: 10, semantics: "keras" }, { name: "Adagrad", lr: 1.5, semantics: "keras" },
            { name: "Adamax", lr: 0.5, semantics: "keras" }, { name: "NAdam", lr: 0.3, semantics: "keras" }, { name: "Ftrl", lr: 1.5, semantics: "keras" },
          ],
        },
        done: ownFunction("descent"),
      },
    ],
  },
  {
    id: "network", room: "network",
    base: {
      descent: { function: { expression: "(x0 + x1)**2" }, window: [[-5, 5], [-4, 4]], x0: [1, 2], optimizers: sgd(0.1), max_steps: 0, gtol: 0, arrows: true },
      network: { layers: [8, 8], epoch: 0 },
    },
    steps: [
      {
        room: "descent", show: ["partials"],
        see: (s) => { const p = partials(s); return p && { sum: number(p.x[0] + p.x[1]), a: digits(p.g[0]), b: digits(p.g[1]) }; },
        done: (s, m) => partials(s) !== null && far(s.descent.x0, m.begun.descent.x0) > 0.5,
      },
      {
        set: { source: "drawn", points: [[0.6, 0.9, 2]], layers: [], optimizer: { name: "SGD", lr: 0.1 }, batch_size: 1, validation: 0, tab: "check" },
        show: ["check", "diagram"], clear: ["check"],
        see: (s) => { const c = s.shown.network.check; return c && { off: off(c.largest), a: c.backprop, b: c.numerical, n: c.parameters }; },
        done: (s) => s.shown.network.check?.agrees === true,
      },
      {
        show: ["transport", "diagram", "chart"],
        see: (s) => { const n = s.shown.network; return n.epoch > 0 ? { epoch: n.epoch, loss: number(n.loss), share: percent(n.score) } : null; },
        done: (s) => s.network.epoch >= 10 && s.network.unit !== null,
      },
      {
        set: { layers: [8, 8, 8, 8], chart: "gradient", epoch: 5, tab: "layers" }, show: ["activation", "chart"],
        see: (s) => {
          const g = s.shown.network.grad;
          return g?.length > 1 && s.shown.network.activation === s.network.activation ? { a: number(g[0], 3), b: number(g[g.length - 1], 3), ratio: number(g[g.length - 1] / g[0], 2) } : null;
        },
        done: (s) => s.network.activation === "sigmoid" && s.shown.network.activation === "sigmoid",
      },
      { own: true, keep: { tab: "data" }, done: (s, m) => ["source", "layers", "points", "csv", "n"].some((k) => !same(s.network[k], m.begun.network[k])) },
    ],
  },
  {
    id: "converge", room: "descent",
    base: {
      descent: { function: { expression: "x0**2/20 + x1**2" }, window: [[-8.5, 4.5], [-4, 4]], x0: [-7, 2], optimizers: sgd(0.3), max_steps: 100, gtol: 0, panel: "curves" },
    },
    steps: [
      {
        show: ["curves", "bound"], clear: ["theory"],
        see: (s) => { const t = theory(s); return t && { n: t.steps, gain: number(t.gain), L: number(t.L) }; },
        done: (s) => s.descent.bound && theory(s) !== null,
      },
      {
        set: { bound: true }, show: ["rate_number", "curves", "bound"],
        see: (s) => { const t = theory(s); return t && { rate: number(t.lr), measured: number(t.measured), factor: t.factor === null ? "–" : number(t.factor), classic: number(t.classic) }; },
        done: (s) => near(rateOf(s), 0.5, 0.02) && theory(s) !== null,
      },
      {
        set: { bound: true, optimizers: sgd(0.9) }, show: ["rate", "curves", "bound"],
        see: (s) => { const t = theory(s); return t && { rate: number(t.lr), bound: number(t.bound), gain: number(t.gain), measured: number(t.measured) }; },
        done: (s) => { const t = theory(s); return !!t && t.lr > t.bound && first(s)?.status === "diverged"; },
      },
      { own: true, done: ownFunction("descent") },
    ],
  },
];
