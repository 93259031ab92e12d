// @ts-check
// The basin room: every pixel is the start of a real descent, coloured by the minimum that it reaches.

import { Refused, Superseded, unlessSuperseded } from "../connection.js";
import { rgb } from "../contours.js";
import { createField } from "../field.js";
import { createFunctionPicker } from "../function.js";
import { css, isDark, mark, traceShape } from "../marks.js";
import { createHyperparameters, entryOf, firstRate, optimizerMenu } from "../optimizers.js";
import { createShare } from "../share.js";
import { is } from "../state.js";
import { number as written, percent } from "../text.js";
import { button, el, logSlider, section } from "../widgets.js";

const PIXELS = 160_000; // starts of a map, about 400 × 400
const QUICK = 22_500; // of the first look while something is moved, where a whole map takes too long
const SLOW = 90; // ms
const REST = 350;
const SHARPEST = 620_000;
const UNFINISHED = -1, DIVERGED = -2;

// Okabe & Ito's hues, quietened: they fill areas here, and a path has to stand out on them
const LIGHT = ["#8fb8d8", "#f0bf8a", "#8fcdb5", "#e3b3cd", "#f3e69c", "#b9c4f0", "#d9a58d", "#c3d39a"];
const DARK = ["#3f83b5", "#b5782f", "#2d8f70", "#a0668a", "#a39632", "#6270b8", "#b0613f", "#728f3c"];

export const id = "basins";
const pair = (check) => is.list(check, 2, 2);

/** What the room keeps in the address. */
export const schema = {
  function: { default: { problem: "himmelblau" }, check: is.any(is.record({ problem: is.text(60) }), is.record({ expression: is.text(1000) })) },
  draft: { default: "", check: is.text(1000) },
  window: { default: null, check: is.any(is.nothing, (v) => pair(pair(is.number(-1e12, 1e12)))(v) && v.every(([l, h]) => h > l)) },
  optimizer: { default: { name: "SGD", lr: 0.01 }, check: (v) => is.flat()(v) && typeof v.name === "string" },
  steps: { default: 200, check: is.integer(1, 2000) },
  x0: { default: null, check: is.any(is.nothing, pair(is.number(-1e12, 1e12))) },
};

const PRESETS = [
  { key: "calm", values: { function: { problem: "himmelblau" }, window: [[-6, 6], [-6, 6]], optimizer: { name: "SGD", lr: 0.01 }, steps: 200, x0: [-0.5, -0.5] } },
  { key: "edge", values: { function: { problem: "himmelblau" }, window: [[-6, 6], [-6, 6]], optimizer: { name: "SGD", lr: 0.0235 }, steps: 300, x0: [-3.2, -2.4] } },
  { key: "inertia", values: { function: { problem: "himmelblau" }, window: [[-6, 6], [-6, 6]], optimizer: { name: "Momentum", lr: 0.02, momentum: 0.8 }, steps: 300, x0: [2.2, -3.6] } },
];

