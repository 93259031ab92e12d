// @ts-check
// The network room: points in the plane, a network that learns to tell them apart, and a look into every unit of it.

import { Refused, Superseded } from "../connection.js";
import { mark, traceShape } from "../marks.js";
import { createChart } from "../network/chart.js";
import { createCheck } from "../network/check.js";
import { DELIMITERS, SOURCES, createData, datasetOf, dot, isEmpty } from "../network/data.js";
import { ACTIVATIONS, INITIALIZERS, LOSSES, createLayers, createTraining } from "../network/settings.js";
import { borders, decision, diverging, makeDiagram, unitPicture } from "../pictures.js";
import { entryOf } from "../optimizers.js";
import { makePlane, write } from "../plane.js";
import { createShare } from "../share.js";
import { is } from "../state.js";
import { number as written, percent } from "../text.js";
import { button, el, icon, select, tabs } from "../widgets.js";

const SPEEDS = [5, 20, 60, 0]; // epochs a second; 0 is as fast as it goes
const PIXELS = 104, STILL = 224; // of the decision along its longer side, in motion and at rest
const UNIT_PIXELS = 22;

export const id = "network";

const aPoint = (v) => is.list(is.number(-1e6, 1e6), 3, 3)(v) && is.integer(0, 7)(v[2]);
const positive = (v) => is.number(0, 1e300)(v) && v > 0;
const anOptimizer = (v) => is.flat(40)(v) && is.text(40)(v.name) && (v.lr === undefined || positive(v.lr));

export const schema = {
  source: { default: "spirals", check: is.one(...SOURCES) },
  n: { default: 240, check: is.integer(2, 2000) },
  noise: { default: null, check: is.any(is.nothing, is.number(0, 10)) },
  classes: { default: 3, check: is.integer(2, 8) },
  data_seed: { default: 0, check: is.integer(0, 2 ** 31 - 1) },
  points: { default: [], check: is.list(aPoint, 0, 2000) },
  pen: { default: 0, check: is.integer(0, 7) },
  csv: { default: "", check: is.text(200000) },
  csv_delimiter: { default: ",", check: is.one(...Object.keys(DELIMITERS)) },
  csv_header: { default: null, check: is.any(is.nothing, is.bool) },
  csv_columns: { default: null, check: is.any(is.nothing, is.list(is.text(200), 3, 3)) },
  layers: { default: [8, 8], check: is.list(is.integer(1, 64), 0, 6) },
  activation: { default: "tanh", check: is.one(...ACTIVATIONS) },
  init: { default: "xavier", check: is.one(...INITIALIZERS) },
  loss: { default: "crossentropy", check: is.one(...LOSSES) },
  optimizer: { default: { name: "Adam", lr: 0.02 }, check: anOptimizer },
  schedule: { default: null, check: is.any(is.nothing, is.flat(12)) },
  batch_size: { default: 16, check: is.integer(1, 2000) },
  validation: { default: 0.2, check: is.number(0, 0.9) },
  seed: { default: 0, check: is.integer(0, 2 ** 31 - 1) },
  epoch: { default: 0, check: is.integer(0, 10000) },
  limit: { default: 300, check: is.integer(1, 10000) },
  speed: { default: 20, check: is.one(...SPEEDS) },
  unit: { default: null, check: is.any(is.nothing, is.list(is.integer(0, 63), 2, 2)) },
  chart: { default: "loss", check: is.one("loss", "accuracy", "gradient") },
  tab: { default: "data", check: is.one("data", "layers", "training", "check", "code") },
};

