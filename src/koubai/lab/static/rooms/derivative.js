// @ts-check
// The derivative bench: a curve, a secant that becomes the tangent, the V of the errors, and a descent in one dimension.

import { Refused, Superseded } from "../connection.js";
import { METHODS, createPictures } from "../derivative/pictures.js";
import { mark, swatch } from "../marks.js";
import { optimizerControls } from "../optimizer.js";
import { entryOf } from "../optimizers.js";
import { digits, makePlane } from "../plane.js";
import { createShare } from "../share.js";
import { is } from "../state.js";
import { number as written, percent } from "../text.js";
import { createFunctionPicker } from "../function.js";
import { el, logSlider, number, tabs, transport } from "../widgets.js";

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
  const set = (values, how = {}) => lab.store.set("derivative", values, how);
  const problems = lab.catalogue.problems.filter((p) => p.dimension === 1);
  const known = (f) => problems.find((p) => p.name === f.problem);
  const t = lab.t;
  // what a link names must be there
  const unknown = [];
  const mend = (values, field) => { lab.store.mend(id, values); unknown.push(`${id}.${field}`); };
  if (state.function.problem && !known(state.function)) mend({ function: schema.function.default, window: schema.window.default, x: schema.x.default, x0: schema.x0.default }, "function");
  if (!entryOf(lab, state.optimizer)) mend({ optimizer: schema.optimizer.default }, "optimizer");
  if (unknown.length) lab.badLink(...unknown);

  // what the engine has answered last
  let curve = null; // {x, f, low, high}
  let found = null; // the differences at x with h
  let vee = null; // the errors
  let run = null; // the descent: {path, fun, t, summary}
  let valley = null;
  let narrated = null; // one step
  let gone = false;

  const pictures = createPictures({
    state, t, height: (x) => height(x), heightOf: (x) => heightOf(x),
    seen: () => ({ curve, found, vee, run, valley, narrated, t: play.t }),
  });

  // -- the stage -----------------------------------------------------------------------------------------------------

  const field = makePlane({
    draw: pictures.draw, opaque: true, label: "derivative.field", xName: () => "x", yName: () => "f(x)", pad: [46, 16, 30, 52],
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

  field.handle({
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
    onSeek(step, clock) { set({ t: step }, { clock }); },
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

  const atX = number({ label: "derivative.x", value: state.x, step: 0.1, digits: 17, onInput: (x) => set({ x }) });
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
    draw: pictures.drawErrors, label: "derivative.vee", xName: () => "h", yName: () => t("derivative.error"), pad: [12, 12, 30, 46], className: "calm",
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
  const start = number({ label: "derivative.start", value: state.x0, step: 0.1, digits: 17, onInput: (x0) => set({ x0 }) });
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
    lab.report("derivative", { pending: true });
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
      else if (relative < 1e-3) { kind = "good"; key = value === found.exact ? "exact" : "close"; }
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
    lab.report("derivative", { pending: false, run: { status: run.status, x: run.x?.[0] ?? null, fun: run.fun ?? null, nit: run.nit ?? 0, good } });
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
      optimizer_rate: walker.rate.element, update, lowest, places, vee_note: veeNote,
    },
  };
}