/** Open the room in `container`. */
export function mount(container, lab) {
  const own = () => lab.store.state.basins;
  const change = (values) => lab.store.set("basins", values);
  const problems = new Map(lab.catalogue.problems.filter((p) => p.dimension === 2).map((p) => [p.name, p]));
  const unknown = [];
  const mend = (values, field) => { lab.store.mend(id, values); unknown.push(`${id}.${field}`); };
  if (own().function.problem && !problems.has(own().function.problem)) mend({ function: schema.function.default, window: null, x0: null }, "function");
  if (!entryOf(lab, own().optimizer)) mend({ optimizer: schema.optimizer.default }, "optimizer");
  if (unknown.length) lab.badLink(...unknown);

  /** The start that is followed: the one that was chosen, else that of the problem. */
  const start = () => own().x0 ?? problems.get(own().function.problem ?? "")?.x0 ?? [0, 0];

  let gone = false, map = /** @type {any} */ (null), run = /** @type {any} */ (null), movedAt = 0, took = 0, measured = 0;
  lab.frames.basins = [];

  const stage = el("div", { class: "stage" }), controls = el("div", { class: "controls" });
  container.append(el("div", { class: "bench" }, stage, controls));
  const field = createField(stage, {
    lab, label: "basins.start",
    onStart: (x) => change({ x0: x }),
    onView: (seen, how) => { if (!how?.resized) change({ window: seen }); compute(); },
    onPainted: () => {
      if (measured) {
        const since = measured;
        measured = 0;
        const pixels = map.w * map.h;
        setTimeout(() => { lab.frames.basins.push([performance.now() - since, pixels]); });
      }
      lab.painted();
    },
  });
  const verdict = el("div", { class: "verdict" }, el("p", { class: "title" }), el("p", { class: "why" }));
  const title = /** @type {HTMLElement} */ (verdict.firstChild), why = /** @type {HTMLElement} */ (verdict.lastChild);
  stage.append(el("div", { class: "under" }, verdict));

  const picker = createFunctionPicker({
    lab, room: id, dimension: 2, value: () => own().function, draft: () => own().draft || own().function.expression || "x**2/20 + y**2 + 3*sin(x)",
    onDraft: (draft) => change({ draft }),
    onFunction: (f, problem) => change(problem ? { function: f, window: problem.window, x0: problem.x0 } : { function: f }),
  });
  const menu = optimizerMenu({
    lab, value: own().optimizer.name,
    onChange: (name) => { const e = entryOf(lab, { name }); change({ optimizer: { name, ...(e.searches ? {} : { lr: e.name === "SGD" ? 0.01 : firstRate(e) }) } }); },
  });
  const rateOf = (o) => o.lr ?? entryOf(lab, o)?.lr ?? 0.01;
  const rate = logSlider({ label: "descent.rate", value: rateOf(own().optimizer), low: 1e-4, high: 10, most: 1e12, onInput: (lr) => change({ optimizer: { ...own().optimizer, lr } }) });
  const hyper = createHyperparameters({ lab, get: () => own().optimizer, set: (optimizer) => change({ optimizer }), rate: rate.element });
  const steps = logSlider({ label: "basins.steps", value: own().steps, low: 1, high: 2000, integer: true, least: 1, most: 2000, onInput: (v) => change({ steps: v }) });
  const optimizerSection = section("descent.optimizer", rate.element, steps.element, hyper.element);
  menu.element.classList.add("bare");
  menu.element.firstElementChild?.classList.replace("name-of", "aloud");
  optimizerSection.end.append(menu.element);
  const body = el("tbody");
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...["minimum", "fun", "share"].map((k) => el("th", { scope: "col", t: `basins.${k}` })))), body);
  const sharesSection = section("basins.shares", table);
  const presets = section("basins.presets", el("div", { class: "buttons-row" }, ...PRESETS.map((p) => {
    const b = button(`basins.preset_${p.key}`, () => change(p.values));
    b.dataset.preset = p.key;
    return b;
  })), el("p", { class: "hint", t: "basins.presets_hint" }));
  const share = createShare({ lab, room: id, state: spec, snapshot: () => field.snapshot(), kinds: ["svg", "csv"] });
  const shareSection = section("descent.panel_share", ...share.element.childNodes);
  controls.append(picker.element, optimizerSection.element, sharesSection.element, presets.element, shareSection.element);

  // -- asking --------------------------------------------------------------------------------------------------------

  /** What makes the map that is shown: its own window and resolution, and what it was made of. */
  function spec() { return map ? map.spec : setting(PIXELS); }
  function setting(pixels) { return { function: own().function, window: field.seen(), optimizer: own().optimizer, resolution: size(pixels), steps: own().steps }; }
  function size(pixels) {
    const [w, h] = field.size;
    const k = Math.sqrt(pixels / (w * h));
    return [w, h].map((n) => Math.max(16, Math.min(1024, Math.round(n * k))));
  }

  function refused(error) {
    if (!(error instanceof Refused)) return unlessSuperseded(error);
    if (gone) return undefined;
    lab.say(title, "descent.refused");
    delete why.dataset.t;
    why.textContent = error.message;
    verdict.dataset.kind = "bad";
    lab.report(id, { refused: error.message });
    return undefined;
  }

  let asked = "", resting = 0, working = false, again = false, quick = false;
  const subject = () => JSON.stringify([own().function, field.seen(), own().optimizer, own().steps]);

  /** Make the map: at once, or first a coarse one where the last took long; and a sharper one when hands rest. */
  function compute() {
    movedAt ||= performance.now();
    clearTimeout(resting);
    resting = window.setTimeout(sharpen, REST);
    if (working) { again = true; return; }
    draw();
  }
  async function draw() {
    working = true;
    try {
      do {
        again = false;
        const now = subject();
        if (now === asked && !quick) break;
        quick = took > SLOW;
        await make(now, quick ? QUICK : PIXELS);
      } while (again && !gone);
    } finally { working = false; }
  }
  async function sharpen() {
    if (gone || working) { if (!gone) resting = window.setTimeout(sharpen, REST); return; }
    working = true;
    try {
      if (quick) { quick = false; await make(subject(), PIXELS); }
      const [w, h] = field.size;
      const ratio = Math.min(2, window.devicePixelRatio || 1);
      const most = Math.min(SHARPEST, w * h * ratio * ratio, 200e6 / own().steps);
      if (!again && took < 700 && most > PIXELS * 1.3) await make(subject(), most, true);
    } finally {
      working = false;
      if (again) draw();
    }
  }
  async function make(now, pixels, sharper = false) {
    const since = sharper ? 0 : movedAt;
    if (!sharper) movedAt = 0;
    const began = performance.now();
    const made = JSON.parse(JSON.stringify(setting(pixels)));
    const { window, resolution } = made;
    let answer;
    try {
      answer = await lab.ask("basins.map", "basins", made);
    } catch (error) {
      if (error instanceof Superseded) return;
      refused(error);
      asked = now;
      return;
    }
    if (gone) return;
    asked = now;
    // as a whole map would take
    const whole = (performance.now() - began) * (PIXELS / (resolution[0] * resolution[1]));
    took = quick ? Math.min(took, whole) : whole;
    if (sharper && subject() !== now) return;
    map = { ...answer, window, w: resolution[0], h: resolution[1], spec: made };
    measured = since;
    show(sharper);
    tellShare(sharper ? 0 : 500);
  }

  /** Which colour a minimum has: by its place, so that it keeps it while a rate is moved. */
  const homes = /** @type {{x: number[], color: number}[]} */ ([]);
  let homesOf = "";
  function colorOf(minimum) {
    const f = JSON.stringify(own().function);
    if (f !== homesOf) { homes.length = 0; homesOf = f; for (const m of problems.get(own().function.problem ?? "")?.minima ?? []) homes.push({ x: m.x, color: homes.length }); }
    const [[xl, xh], [yl, yh]] = map.window;
    const near = homes.find((h) => Math.abs(h.x[0] - minimum.x[0]) < 0.02 * Math.max(xh - xl, 1e-9) && Math.abs(h.x[1] - minimum.x[1]) < 0.02 * Math.max(yh - yl, 1e-9));
    if (near) return near.color;
    homes.push({ x: minimum.x, color: homes.length });
    return homes.length - 1;
  }

  function paint() {
    const { w, h } = map;
    const label = map.arrays.label, count = map.arrays.steps;
    const dark = isDark();
    const palette = dark ? DARK : LIGHT;
    const colors = map.minima.map((m) => rgb(palette[colorOf(m) % palette.length]));
    const shade = dark ? [8, 12, 15] : [40, 52, 62];
    const rest = { [UNFINISHED]: rgb(css("--basin-unfinished")), [DIVERGED]: rgb(css("--basin-diverged")) };
    const other = rgb(css("--basin-nonfinite"));
    const most = Math.log1p(own().steps);
    const depth = new Float32Array(own().steps + 2);
    for (let i = 0; i < depth.length; i++) depth[i] = (dark ? 0.62 : 0.42) * (Math.log1p(i) / most) ** 2.2;
    const image = new ImageData(w, h);
    const out = new Uint32Array(image.data.buffer);
    const last = depth.length - 1;
    for (let j = 0; j < h; j++) {
      const from = (h - 1 - j) * w;
      for (let i = 0; i < w; i++) {
        const k = from + i, l = label[k];
        let c = l >= 0 ? colors[l] : rest[l] ?? other;
        if (l >= 0) {
          const d = depth[Math.min(last, Math.max(0, count[k]))], r = c[0], g = c[1], b = c[2];
          out[j * w + i] = (255 << 24) | ((b + (shade[2] - b) * d) << 16) | ((g + (shade[1] - g) * d) << 8) | (r + (shade[0] - r) * d);
        } else out[j * w + i] = (255 << 24) | (c[2] << 16) | (c[1] << 8) | c[0];
      }
    }
    const canvas = document.createElement("canvas");
    canvas.width = w;
    canvas.height = h;
    canvas.getContext("2d")?.putImageData(image, 0, 0);
    // a pixel is the start in its middle: the picture reaches half a pixel further than the starts do
    const [[xl, xh], [yl, yh]] = map.window;
    const dx = (xh - xl) / (w - 1) / 2, dy = (yh - yl) / (h - 1) / 2;
    field.setImage(canvas, [[xl - dx, xh + dx], [yl - dy, yh + dy]]);
  }

  function show(sharper) {
    paint();
    const order = map.minima.map((m, i) => ({ ...m, color: colorOf(m), i })).sort((a, b) => b.share - a.share);
    const palette = isDark() ? DARK : LIGHT;
    const bar = (share, color) => {
      const fill = el("i", { class: "fill" });
      fill.style.width = `${Math.max(share > 0 ? 1.5 : 0, 100 * share)}%`;
      fill.style.background = color;
      return el("td", {}, el("span", { class: "share" }, el("span", { class: "track" }, fill), el("span", {}, percent(share))));
    };
    const dot = (color) => { const i = el("i", { class: "basin" }); i.style.background = color; return i; };
    const rows = order.slice(0, 12).map((m) => el("tr", {},
      el("td", {}, dot(palette[m.color % palette.length]), `(${m.x.map((v) => written(v, 3)).join(", ")})`, m.signature && m.signature !== "minimum" ? ` ${m.signature}` : ""),
      el("td", {}, written(m.fun, 3)), bar(m.share, palette[m.color % palette.length])));
    for (const k of ["unfinished", "diverged", "nonfinite"]) {
      if (map.shares[k] > 0) rows.push(el("tr", {}, el("td", {}, dot(css(`--basin-${k}`)), el("span", { t: `basins.${k}` })), el("td"), bar(map.shares[k], css(`--basin-${k}`))));
    }
    body.replaceChildren(...rows);
    field.setMinima(map.minima.map((m) => m.x));
    lab.report(id, {
      minima: map.minima.map((m) => ({ x: m.x, fun: m.fun, share: m.share })), shares: map.shares, resolution: [map.w, map.h],
      window: map.window, sharp: sharper, refused: null, executor: map.executor,
    });
    tell();
  }

  async function descend() {
    const x0 = start();
    let answer;
    try {
      answer = await lab.ask("basins.path", "descend", { function: own().function, x0, optimizers: [own().optimizer], max_steps: own().steps, gtol: 1e-6, seed: 0 });
    } catch (error) { refused(error); return; }
    if (gone) return;
    run = answer.runs[0];
    const x = answer.arrays["path.0"];
    field.setPaths(x ? [{ x, t: answer.arrays["t.0"], rows: x.length / 2, slot: 6, label: "", strong: true, look: { dash: [], shape: "circle" } }] : []);
    lab.report(id, { path: { x0, x: run.x, fun: run.fun, nit: run.nit, status: run.status } });
    tell();
  }

  function tell() {
    if (!map) return;
    const reached = Math.max(0, 1 - map.shares.unfinished - map.shares.diverged - map.shares.nonfinite);
    delete title.dataset.t;
    title.textContent = lab.t("basins.summary", { count: map.minima.length, reached: percent(reached), steps: own().steps });
    verdict.dataset.kind = reached > 0.995 ? "good" : reached > 0.6 ? "mid" : "bad";
    delete why.dataset.t;
    why.textContent = run
      ? lab.t(`basins.path_${["converged", "diverged", "nonfinite"].includes(run.status) ? run.status : "other"}`, {
        start: `(${start().map((v) => written(v, 3)).join(", ")})`, end: `(${run.x.map((v) => written(v, 4)).join(", ")})`, steps: run.nit, fun: written(run.fun, 3),
      }) : lab.t("basins.click");
    clearTimeout(speaking);
    speaking = window.setTimeout(() => lab.announce(`${title.textContent} ${why.textContent}`), 600);
  }
  let speaking = 0, texts = 0;
  /** The texts that make this map follow it, when hands rest. */
  function tellShare(after) {
    clearTimeout(texts);
    texts = window.setTimeout(() => share.update(true), after);
  }

  // -- following the state -------------------------------------------------------------------------------------------

  function showState() {
    const s = own();
    field.setStart(start());
    menu.set(entryOf(lab, s.optimizer).name);
    rate.set(rateOf(s.optimizer));
    steps.set(s.steps);
    hyper.update();
    picker.set();
    lab.report(id, { rate: rateOf(s.optimizer) });
  }
  function showWindow() {
    const problem = problems.get(own().function.problem ?? "");
    const home = problem?.window ?? [[-10, 10], [-10, 10]];
    field.setHome(home);
    field.setWindow(own().window ?? home, { keepHome: true });
  }
  const stop = lab.store.subscribe((_, how) => {
    if (gone || how.settled || (how.group && how.group !== id)) return;
    const changed = how.changed ?? Object.keys(schema);
    if (changed.every((k) => k === "draft")) return;
    if (changed.includes("function") || (changed.includes("window") && !same(own().window, field.seen()))) showWindow();
    showState();
    if (changed.some((k) => k !== "x0" && k !== "draft")) compute();
    if (changed.some((k) => k !== "window" && k !== "draft")) descend();
  });
  const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

  showWindow();
  showState();
  compute();
  descend();

  return {
    unmount() { gone = true; clearTimeout(resting); clearTimeout(texts); clearTimeout(speaking); stop(); field.destroy(); },
    onLanguage() { tell(); picker.onLanguage(); field.redraw(); },
    onTheme() { if (map) show(true); field.redraw(); },
    controls: { function: picker.element, optimizer: optimizerSection.element, shares: sharesSection.element, presets: presets.element, share: shareSection.element, verdict },
  };
}

export default { id, schema, mount };