/** @param {HTMLElement} container @param {any} lab */
export function mount(container, lab) {
  const state = lab.state.network;
  const set = (values, how = {}) => lab.store.set("network", values, how);
  const t = lab.t;
  const tables = lab.catalogue;

  // what a link names must be there
  if (!tables.training_optimizers.includes(entryOf(lab, state.optimizer)?.name)) {
    lab.store.mend(id, { optimizer: schema.optimizer.default });
    lab.badLink(`${id}.optimizer`);
  }

  let gone = false;
  let data = null; // {points, labels, classes, axes, window}
  let held = null; // which points are held back
  let frame = null; // the last answer with pictures
  let bitmapOf = null, linesOf = null;
  let playing = false, lastFrame = 0, ownTime = 0;
  const history = { key: "", epoch: 0, loss: [], accuracy: [], validation: [], validation_accuracy: [], lr: [], grad: [], names: [] };
  const spent = [];

  // -- what is trained -----------------------------------------------------------------------------------------------

  function spec() {
    const out = {
      koubai: 1, data: datasetOf(state), layers: state.layers, activation: state.activation, loss: state.loss, init: state.init,
      optimizer: state.optimizer, batch_size: state.batch_size, validation: tooFew() ? 0 : state.validation, seed: state.seed,
    };
    if (state.schedule) out.schedule = state.schedule;
    return out;
  }
  const empty = () => isEmpty(state);
  /** How many points are missing before some can be held out; 0 if there are enough. */
  function tooFew() {
    if (!state.validation || empty()) return 0;
    if (state.source === "drawn") return Math.max(0, 2 * datasetOf(state).classes - state.points.length);
    return state.source === "csv" && data?.source === "csv" ? Math.max(0, 2 * data.classes.length - data.labels.length) : 0;
  }

  // -- the stage -----------------------------------------------------------------------------------------------------

  const view = { x: [-1.2, 1.2], y: [-1.2, 1.2] };
  const field = makePlane({
    draw, label: "network.field", pad: [0, 0, 0, 0], grid: false, square: true,
    onView(x, y) {
      const span = x.high - x.low;
      if (span < 1e-6 || span > 1e8) return;
      field.asked = { x: [x.low, x.high], y: [y.low, y.high] };
      field.redraw();
      wake();
    },
  });
  field.onPress = (e, px, py) => {
    if (state.source !== "drawn" || e.shiftKey || e.button) return false;
    e.preventDefault();
    field.canvas.focus({ preventScroll: true });
    if (e.altKey) erase(field.atX(px), field.atY(py));
    else add(field.atX(px), field.atY(py));
    return true;
  };
  let cursor = null; // where the keyboard draws
  field.canvas.addEventListener("keydown", (e) => {
    if (state.source !== "drawn") return;
    const step = (field.x.high - field.x.low) / 40;
    cursor ??= [(field.x.low + field.x.high) / 2, (field.y.low + field.y.high) / 2];
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[e.key];
    if (way) cursor = [cursor[0] + way[0] * step, cursor[1] + way[1] * step];
    else if (e.key === "Enter" || e.key === " ") add(cursor[0], cursor[1]);
    else if (e.key === "Delete" || e.key === "Backspace") erase(cursor[0], cursor[1]);
    else if (/^[0-7]$/.test(e.key)) set({ pen: Number(e.key) });
    else return;
    e.preventDefault();
    field.redraw();
  });
  field.canvas.addEventListener("blur", () => { cursor = null; field.redraw(); });

  /** A point where the pointer is, as exact as the screen shows it. */
  function add(x, y) {
    if (state.points.length >= tables.network_limits.points) { lab.note("network.full"); return; }
    const unit = 10 ** Math.floor(Math.log10((field.x.high - field.x.low) / Math.max(100, field.width)));
    const at = (v) => Number((Math.round(v / unit) * unit).toPrecision(8));
    set({ points: [...state.points, [at(x), at(y), state.pen]] });
  }
  function erase(x, y) {
    let best = -1, least = Infinity;
    state.points.forEach((p, i) => { const d = Math.hypot(p[0] - x, p[1] - y); if (d < least) { least = d; best = i; } });
    if (best >= 0 && least < (field.x.high - field.x.low) / 20) set({ points: state.points.filter((_, i) => i !== best) });
  }

  const tools = el("div", { class: "field-tools" },
    tool("+", "shell.zoom_in", () => field.zoom(1 / 1.4)), tool("−", "shell.zoom_out", () => field.zoom(1.4)), tool("⤢", "shell.zoom_fit", fit));
  function tool(sign, key, click) {
    const b = el("button", { type: "button", tLabel: key, tTitle: key }, sign);
    b.addEventListener("click", click);
    return b;
  }
  function fit() {
    field.asked = { x: [...view.x], y: [...view.y] };
    field.redraw();
    wake();
  }
  const legend = el("div", { class: "legend" });
  const top = el("div", { class: "field-top" });
  const leave = button("network.back_to_decision", () => set({ unit: null }));
  top.append(leave);

  const diagramPlace = el("div", { class: "diagram", role: "group", tLabel: "network.diagram" });
  const diagram = makeDiagram({
    element: diagramPlace,
    onPick: (layer, i) => set({ unit: state.unit && state.unit[0] === layer && state.unit[1] === i ? null : [layer, i] }),
    name: (layer, i) => (layer === state.layers.length ? t("network.output_unit", { name: data?.classes?.[i] ?? i + 1 })
      : t("network.unit_name", { layer: layer + 1, unit: i + 1 })),
    head: (layer) => (layer < 0 ? t("network.inputs") : layer === state.layers.length ? t("network.outputs") : t("network.layer", { n: layer + 1 })),
  });

  const round = (name, key, click) => {
    const b = el("button", { type: "button", class: "round", tLabel: key, tTitle: key }, icon(name));
    b.addEventListener("click", click);
    return /** @type {HTMLButtonElement} */ (b);
  };
  const play = round("play", "network.train", () => setPlaying(!playing));
  const resetButton = round("reset", "network.reset", () => { setPlaying(false); set({ epoch: 0 }); });
  const backButton = round("back", "network.back", () => { setPlaying(false); set({ epoch: Math.max(0, state.epoch - 1) }); });
  const stepButton = round("step", "network.step", () => { setPlaying(false); set({ epoch: Math.min(10000, state.epoch + 1), limit: Math.max(state.limit, state.epoch + 1) }); });
  const range = /** @type {HTMLInputElement} */ (el("input", { type: "range", min: 0, max: state.limit, step: 1, value: state.epoch, tLabel: "network.epoch" }));
  range.addEventListener("input", () => { setPlaying(false); set({ epoch: Number(range.value) }); });
  const count = el("output", { class: "count epochs" });
  const speeds = select({
    label: "network.speed", bare: true, value: String(state.speed),
    options: SPEEDS.map((s) => ({ value: String(s), label: s ? { text: `${s}/s` } : "network.fastest" })),
    onChange: (v) => set({ speed: Number(v) }),
  });
  const bar = el("div", { class: "transport" }, el("div", { class: "buttons" }, resetButton, backButton, play, stepButton), range, count, speeds.element);
  const title = el("p", { class: "title" });
  const why = el("p", { class: "why" });
  const ask = /** @type {HTMLButtonElement} */ (button("network.diagnose", () => diagnose()));
  ask.disabled = true; // before the first epoch there is nothing to look at
  let ended = /** @type {string | null} */ (null); // why the training can't go on
  const verdict = el("div", { class: "verdict", "data-kind": "mid" }, title, why, el("div", { class: "fix" }, ask));
  const under = el("div", { class: "under" }, bar, verdict);
  const stage = el("div", { class: "stage" }, el("div", { class: "field" }, field.element, top, tools, legend), diagramPlace, under);

  // -- the controls --------------------------------------------------------------------------------------------------

  const chart = createChart({ lab, state, set, history });

  const panel = createData({ lab, state, set, current: () => data, begin: () => setPlaying(false) });
  const layers = createLayers({ lab, state, set });
  const training = createTraining({ lab, state, set, points: () => data?.labels.length ?? 200 });

  const checkPanel = createCheck({ lab, arguments_: () => (empty() ? null : { spec: spec(), epoch: state.epoch }), begin: () => setPlaying(false) }).element;

  const share = createShare({ lab, room: id, snapshot: () => field.canvas, state: () => ({ spec: spec(), epoch: state.epoch }) });
  const codePanel = share.element;

  const pages = tabs({
    label: "network.tabs", value: state.tab,
    items: [
      { id: "data", label: "network.tab_data", panel: panel.element },
      { id: "layers", label: "network.tab_layers", panel: layers.element },
      { id: "training", label: "network.tab_training", panel: training.element },
      { id: "check", label: "network.tab_check", panel: checkPanel },
      { id: "code", label: "network.tab_code", panel: codePanel },
    ],
    onChange: (tab) => set({ tab }),
  });
  const controls = el("div", { class: "controls" }, chart.element, pages.element);
  container.append(el("div", { class: "bench" }, stage, controls));

  // -- data ----------------------------------------------------------------------------------------------------------

  async function askData() {
    const given = datasetOf(state);
    const key = JSON.stringify(given);
    if (empty()) { data = null; held = null; frame = null; complain(""); sayEmpty(); showData(); return; }
    try {
      const a = await lab.ask("network.data", "data", { dataset: given });
      if (gone || key !== JSON.stringify(datasetOf(state))) return;
      const first = !data || data.source !== state.source;
      data = { points: a.arrays.points, labels: a.arrays.labels, classes: a.classes, axes: a.axes, mean: a.mean, scale: a.scale, source: state.source };
      complain("");
      if (state.source !== "drawn" || first) {
        view.x = a.window[0];
        view.y = a.window[1];
        if (state.source === "drawn") { view.x = [Math.min(-1.2, view.x[0]), Math.max(1.2, view.x[1])]; view.y = [Math.min(-1.2, view.y[0]), Math.max(1.2, view.y[1])]; }
        fit();
      }
      held = null;
      showData();
      wake();
    } catch (error) {
      if (error instanceof Superseded || gone) return;
      if (!(error instanceof Refused)) throw error;
      complain(error.message);
    }
  }
  let complained = "";
  function complain(message) {
    complained = message;
    panel.complain(message);
    if (message) { verdict.dataset.kind = "bad"; title.textContent = t("network.refused"); why.textContent = message; }
    lab.report("network", { complaint: message });
  }
  function showData() {
    panel.update(data);
    field.element.classList.toggle("drawing", state.source === "drawn");
    if (state.source === "drawn") field.canvas.tabIndex = 0;
    else field.canvas.removeAttribute("tabindex");
    field.canvas.setAttribute("role", state.source === "drawn" ? "application" : "img");
    const names = data?.classes ?? (state.source === "drawn" ? ["0", "1"] : []);
    legend.replaceChildren(...names.map((name, k) => el("span", {}, dot(k), name)));
    diagram.show({ inputs: data?.axes ?? ["x", "y"] });
    field.redraw();
  }
  // -- training: frames are pulled one after another -----------------------------------------------------------------

  let pumping = false, woken = false;
  function wake() {
    woken = true;
    if (!pumping) pump();
  }
  function setPlaying(on) {
    if (on === playing) return;
    if (on && state.epoch >= state.limit) {
      if (state.limit >= 10000) return;
      set({ limit: Math.min(10000, state.limit + 300) });
    }
    playing = on;
    play.replaceChildren(icon(on ? "pause" : "play"));
    for (const [attribute, data] of [["aria-label", "tLabel"], ["title", "tTitle"]]) {
      play.dataset[data] = on ? "shell.pause" : "network.train";
      play.setAttribute(attribute, t(on ? "shell.pause" : "network.train"));
    }
    ownTime = 0;
    lastFrame = performance.now();
    lab.report("network", { playing });
    wake(); // at rest, the picture is finer
    if (!on) lab.announce(title.textContent ?? "");
  }
  const nextPaint = () => new Promise((resolve) => requestAnimationFrame(resolve));
  const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

  /** The window of the field as the engine is asked for it, and how many pixels along each side. */
  function wanted() {
    const w = Math.max(1, field.width), h = Math.max(1, field.height), most = playing ? PIXELS : STILL;
    const scale = most / Math.max(w, h);
    const size = [Math.max(4, Math.round(w * scale)), Math.max(4, Math.round(h * scale))];
    // a little more than is seen, so that the lines between classes reach the edges
    const wider = ({ low, high }, count) => { const more = 1.2 * (high - low) / count; return [low - more, high + more]; };
    const out = {
      boundary: size, units: [UNIT_PIXELS, UNIT_PIXELS], when_done: !playing,
      window: { x: wider(field.x, size[0]), y: wider(field.y, size[1]) }, units_window: { x: view.x, y: view.y },
    };
    if (state.unit && state.unit[0] <= state.layers.length && state.unit[1] < widths()[state.unit[0]]) out.unit = state.unit;
    return out;
  }
  const outputs = () => (state.loss === "binarycrossentropy" ? 1 : data?.classes?.length ?? 2);
  const widths = () => [...state.layers, outputs()];

  async function pump() {
    pumping = true;
    try {
      while (!gone && (woken || playing)) {
        woken = false;
        if (empty() || !data) { setPlaying(false); break; }
        if (!field.width) { await nextPaint(); woken = true; continue; }
        await one();
      }
    } finally { pumping = false; }
  }

  async function one() {
    const now = spec(), key = JSON.stringify(now);
    let goal = state.epoch;
    if (playing) {
      const at = performance.now();
      if (state.speed) {
        ownTime += (at - lastFrame) / 1000 * state.speed;
        lastFrame = at;
        const whole = Math.floor(ownTime);
        if (whole < 1) { await nextPaint(); woken = true; return; }
        ownTime = Math.min(1, ownTime - whole);
        goal = Math.min(state.limit, state.epoch + whole);
      } else goal = state.limit;
    }
    if (history.key !== key) Object.assign(history, { key, epoch: 0, loss: [], accuracy: [], validation: [], validation_accuracy: [], lr: [], grad: [], names: [] });
    const since = Math.min(history.loss.length, goal);
    const want = wanted();
    const began = performance.now();
    let a;
    try {
      a = await lab.ask("network.train", "train", { spec: now, epoch: goal, since, want, seconds: playing ? 0.025 : 0.12 });
    } catch (error) {
      if (error instanceof Superseded || gone) return;
      if (!(error instanceof Refused)) throw error;
      setPlaying(false);
      complain(error.message);
      return;
    }
    if (gone) return;
    if (JSON.stringify(spec()) !== key) { woken = true; return; }
    if (a.epoch < since && !a.ended) { // another server, which trains again up to here: what is shown stays
      woken = true;
      return;
    }
    spent.push(performance.now() - began);
    if (spent.length > 200) spent.shift();
    take_in(a, since);
    const there = a.done;
    if (a.arrays.boundary) show(a, want);
    if (playing) {
      set({ epoch: a.epoch }, { clock: true });
      if (a.epoch >= state.limit || a.ended) setPlaying(false);
      await nextPaint();
    } else if (!there) {
      showCount(a.epoch);
      woken = true;
    } else if (a.ended && a.epoch < state.epoch) set({ epoch: a.epoch }, { clock: true });
    else showCount(a.epoch);
    say(a);
    chart.update();
    if (!playing && state.epoch !== a.epoch && there && !a.ended) woken = true;
    if (document.hidden) await rest(200);
  }

  function take_in(a, since) {
    const { arrays } = a;
    for (const name of ["loss", "accuracy", "validation", "validation_accuracy", "lr"]) {
      history[name].length = since;
      for (const v of arrays[name]) history[name].push(v);
    }
    history.grad.length = since;
    const layers = a.layers.length;
    for (let i = 0; i < arrays.loss.length; i++) history.grad.push(arrays.grad_norm.subarray(i * layers, (i + 1) * layers));
    history.names = a.layers;
    history.epoch = a.epoch;
    if (arrays.held) { held = arrays.held; }
    else if (!state.validation || tooFew()) held = null;
  }

  function show(a, want) {
    frame = { ...a, window: want.window, size: want.boundary, unit: want.unit ?? null };
    bitmapOf = a.arrays.unit ? unitPicture(a.arrays.unit, 0, a.arrays.unit.shape[1], a.arrays.unit.shape[0], bitmapOf ?? undefined, diverging())
      : decision(a.arrays.boundary, bitmapOf ?? undefined);
    linesOf = borders(a.arrays.boundary);
    diagram.show({ arrays: a.arrays, shape: widths(), chosen: state.unit });
    field.redraw();
    lab.painted();
  }
  function showCount(epoch) {
    range.max = String(state.limit);
    range.value = String(epoch);
    range.style.setProperty("--at", `${100 * Math.min(1, epoch / state.limit)}%`);
    const width = String(state.limit).length;
    count.textContent = `${String(epoch).padStart(width, "\u2007")} / ${state.limit}`;
    resetButton.disabled = backButton.disabled = epoch <= 0;
    stepButton.disabled = epoch >= 10000;
  }

  /** What there is to say of the training where it is. */
  function say(a) {
    const i = history.loss.length - 1;
    const parts = [];
    if (i >= 0) parts.push(`${t("network.says_loss")} ${written(history.loss[i], 4)}`);
    if (i >= 0 && Number.isFinite(history.validation[i])) parts.push(`${t("network.says_validation")} ${written(history.validation[i], 4)}`);
    parts.push(`${t("network.says_accuracy")} ${percent(a.score)}`);
    title.textContent = [t("network.says_epoch", { epoch: a.epoch }), ...parts].join(" · ");
    verdict.dataset.kind = a.ended ? "bad" : a.score > 0.97 ? "good" : "mid";
    ended = a.ended;
    if (!diagnosed || diagnosed.key !== history.key || diagnosed.epoch !== a.epoch) {
      why.textContent = a.ended ? t("network.ended", { why: a.ended })
        : tooFew() ? t("network.too_few", { n: tooFew() }) : a.epoch ? "" : t("network.before");
    }
    ask.disabled = !state.epoch && !ended;
    layers.say(a.parameters);
    lab.report("network", {
      epoch: a.epoch, loss: a.loss, fun: a.fun, score: a.score, lr: a.lr, nit: a.nit, weights: a.weights, parameters: a.parameters,
      ended: a.ended, done: a.done, frame_ms: spent[spent.length - 1] ?? null, frames: spent.length,
      slow_ms: [...spent].sort((x, y) => x - y)[Math.floor(0.95 * (spent.length - 1))] ?? null,
      points: data?.labels.length ?? 0, classes: data?.classes ?? [], history: history.loss.length, unit: frame?.unit ?? null,
      grad: Array.from(history.grad[history.grad.length - 1] ?? []), activation: state.activation,
    });
    if (!playing) lab.announce(title.textContent ?? "");
  }

  function sayEmpty() {
    ended = null;
    ask.disabled = true;
    verdict.dataset.kind = "mid";
    title.textContent = t("network.untrained");
    why.textContent = t(state.source === "drawn" ? "network.nothing_drawn" : "network.nothing_pasted");
  }

  let diagnosed = null;
  async function diagnose() {
    if (empty() || (!state.epoch && !ended)) return;
    setPlaying(false);
    ask.setAttribute("aria-busy", "true");
    why.textContent = t("network.diagnosing");
    const key = JSON.stringify(spec()), epoch = state.epoch;
    try {
      const a = await lab.ask("network.diagnosis", "diagnose_training", { spec: spec(), epoch: Math.max(1, epoch) });
      if (gone || JSON.stringify(spec()) !== key) return;
      diagnosed = { key, epoch };
      const sentence = [a.explanation, a.remedy].filter(Boolean).join(" → ");
      why.textContent = sentence.charAt(0).toUpperCase() + sentence.slice(1);
      why.title = why.textContent;
      lab.report("network", { diagnosis: a.code });
      lab.announce(why.textContent);
    } catch (error) {
      if (error instanceof Superseded || gone) return;
      if (!(error instanceof Refused)) throw error;
      why.textContent = error.message;
    } finally { ask.removeAttribute("aria-busy"); }
  }

  // -- drawing -------------------------------------------------------------------------------------------------------

  /** @param {CanvasRenderingContext2D} c @param {any} p */
  function draw(c, p) {
    const b = p.box;
    if (frame && bitmapOf) {
      const w = frame.window, x1 = p.px(w.x[0]), x2 = p.px(w.x[1]), y1 = p.py(w.y[1]), y2 = p.py(w.y[0]);
      c.imageSmoothingEnabled = true;
      c.imageSmoothingQuality = "high";
      c.drawImage(bitmapOf, x1, y1, x2 - x1, y2 - y1);
      const [cols, rows] = frame.size, dx = (x2 - x1) / cols, dy = (y2 - y1) / rows;
      c.lineWidth = 1.5;
      c.strokeStyle = p.colors.ink;
      c.globalAlpha = 0.75;
      c.beginPath();
      for (const [ax, ay, bx, by] of linesOf ?? []) {
        c.moveTo(x1 + (ax + 0.5) * dx, y2 - (ay + 0.5) * dy);
        c.lineTo(x1 + (bx + 0.5) * dx, y2 - (by + 0.5) * dy);
      }
      c.stroke();
      c.globalAlpha = 1;
    }
    if (data) {
      const { points, labels } = data;
      const r = labels.length > 600 ? 3 : labels.length > 60 ? 4 : 5.5;
      for (let i = 0; i < labels.length; i++) {
        const m = mark(labels[i]), x = p.px(points[2 * i]), y = p.py(points[2 * i + 1]);
        if (x < -9 || x > p.width + 9 || y < -9 || y > p.height + 9) continue;
        traceShape(c, m.shape, x, y, r);
        if (held?.[i]) { // not trained on: hollow
          c.fillStyle = p.colors.ground; c.fill();
          c.strokeStyle = m.color; c.lineWidth = 1.75; c.stroke();
        } else {
          c.fillStyle = m.color; c.fill();
          c.strokeStyle = p.colors.ground; c.lineWidth = 1.1; c.stroke();
        }
      }
    }
    if (cursor && state.source === "drawn") {
      const m = mark(state.pen), x = p.px(cursor[0]), y = p.py(cursor[1]);
      c.strokeStyle = p.colors.accent; c.lineWidth = 1.5;
      c.beginPath(); c.moveTo(x - 12, y); c.lineTo(x + 12, y); c.moveTo(x, y - 12); c.lineTo(x, y + 12); c.stroke();
      c.fillStyle = m.color; traceShape(c, m.shape, x, y, 4); c.fill();
    }
    if (empty()) {
      const text = t(state.source === "drawn" ? "network.nothing_drawn" : "network.nothing_pasted");
      write(c, p, text, (b.left + b.right) / 2, (b.top + b.bottom) / 2, { align: "center", color: p.colors.soft });
    }
  }

  // -- following the state ---------------------------------------------------------------------------------------------

  const DATA = ["source", "n", "noise", "classes", "data_seed", "points", "csv", "csv_delimiter", "csv_header", "csv_columns"];
  const SPEC = [...DATA, "layers", "activation", "init", "loss", "optimizer", "schedule", "batch_size", "validation", "seed"];

  function follow(_, change) {
    if (change.settled || gone) return;
    if (change.group && change.group !== "network") return;
    const has = (...names) => change.all || names.some((name) => change.changed.includes(name));
    if (has("speed")) speeds.set(String(state.speed));
    if (has("tab")) { pages.set(state.tab); share.update(state.tab === "code"); }
    if (has("layers", "loss") && state.unit && !(state.unit[0] <= state.layers.length && state.unit[1] < (widths()[state.unit[0]] ?? 0))) { set({ unit: null }); }
    if (has("layers", "activation", "init", "loss")) layers.update();
    if (has("optimizer", "schedule", "batch_size", "validation", "seed", "limit")) training.update();
    if (has("layers", "loss", "source", "classes")) diagram.show({ shape: widths(), chosen: state.unit });
    if (has("pen", ...DATA)) showData();
    if (has("unit")) { leave.hidden = !state.unit; diagram.show({ chosen: state.unit }); }
    if (has(...DATA)) askData();
    if (has(...SPEC)) { lastFrame = performance.now(); share.update(state.tab === "code"); }
    if (has("epoch", "limit")) showCount(state.epoch);
    if (has("epoch") && !playing && state.tab === "code") share.update(true);
    if (has(...SPEC, "epoch", "unit") && !(playing && !has(...SPEC) && has("epoch"))) {
      if (playing && has(...SPEC)) set({ epoch: 0 }, { clock: true }); // from the start again, and on
      wake();
    }
    chart.update();
  }
  const stop = lab.store.subscribe(follow);

  leave.hidden = !state.unit;
  diagram.show({ shape: widths(), chosen: state.unit });
  showData();
  showCount(state.epoch);
  askData();
  share.update(state.tab === "code");
  if (empty()) { sayEmpty(); lab.painted(); }

  return {
    unmount() {
      setPlaying(false);
      gone = true;
      stop();
      field.destroy();
      chart.destroy();
      diagram.destroy();
    },
    onLanguage() {
      layers.onLanguage();
      training.onLanguage();
      if (complained) askData(); // to be told in the other language
      else showData();
      wake();
      chart.update();
      diagram.redraw();
    },
    onTheme() {
      field.onTheme();
      chart.onTheme();
      if (frame) show(frame, { window: frame.window, boundary: frame.size, unit: frame.unit });
      diagram.redraw();
    },
    controls: {
      chart: chart.element, tabs: pages.element, data: panel.element, layers: layers.element, training: training.element, check: checkPanel,
      transport: bar, diagram: diagramPlace, field: field.element, verdict, activation: layers.activation, optimizer: training.optimizer, schedule: training.schedule,
    },
  };
}
