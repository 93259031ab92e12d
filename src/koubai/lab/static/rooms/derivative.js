// @ts-check
// The derivative bench: a curve, a secant that becomes the tangent, the V of the errors, and a descent in one dimension.

import { Refused, Superseded } from "../connection.js";
import { mark, swatch, traceShape } from "../marks.js";
import { optimizerControls } from "../optimizer.js";
import { digits, makePlane, trace, write } from "../plane.js";
import { createShare } from "../share.js";
import { is } from "../state.js";
import { number as written, percent } from "../text.js";
import { createFunctionPicker } from "../function.js";
import { el, logSlider, number, section, tabs, transport } from "../widgets.js";

const METHODS = ["forward", "backward", "central"];
const POINTS = 640;
const STARTS = 360;
const WINDOW = [-6, 6];

export const id = "derivative";

const aFunction = is.any(is.record({ problem: is.text(60) }), is.record({ expression: is.text(1000) }));
const positive = (v) => is.number(0, 1e300)(v) && v > 0;

export const schema = {
  draft: { default: "", check: is.text(1000) },
  function: { default: { expression: "x**2/8 + sin(2*x)" }, check: aFunction },
  window: { default: WINDOW, check: (v) => is.list(is.number(-1e12, 1e12), 2, 2)(v) && v[1] > v[0] },
  tab: { default: "slope", check: is.one("slope", "descent", "code") },
  x: { default: 1, check: is.number(-1e12, 1e12) },
  h: { default: 1, check: positive },
  method: { default: "forward", check: is.one(...METHODS) },
  x0: { default: 4.6, check: is.number(-1e12, 1e12) },
  optimizer: { default: { name: "SGD", lr: 0.1 }, check: (v) => is.flat(40)(v) && is.text(40)(v.name) && (v.lr === undefined || positive(v.lr)) },
  max_steps: { default: 60, check: is.integer(0, 5000) },
  gtol: { default: 0, check: is.number(0, 1e6) },
  t: { default: 60, check: is.integer(0, 5000) },
};

/** @param {HTMLElement} container @param {any} lab */
export function mount(container, lab) {
  const state = lab.state.derivative;
  const set = (values) => lab.store.set("derivative", values);
  const problems = lab.catalogue.problems.filter((p) => p.dimension === 1);
  const known = (f) => problems.find((p) => p.name === f.problem);
  const t = lab.t;

  // what the engine has answered last
  let curve = null; // {x, f, low, high}
  let found = null; // the differences at x with h
  let vee = null; // the errors
  let run = null; // the descent: {path, fun, t, summary}
  let valley = null;
  let narrated = null; // one step
  let gone = false;

  // -- the stage -----------------------------------------------------------------------------------------------------

  const field = makePlane({
    draw, label: "derivative.field", xName: () => "x", yName: () => "f(x)", pad: [46, 16, 30, 52],
    onView(x) {
      const span = x.high - x.low;
      if (span < 1e-9 * Math.max(1, Math.abs(x.low)) || span > 1e9) return;
      set({ window: [x.low, x.high] });
    },
  });
  const height = (x) => {
    if (!curve) return NaN;
    const u = (x - curve.x[0]) / (curve.x[curve.x.length - 1] - curve.x[0]) * (curve.x.length - 1);
    const i = Math.max(0, Math.min(curve.x.length - 2, Math.floor(u)));
    return u < -1 || u > curve.x.length ? NaN : curve.f[i] + (u - i) * (curve.f[i + 1] - curve.f[i]);
  };
  const inside = (x) => Math.min(state.window[1], Math.max(state.window[0], x));
  /** Round to what a pixel can tell, so that numbers are no longer than they mean. */
  const settle = (x) => {
    const pixel = (state.window[1] - state.window[0]) / Math.max(200, field.width);
    const unit = 10 ** Math.floor(Math.log10(pixel));
    return Number((Math.round(x / unit) * unit).toPrecision(12));
  };
  const exactHere = () => found && found.x === state.x && found.h === state.h;
  const sign = () => (state.method === "backward" ? -1 : 1);
  const heightOf = (x) => {
    if (exactHere()) for (const [px, py] of found.points) if (px === x) return py;
    return height(x);
  };
  const slopeTab = () => state.tab !== "descent";

  const handleX = field.handle({
    label: "derivative.handle_x", at: () => (slopeTab() ? { x: state.x, y: heightOf(state.x) } : null),
    onDrag: (x) => set({ x: settle(inside(x)) }),
    onKey: (way, far) => set({ x: settle(state.x + way * far * (state.window[1] - state.window[0]) / 240) }),
    text: () => `x = ${written(state.x)}`,
  });
  field.handle({
    label: "derivative.handle_h", kind: "small",
    at: () => (slopeTab() ? { x: state.x + sign() * state.h, y: heightOf(state.x + sign() * state.h) } : null),
    onDrag(x) {
      const least = (state.window[1] - state.window[0]) / 2000;
      const h = Math.max(least, sign() * (inside(x) - state.x));
      set({ h: Number(h.toPrecision(3)) });
    },
    onKey: (way, far) => set({ h: Number(Math.max(1e-300, state.h * 10 ** (sign() * way * far / 20)).toPrecision(3)) }),
    text: () => `h = ${written(state.h)}`,
  });
  field.handle({
    label: "derivative.handle_start", kind: "ball", at: () => (slopeTab() ? null : { x: state.x0, y: height(state.x0) }),
    onDrag: (x) => set({ x0: settle(inside(x)) }),
    onKey: (way, far) => set({ x0: settle(state.x0 + way * far * (state.window[1] - state.window[0]) / 240) }),
    text: () => `x₀ = ${written(state.x0)}`,
  });

  const tools = el("div", { class: "field-tools level" },
    tool("+", "shell.zoom_in", () => field.zoom(1 / 1.5)),
    tool("−", "shell.zoom_out", () => field.zoom(1.5)),
    tool("⤢", "shell.zoom_fit", fit));
  function tool(sign, key, click) {
    const b = el("button", { type: "button", tLabel: key, tTitle: key }, sign);
    b.addEventListener("click", click);
    return b;
  }
  function fit() {
    const p = known(state.function);
    set({ window: p ? [...p.window[0]] : [...WINDOW] });
  }

  const title = el("p", { class: "title" });
  const why = el("p", { class: "why" });
  const verdict = el("div", { class: "verdict", "data-kind": "mid" }, title, why);
  const play = transport({
    label: "derivative.steps", speed: 10,
    onSeek(step) { set({ t: step }); },
  });
  const under = el("div", { class: "under" }, play.element, verdict);
  const stage = el("div", { class: "stage" }, el("div", { class: "field" }, field.element, tools), under);

  // -- the controls --------------------------------------------------------------------------------------------------

  const typed = createFunctionPicker({
    lab, room: "derivative", dimension: 1, value: () => state.function, draft: () => state.draft,
    onDraft: (draft) => set({ draft }),
    onFunction(f, p) {
      if (p) {
        const [low, high] = p.window[0];
        set({ function: f, window: [low, high], x0: p.x0[0], x: Number((low + 0.62 * (high - low)).toPrecision(3)), h: Number(((high - low) / 8).toPrecision(1)) });
      } else set({ function: f });
    },
  });

  const atX = number({ label: "derivative.x", value: state.x, step: 0.1, digits: 12, onInput: (x) => set({ x }) });
  const atH = logSlider({ label: "derivative.h", value: state.h, low: 1e-17, high: 10, least: 1e-300, most: 1e6, onInput: (h) => set({ h }) });
  const rows = new Map();
  const body = el("tbody");
  for (const [i, name] of [...METHODS, "adaptive", "exact"].entries()) {
    const value = el("td", { class: "value" }), off = el("td");
    const label = i < 3 ? el("button", { type: "button", class: "pick" }, swatch(i), el("span", { t: `derivative.${name}` }))
      : el("span", { t: `derivative.${name}` });
    if (i < 3) {
      label.addEventListener("click", () => set({ method: name }));
      label.setAttribute("aria-pressed", String(name === state.method));
    }
    const row = el("tr", { class: name }, el("td", { class: "method" }, label), value, off);
    rows.set(name, { row, value, off, label });
    body.append(row);
  }
  const table = el("table", { class: "values" }, el("thead", {}, el("tr", {},
    el("th", { class: "method", t: "derivative.method", scope: "col" }), el("th", { t: "derivative.value", scope: "col" }), el("th", { t: "derivative.off", scope: "col" }))), body);

  const errorPlane = makePlane({
    draw: drawErrors, label: "derivative.vee", xName: () => "h", yName: () => t("derivative.error"), pad: [12, 12, 30, 46], className: "calm",
  });
  errorPlane.x.log = errorPlane.y.log = true;
  Object.assign(errorPlane.x, { low: 1e-17, high: 1 });
  Object.assign(errorPlane.y, { low: 1e-16, high: 10 });
  errorPlane.handle({
    label: "derivative.handle_vee",
    at: () => (vee && found ? { x: state.h, y: Math.max(errorPlane.y.low, Math.abs(found[state.method].value - found.exact) || 0) } : null),
    onDrag: (h) => set({ h: Number(Math.min(errorPlane.x.high, Math.max(errorPlane.x.low, h)).toPrecision(3)) }),
    onKey: (way, far) => set({ h: Number(Math.max(1e-300, state.h * 10 ** (way * far / 10)).toPrecision(3)) }),
    text: () => `h = ${written(state.h)}`,
  });
  const veeNote = el("p", { class: "hint" });

  const slopePanel = el("div", {}, atX.element, atH.element, el("div", { class: "scroll" }, table),
    el("h3", { class: "part", t: "derivative.vee_title" }), el("div", { class: "vee" }, errorPlane.element), veeNote);

  const walker = optimizerControls({
    lab, get: () => state.optimizer, set: (optimizer) => set({ optimizer }),
    filter: (o) => o.name !== "Muon" && o.name !== "LevenbergMarquardt", // for matrices, for sums of squares
  });
  const start = number({ label: "derivative.start", value: state.x0, step: 0.1, digits: 16, onInput: (x0) => set({ x0 }) });
  const most = number({ label: "derivative.max_steps", value: state.max_steps, low: 0, high: 5000, integer: true, onInput: (v) => set({ max_steps: v, t: v }) });
  const gtol = number({ label: "derivative.gtol", value: state.gtol, low: 0, high: 1e6, step: 0.01, onInput: (v) => set({ gtol: v }) });
  const sum = el("p", { class: "sum" });
  const numbers = new Map();
  const update = el("dl", { class: "update" });
  for (const name of ["x", "f(x)", "f′(x)", "x′"]) {
    const value = el("dd", {});
    value.style.margin = "0";
    update.append(el("div", {}, el("dt", {}, name), value));
    numbers.set(name, value);
  }
  const places = el("ul", { class: "places" });
  const lowest = el("p", {});
  const descentPanel = el("div", {}, walker.element, start.element, most.element, gtol.element,
    el("h3", { class: "part", t: "derivative.one_step" }), sum, update,
    el("h3", { class: "part", t: "derivative.valleys" }), lowest, places);

  const share = createShare({
    lab, room: id, snapshot: () => field.canvas,
    state: () => ({ function: state.function, x: state.x, h: state.h, x0: state.x0, optimizer: state.optimizer, max_steps: state.max_steps, gtol: state.gtol }),
  });
  const codePanel = share.element;

  const view = tabs({
    label: "derivative.tabs", value: state.tab,
    items: [
      { id: "slope", label: "derivative.tab_slope", panel: slopePanel },
      { id: "descent", label: "derivative.tab_descent", panel: descentPanel },
      { id: "code", label: "derivative.tab_code", panel: codePanel },
    ],
    onChange: (tab) => set({ tab }),
  });
  const controls = el("div", { class: "controls" }, typed.element, view.element);
  container.append(el("div", { class: "bench" }, stage, controls));

  // -- asking --------------------------------------------------------------------------------------------------------

  /** Ask, and do nothing with an answer that came too late; an error that the engine names is shown. */
  async function asked(view, name, args, take, refused = fail) {
    try {
      const answer = await lab.ask(`derivative.${view}`, name, args);
      if (!gone) take(answer);
    } catch (error) {
      if (error instanceof Superseded || gone) return;
      if (!(error instanceof Refused)) throw error;
      refused(error.message);
    }
  }
  function fail(message) {
    verdict.dataset.kind = "bad";
    title.textContent = t("derivative.refused");
    why.textContent = message;
  }

  function askCurve() {
    const [low, high] = state.window;
    asked("curve", "curve", { function: state.function, window: [low, high], count: POINTS }, (a) => {
      const f = a.arrays.f, xs = new Float64Array(f.length);
      for (let i = 0; i < xs.length; i++) xs[i] = low + (high - low) * i / (xs.length - 1);
      curve = { x: xs, f };
      fitHeight(a.low, a.high);
      lab.painted();
    });
  }
  /** The height of the window: all of f, but not a pole. */
  function fitHeight(low, high) {
    if (low === null || !curve) { Object.assign(field.y, { low: -1, high: 1 }); return; }
    const sorted = [...curve.f].filter(Number.isFinite).sort((a, b) => a - b);
    const at = (q) => sorted[Math.round(q * (sorted.length - 1))];
    let bottom = low, top = high;
    const core = at(0.97) - at(0.03);
    if (core > 0 && high - low > 30 * core) { bottom = at(0.03) - 0.5 * core; top = at(0.97) + 0.5 * core; }
    const room = (top - bottom) * 0.12 || Math.max(1e-12, Math.abs(top) * 0.1, 0.5);
    field.view({ low: state.window[0], high: state.window[1] }, { low: bottom - room * (state.tab === "descent" ? 1.6 : 1), high: top + room });
  }
  function askDifference() {
    const { x, h } = state;
    asked("difference", "difference", { function: state.function, x, h }, (a) => {
      found = { ...a, x, h };
      showDifference();
    });
  }
  let resting = 0;
  /** The V: with fewer steps h while x is moved, that the numbers beside it keep up, and with all of them at rest. */
  function askErrors(inMotion = false) {
    clearTimeout(resting);
    if (inMotion) resting = window.setTimeout(() => { if (!gone) askErrors(); }, 180);
    asked("errors", "errors", { function: state.function, x: state.x, count: inMotion ? 35 : 137 }, (a) => {
      vee = a;
      const all = METHODS.flatMap((m) => [...a.arrays[m]]).filter((v) => v > 0 && Number.isFinite(v));
      const top = Math.max(1e-12, ...all), bottom = Math.min(a.floor || 1e-17, a.adaptive.error || 1e-17, ...all);
      errorPlane.view({ low: a.arrays.h[0], high: a.arrays.h[a.arrays.h.length - 1] },
        { low: Math.max(1e-20, bottom / 6), high: top * 12 });
      showErrors();
    });
  }
  function askDescent() {
    const spec = { function: state.function, x0: [state.x0], optimizers: [state.optimizer], max_steps: state.max_steps, gtol: state.gtol, seed: 0 };
    asked("descent", "descend", spec, (a) => {
      const one = a.runs[0];
      run = { ...one, path: a.arrays["path.0"] ?? new Float32Array(), fs: a.arrays["fun.0"] ?? new Float32Array() };
      const total = Math.max(0, run.path.length - 1);
      if (state.t > total || play.t === undefined) play.set({ total, t: Math.min(state.t, total) });
      else play.set({ total, t: state.t });
      showDescent();
      askStepSoon();
    });
  }
  function askValleys() {
    asked("valleys", "valleys", { function: state.function, window: state.window, optimizer: state.optimizer, count: STARTS, steps: Math.max(1000, Math.min(2000, state.max_steps)) }, (a) => {
      valley = a;
      showValleys();
    });
  }
  let stepping = 0;
  /** The step of now in numbers: at once when one steps, at rest when the start is dragged. */
  function askStepSoon() { clearTimeout(stepping); stepping = window.setTimeout(() => { if (!gone) askStep(); }, 90); }
  function askStep() {
    if (!run || run.status === "failed") return;
    const step = Math.min(play.t, Math.max(0, (run.nit ?? 1) - 1));
    if (!run.nit) { narrated = null; showStep(); return; }
    asked("step", "step", { function: state.function, x0: [state.x0], optimizer: state.optimizer, t: step }, (a) => { narrated = a; showStep(); },
      () => { narrated = null; showStep(); }); // the descent of now is another one already
  }
  // -- showing -------------------------------------------------------------------------------------------------------

  function showDifference() {
    const exact = found.exact;
    for (const name of METHODS) {
      const { row, value, off, label } = rows.get(name);
      label.setAttribute("aria-pressed", String(name === state.method));
      value.textContent = digits(found[name].value);
      off.textContent = error(found[name].value - exact);
      row.classList.toggle("chosen", name === state.method);
    }
    rows.get("adaptive").value.textContent = digits(found.adaptive.value);
    rows.get("adaptive").off.textContent = `±${error(found.adaptive.error)}`;
    rows.get("exact").value.textContent = digits(exact);
    rows.get("exact").off.textContent = "";
    lab.report("derivative", {
      x: found.x, h: found.h, forward: found.forward.value, backward: found.backward.value, central: found.central.value,
      exact, adaptive: found.adaptive.value, adaptive_error: found.adaptive.error, adaptive_nfev: found.adaptive.nfev, rounds: found.rounds,
    });
    sayDifference();
    field.redraw();
    errorPlane.redraw();
  }
  /** Say the verdict to those who listen, when it has come to rest. */
  let speaking = 0;
  function speak() {
    clearTimeout(speaking);
    speaking = window.setTimeout(() => { if (!gone) lab.announce(`${title.textContent} ${why.textContent}`); }, 500);
  }
  const error = (v) => (v === 0 ? "0" : Number.isFinite(v) ? Math.abs(v).toExponential(1).replace("-", "−") : "–");

  /** One sentence on what h does here: too large, too small, or near the bottom of the V. */
  function sayDifference() {
    if (!found || state.tab === "descent") return;
    const value = found[state.method].value;
    let kind = "mid", key = "truncation";
    if (!Number.isFinite(value) || !Number.isFinite(found.exact)) { kind = "bad"; key = "not_finite"; }
    else if (found.adaptive.warnings.some((w) => /kink|jump/.test(w))) { kind = "mid"; key = "kink"; }
    else if (found.rounds) { kind = "bad"; key = "rounds"; }
    else {
      const best = vee?.best?.[state.method]?.h ?? (state.method === "central" ? 6e-6 : 1.5e-8) * Math.max(1, Math.abs(state.x));
      const relative = Math.abs(value - found.exact) / Math.max(Math.abs(found.exact), 1e-3);
      if (state.h < best / 30) { kind = "bad"; key = "rounding"; }
      else if (state.h <= best * 30) { kind = "good"; key = "bottom"; }
      else if (relative < 1e-3) { kind = "good"; key = "close"; }
    }
    verdict.dataset.kind = kind;
    title.textContent = t("derivative.title", { method: t(`derivative.${state.method}`), value: digits(value) });
    why.textContent = t(`derivative.says_${key}`, { h: written(state.h), off: error(value - found.exact), exact: written(found.exact, 6) });
    speak();
    lab.report("derivative", { regime: key });
  }
  function showErrors() {
    lab.report("derivative", { best: vee.best, stuck: vee.stuck });
    veeNote.textContent = t("derivative.vee_note", {
      method: t(`derivative.${state.method}`), best: written(vee.best[state.method].h, 2), error: error(vee.best[state.method].error),
      value: digits(vee.adaptive.value), off: error(vee.adaptive.error), n: vee.adaptive.nfev,
    });
    sayDifference();
    errorPlane.redraw();
  }
  function showDescent() {
    const good = run.success || run.status === "max_steps";
    if (!slopeTab()) {
      verdict.dataset.kind = run.status === "diverged" || run.status === "nonfinite" || run.status === "failed" ? "bad" : run.success ? "good" : "mid";
      title.textContent = run.x ? t("derivative.ended", { x: digits(run.x[0]), f: written(run.fun, 6), n: run.nit }) : t("derivative.refused");
      why.textContent = run.x ? t(`derivative.status_${run.status}`, { n: run.nit }) : run.message;
      speak();
    }
    lab.report("derivative", { run: { status: run.status, x: run.x?.[0] ?? null, fun: run.fun ?? null, nit: run.nit ?? 0, good } });
    field.redraw();
  }
  function showStep() {
    const s = narrated;
    sum.textContent = s ? `x${sub(s.t + 1)} = x${sub(s.t)} ${signed(s.x_next[0] - s.x[0])} = ${digits(s.x_next[0])}` : "–";
    numbers.get("x").textContent = s ? digits(s.x[0]) : "–";
    numbers.get("f(x)").textContent = s ? digits(s.f) : "–";
    numbers.get("f′(x)").textContent = s ? digits(s.g[0]) : "–";
    numbers.get("x′").textContent = s ? digits(s.x_next[0]) : "–";
    if (s && isPlain()) {
      const g = s.g[0];
      sum.textContent = `x${sub(s.t + 1)} = ${short(s.x[0])} − ${short(s.lr)} × ${g < 0 ? `(${short(g)})` : short(g)} = ${digits(s.x_next[0])}`;
    }
    lab.report("derivative", { step: s ? { t: s.t, x: s.x[0], f: s.f, g: s.g[0], x_next: s.x_next[0] } : null });
    field.redraw();
  }
  const isPlain = () => state.optimizer.name === "SGD" && !state.optimizer.momentum && !state.optimizer.weight_decay;
  const short = (v) => written(v, 6);
  const signed = (v) => (v < 0 ? `− ${short(-v)}` : `+ ${short(v)}`);
  const sub = (n) => [...String(n)].map((d) => "₀₁₂₃₄₅₆₇₈₉"[Number(d)]).join("");

  function showValleys() {
    const list = valley.minima;
    lowest.textContent = list.length ? t("derivative.lowest", { share: percent(valley.lowest) }) : t("derivative.no_valley");
    places.replaceChildren(...list.slice(0, 8).map((m, i) => {
      const dot = el("span", { class: "dot-of" }, String(i + 1));
      dot.style.background = mark(i + 1).color;
      return el("li", {}, dot, el("span", {}, `x = ${short(m.x)},  f = ${short(m.fun)}`), el("b", {}, percent(m.share)));
    }));
    for (const name of ["diverged", "unfinished", "nonfinite"]) {
      if (valley.shares[name] > 0) {
        places.append(el("li", {}, el("span"), el("span", {}, t(`derivative.share_${name}`)), el("b", {}, percent(valley.shares[name]))));
      }
    }
    lab.report("derivative", { minima: list, lowest: valley.lowest, shares: valley.shares });
    field.redraw();
  }

  // -- drawing -------------------------------------------------------------------------------------------------------

  /** @param {CanvasRenderingContext2D} c @param {any} p */
  function draw(c, p) {
    if (!curve) return;
    if (slopeTab()) drawSlope(c, p);
    else drawDescent(c, p);
  }
  function drawCurve(c, p) {
    c.setLineDash([]);
    c.lineJoin = "round";
    c.lineWidth = 2.5;
    c.strokeStyle = p.colors.ink;
    trace(c, p, curve.x, curve.f);
    c.stroke();
  }
  function line(c, p, x, y, slope) {
    const b = p.box;
    const x1 = p.atX(b.left - 5), x2 = p.atX(b.right + 5);
    c.beginPath();
    c.moveTo(p.px(x1), p.py(y + slope * (x1 - x)));
    c.lineTo(p.px(x2), p.py(y + slope * (x2 - x)));
    c.stroke();
  }
  function drawSlope(c, p) {
    const { x, h, method } = state, b = p.box, look = mark(METHODS.indexOf(method));
    const y = heightOf(x);
    const here = exactHere();
    const far = x + sign() * h, yFar = heightOf(far), low = x - h, yLow = heightOf(low);
    const slope = here ? found[method].value
      : method === "central" ? (height(x + h) - yLow) / (2 * h) : (yFar - y) / (sign() * h);
    const exact = found && found.x === x ? found.exact : null;
    // the triangle: how far along, how far up
    const from = method === "central" ? [low, yLow] : [x, y];
    const [x1, y1, x2, y2] = [p.px(from[0]), p.py(from[1]), p.px(far), p.py(yFar)];
    if (Math.abs(x2 - x1) > 10 && Number.isFinite(y1 + y2)) {
      c.fillStyle = look.color;
      c.globalAlpha = p.colors.dark ? 0.16 : 0.1;
      c.beginPath(); c.moveTo(x1, y1); c.lineTo(x2, y1); c.lineTo(x2, y2); c.closePath(); c.fill();
      c.globalAlpha = 1;
      c.strokeStyle = p.colors.soft;
      c.lineWidth = 1;
      c.setLineDash([3, 3]);
      c.beginPath(); c.moveTo(x1, y1); c.lineTo(x2, y1); c.lineTo(x2, y2); c.stroke();
      c.setLineDash([]);
    }
    if (exact !== null && Number.isFinite(y)) {
      c.strokeStyle = p.colors.soft;
      c.lineWidth = 1.75;
      c.setLineDash([7, 5]);
      line(c, p, x, y, exact);
      c.setLineDash([]);
    }
    drawCurve(c, p);
    if (Number.isFinite(slope)) {
      c.strokeStyle = look.casing; c.lineWidth = 4.5;
      line(c, p, from[0], Number.isFinite(from[1]) ? from[1] : y, slope);
      c.strokeStyle = look.color; c.lineWidth = 2.25;
      line(c, p, from[0], Number.isFinite(from[1]) ? from[1] : y, slope);
    }
    for (const [px, py] of [from, [far, yFar]]) {
      if (!Number.isFinite(py)) continue;
      c.fillStyle = look.color; c.strokeStyle = look.casing; c.lineWidth = 1.5;
      traceShape(c, look.shape, p.px(px), p.py(py), 5); c.fill(); c.stroke();
    }
    if (Math.abs(x2 - x1) > 44 && Number.isFinite(y1 + y2)) {
      const above = y2 > y1; // the triangle hangs: its names stand outside of it
      write(c, p, method === "central" ? "2h" : "h", (x1 + x2) / 2, y1 + (above ? -11 : 13), { align: "center", color: p.colors.soft });
      const side = x2 > x1 ? 1 : -1;
      const room = side > 0 ? b.right - x2 > 28 : x2 - b.left > 28;
      if (Math.abs(y2 - y1) > 24 && room) write(c, p, "Δf", x2 + side * 9, (y1 + y2) / 2, { align: side > 0 ? "left" : "right", color: p.colors.soft });
    }
    // names at the ends of the lines, apart from one another
    const names = [];
    const base = Number.isFinite(from[1]) ? from : [x, y];
    if (Number.isFinite(slope)) names.push({ text: `${t("derivative.secant")} ${written(slope, 6)}`, color: look.color, at: end(p, base[0], base[1], slope), other: end(p, base[0], base[1], slope, true) });
    if (exact !== null && Number.isFinite(y)) names.push({ text: `${t("derivative.tangent")} ${written(exact, 6)}`, color: p.colors.soft, at: end(p, x, y, exact), other: end(p, x, y, exact, true) });
    place(c, p, names);
    void b;
  }
  /** Where a line leaves the frame on the right (or the left), or through its top or bottom. */
  function end(p, x, y, slope, left = false) {
    const b = p.box;
    let px = left ? b.left + 8 : b.right - 8, py = p.py(y + slope * (p.atX(px) - x));
    const edge = py < b.top + 14 ? b.top + 14 : py > b.bottom - 14 ? b.bottom - 14 : null;
    if (edge !== null && slope !== 0) { px = (left ? Math.max : Math.min)(px, p.px(x + (p.atY(edge) - y) / slope)); py = edge; }
    return [px, py];
  }
  function place(c, p, names) {
    const b = p.box;
    // a name that would lie under a handle stands at the other end of its line
    const held = [state.x, state.x + sign() * state.h].map((v) => [p.px(v), p.py(heightOf(v))]);
    for (const n of names) {
      const covers = held.some(([hx, hy]) => Math.abs(n.at[1] - 11 - hy) < 26 && hx > n.at[0] - 120 && hx < n.at[0] + 22);
      if (covers) { n.at = n.other; n.left = n.at[0] < b.left + 140; }
    }
    names.sort((a, d) => a.at[1] - d.at[1]);
    let last = null;
    for (const n of names) {
      let [x, y] = n.at;
      c.font = `600 12px ${getComputedStyle(document.body).fontFamily}`;
      const width = c.measureText(n.text).width;
      if (n.other === n.at) x += width + 14; // beside the left end, not before it
      x = Math.max(b.left + width + 6, Math.min(x, b.right - 8));
      y -= 11; // above its line
      if (last && Math.abs(last.y - y) < 18 && Math.abs(last.x - x) < Math.max(width, last.width) + 8) y = last.y + (last.y + 18 > b.bottom - 8 ? -18 : 18);
      y = Math.max(b.top + 9, y);
      write(c, p, n.text, x, y, { align: "right", color: n.color, bold: true });
      last = { x, y, width };
    }
  }

  function drawDescent(c, p) {
    const b = p.box;
    drawCurve(c, p);
    if (valley) drawStrip(c, p, b);
    if (!run?.path.length) return;
    const look = mark(0), n = Math.min(play.t + 1, run.path.length);
    const xs = run.path, ys = run.fs;
    c.strokeStyle = look.casing; c.lineWidth = 4.5; c.lineJoin = "round";
    trace(c, p, xs, ys, 0, n); c.stroke();
    c.strokeStyle = look.color; c.lineWidth = 1.75;
    trace(c, p, xs, ys, 0, n); c.stroke();
    c.fillStyle = look.color;
    for (let i = 0; i < n; i++) {
      const px = p.px(xs[i]), py = p.py(ys[i]);
      if (px < b.left - 5 || px > b.right + 5 || !Number.isFinite(py)) continue;
      c.beginPath(); c.arc(px, py, 2.6, 0, 7); c.fill();
    }
    // the step of now: the tangent that it goes by, and its length along the axis
    const s = narrated;
    const at = n - 1;
    if (s && s.t === at && Number.isFinite(s.f)) {
      c.strokeStyle = p.colors.soft; c.lineWidth = 1.5; c.setLineDash([6, 4]);
      const half = 0.09 * (p.x.high - p.x.low);
      c.beginPath(); c.moveTo(p.px(s.x[0] - half), p.py(s.f - half * s.g[0])); c.lineTo(p.px(s.x[0] + half), p.py(s.f + half * s.g[0])); c.stroke();
      c.setLineDash([]);
      arrow(c, p, p.px(s.x[0]), p.px(s.x_next[0]), p.py(s.f));
    }
    const px = p.px(xs[at]), py = p.py(ys[at]);
    if (Number.isFinite(px + py)) {
      c.fillStyle = look.color; c.strokeStyle = look.casing; c.lineWidth = 2;
      traceShape(c, look.shape, px, py, 7); c.fill(); c.stroke();
      const inFrame = px > b.left && px < b.right && py > b.top && py < b.bottom;
      if (inFrame && at > 0) {
        const name = `${state.optimizer.name}  ${at}`;
        const left = px > b.right - 90;
        write(c, p, name, px + (left ? -13 : 13), Math.max(b.top + 10, py - 16), { color: look.color, bold: true, align: left ? "right" : "left" });
      }
    }
  }
  function arrow(c, p, x1, x2, y) {
    if (Math.abs(x2 - x1) < 3) return;
    c.strokeStyle = c.fillStyle = p.colors.accent;
    c.lineWidth = 2.25;
    const way = Math.sign(x2 - x1), size = Math.min(8, Math.abs(x2 - x1));
    c.beginPath(); c.moveTo(x1, y); c.lineTo(x2 - way * size * 0.7, y); c.stroke();
    c.beginPath(); c.moveTo(x2, y); c.lineTo(x2 - way * size, y - size * 0.55); c.lineTo(x2 - way * size, y + size * 0.55); c.closePath(); c.fill();
  }
  /** Along the lower edge: for each start the valley that it ends in; in each valley its share. */
  function drawStrip(c, p, b) {
    const high = 14, top = b.bottom - high, xs = valley.arrays.x, label = valley.arrays.label;
    const step = (p.px(xs[xs.length - 1]) - p.px(xs[0])) / (xs.length - 1);
    let from = 0;
    for (let i = 1; i <= label.length; i++) {
      if (i < label.length && label[i] === label[from]) continue;
      const left = p.px(xs[from]) - step / 2, right = p.px(xs[i - 1]) + step / 2, k = label[from];
      c.fillStyle = k >= 0 ? mark(k + 1).color : p.colors.edge;
      c.fillRect(left, top, right - left, high);
      if (k >= 0 && right - left > 22) {
        c.fillStyle = "#fff"; c.font = `600 11px ${getComputedStyle(document.body).fontFamily}`;
        c.textAlign = "center"; c.textBaseline = "middle";
        c.lineWidth = 3; c.strokeStyle = "rgba(0,0,0,0.55)";
        c.strokeText(String(k + 1), (left + right) / 2, top + high / 2 + 0.5);
        c.fillText(String(k + 1), (left + right) / 2, top + high / 2 + 0.5);
      }
      from = i;
    }
    c.strokeStyle = p.colors.ground; c.lineWidth = 2; c.setLineDash([]);
    c.beginPath(); c.moveTo(b.left, top - 1); c.lineTo(b.right, top - 1); c.stroke();
    valley.minima.slice(0, 8).forEach((m, k) => {
      const x = p.px(m.x), y = p.py(m.fun);
      if (x < b.left || x > b.right || y < b.top || y > b.bottom) return;
      c.fillStyle = mark(k + 1).color; c.strokeStyle = p.colors.ground; c.lineWidth = 2;
      c.beginPath(); c.arc(x, y, 5.5, 0, 7); c.fill(); c.stroke();
      write(c, p, `${k + 1}  ${percent(m.share)}`, x, Math.min(y + 18, top - 10), { align: "center", bold: true });
    });
  }

  function drawErrors(c, p) {
    if (!vee) return;
    const b = p.box, a = vee.arrays;
    const stuck = p.px(vee.stuck);
    if (stuck > b.left) {
      c.fillStyle = p.colors.line;
      c.fillRect(b.left, b.top, stuck - b.left, b.bottom - b.top);
      if (stuck - b.left > 24) {
        c.save(); c.translate((b.left + stuck) / 2, (b.top + b.bottom) / 2); c.rotate(-Math.PI / 2);
        write(c, p, "x + h = x", 0, 0, { align: "center", color: p.colors.soft });
        c.restore();
      }
    }
    const stated = Math.max(p.y.low, vee.adaptive.error || p.y.low);
    if (Number.isFinite(stated)) {
      c.strokeStyle = p.colors.soft; c.lineWidth = 1.5; c.setLineDash([2, 3]);
      c.beginPath(); c.moveTo(b.left, p.py(stated)); c.lineTo(b.right, p.py(stated)); c.stroke(); c.setLineDash([]);
      const under = p.py(stated) - 18 < b.top;
      write(c, p, t("derivative.adaptive"), b.right - 6, p.py(stated) + (under ? 10 : -9), { align: "right", color: p.colors.soft });
    }
    const order = METHODS.filter((m) => m !== state.method).concat(state.method);
    for (const method of order) {
      const look = mark(METHODS.indexOf(method)), chosen = method === state.method;
      const ys = Float64Array.from(a[method], (v) => (v === 0 ? p.y.low : v));
      c.strokeStyle = look.color; c.globalAlpha = chosen ? 1 : 0.55; c.lineWidth = chosen ? 2 : 1.25;
      c.setLineDash(look.dash); c.lineJoin = "round";
      trace(c, p, a.h, ys); c.stroke();
      c.setLineDash([]); c.globalAlpha = 1;
      const best = vee.best[method];
      if (chosen && best.error > 0) {
        c.fillStyle = look.color; c.strokeStyle = p.colors.ground; c.lineWidth = 1.5;
        traceShape(c, look.shape, p.px(best.h), p.py(Math.max(p.y.low, best.error)), 4.5); c.fill(); c.stroke();
      }
    }
    const x = p.px(state.h);
    c.strokeStyle = p.colors.accent; c.globalAlpha = 0.5; c.lineWidth = 1;
    c.beginPath(); c.moveTo(x, b.top); c.lineTo(x, b.bottom); c.stroke(); c.globalAlpha = 1;
  }

  // -- following the state ---------------------------------------------------------------------------------------------

  function showTab() {
    play.element.hidden = state.tab !== "descent";
    verdict.hidden = false;
    share.update(state.tab === "code");
    if (state.tab === "descent") { askDescent(); askValleys(); showDescentIfThere(); }
    else { play.setPlaying(false); if (found) sayDifference(); }
    field.redraw();
  }
  const showDescentIfThere = () => { if (run) showDescent(); };

  function follow(_, change) {
    if (change.settled || gone) return;
    if (change.group && change.group !== "derivative") return;
    const has = (...names) => change.all || names.some((n) => change.changed.includes(n));
    if (has("function")) typed.set();
    if (has("x")) atX.set(state.x);
    if (has("h")) atH.set(state.h);
    if (has("method")) { if (found) showDifference(); if (vee) showErrors(); }
    if (has("x0")) start.set(state.x0);
    if (has("max_steps")) most.set(state.max_steps);
    if (has("gtol")) gtol.set(state.gtol);
    if (has("optimizer")) walker.update();
    if (has("tab")) { view.set(state.tab); fitHeightAgain(); showTab(); }
    if (has("window")) Object.assign(field.x, { low: state.window[0], high: state.window[1] });
    if (has("function", "window")) askCurve();
    if (has("function", "x", "h")) askDifference();
    if (has("function", "x")) askErrors(!has("function"));
    const walking = state.tab === "descent";
    if (walking && has("function", "x0", "optimizer", "max_steps", "gtol")) askDescent();
    if (walking && has("function", "window", "optimizer", "max_steps")) askValleys();
    if (has("t") && run) { if (play.t !== state.t) play.set({ t: state.t }); askStep(); }
    if (state.tab === "code" && has("function", "x", "h", "x0", "optimizer", "max_steps", "gtol")) share.update(true);
    field.redraw();
    errorPlane.redraw();
  }
  function fitHeightAgain() {
    if (!curve) return;
    const finite = [...curve.f].filter(Number.isFinite);
    if (finite.length) fitHeight(Math.min(...finite), Math.max(...finite));
  }
  const stop = lab.store.subscribe(follow);

  Object.assign(field.x, { low: state.window[0], high: state.window[1] });
  askCurve();
  askDifference();
  askErrors();
  showTab();
  void handleX;

  return {
    unmount() {
      gone = true;
      stop();
      play.setPlaying(false);
      field.destroy();
      errorPlane.destroy();
    },
    onLanguage() {
      typed.onLanguage();
      if (found) showDifference();
      if (vee) showErrors();
      if (run) showDescent();
      if (valley) showValleys();
      field.redraw();
      errorPlane.redraw();
    },
    onTheme() {
      field.onTheme();
      errorPlane.onTheme();
      if (valley) showValleys();
    },
    controls: {
      function: typed.element, tabs: view.element, x: atX.element, h: atH.element, method: body, values: table,
      vee: errorPlane.element, optimizer: walker.element, start: start.element, max_steps: most.element, gtol: gtol.element,
      transport: play.element, field: field.element, verdict,
    },
  };
}
