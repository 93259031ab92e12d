// @ts-check
// Where the points come from: a known set, the hand, or a CSV file.

import { Refused, Superseded } from "../connection.js";
import { mark, swatch, traceShape } from "../marks.js";
import { button, el, logSlider, number, select } from "../widgets.js";

export const KNOWN = ["spirals", "moons", "circles", "blobs", "xor"];
export const SOURCES = [...KNOWN, "drawn", "csv"];
export const MANY = ["spirals", "blobs"]; // whose number of classes is free
export const DELIMITERS = { ",": "comma", ";": "semicolon", "\t": "tab", " ": "space" };
const ROLES = ["x", "y", "label"]; // what the columns of a CSV are taken for

/** A small picture of the mark of class k. */
export function dot(k) {
  const s = swatch(k, { width: 14, height: 14 });
  const draw = () => {
    const c = /** @type {CanvasRenderingContext2D} */ (s.getContext("2d")), m = mark(k);
    c.setTransform(2, 0, 0, 2, 0, 0);
    c.clearRect(0, 0, 14, 14);
    c.fillStyle = m.color; c.strokeStyle = m.edge; c.lineWidth = 0.75;
    traceShape(c, m.shape, 7, 7, 4.2); c.fill(); c.stroke();
  };
  /** @type {any} */ (s).redraw = draw;
  draw();
  return s;
}

/** The data set as the engine is asked for it. */
export function datasetOf(state) {
  if (state.source === "drawn") {
    const most = state.points.reduce((m, p) => Math.max(m, p[2]), 1);
    return { points: state.points, classes: Math.max(2, most + 1) };
  }
  if (state.source === "csv") {
    const [x, y, label] = state.csv_columns ?? [];
    return { ...textOf(state), ...(state.csv_columns ? { columns: [x, y], label } : {}) };
  }
  const out = { name: state.source, n: Math.max(state.n, MANY.includes(state.source) ? state.classes : 2), seed: state.data_seed };
  if (state.noise !== null) out.noise = state.noise;
  if (MANY.includes(state.source)) out.classes = state.classes;
  return out;
}

/** The text of the CSV, and how it is read. */
const textOf = (state) => ({
  csv: state.csv, delimiter: state.csv_delimiter, ...(state.csv_header === null ? {} : { header: state.csv_header }),
});

/** Whether there is nothing to train on yet. */
export const isEmpty = (state) => (state.source === "drawn" && !state.points.length) || (state.source === "csv" && !state.csv.trim());

/**
 * The panel. current(): the points of now; begin is called before the source changes.
 * @param {{lab: any, state: any, set: (values: any) => void, current: () => any, begin: () => void}} options
 */
export function createData({ lab, state, set, current, begin }) {
  const t = lab.t;
  const tables = lab.catalogue;
  const source = select({
    label: "network.data", value: state.source,
    options: SOURCES.map((s) => ({ value: s, label: `network.data_${s}` })), onChange: (s) => take(s),
  });
  const n = logSlider({ label: "network.points", value: state.n, low: 20, high: 2000, least: 2, most: 2000, integer: true, onInput: (v) => set({ n: v }) });
  const noise = logSlider({ label: "network.noise", value: noiseNow(), low: 0, high: 0.6, log: false, least: 0, most: 10, onInput: (v) => set({ noise: v }) });
  const classes = logSlider({ label: "network.classes", value: state.classes, low: 2, high: 6, log: false, least: 2, most: 8, integer: true, onInput: (v) => set({ classes: v }) });
  const dataSeed = number({ label: "network.data_seed", value: state.data_seed, low: 0, high: 2 ** 31 - 1, integer: true, onInput: (v) => set({ data_seed: v }) });
  const known = el("div", { class: "section-body" }, n.element, noise.element, classes.element, dataSeed.element,
    el("div", { class: "buttons-row" }, button("network.edit_points", editPoints)));
  const pens = el("div", { class: "classes", role: "group", tLabel: "network.pen" });
  const drawn = el("div", { class: "section-body" }, el("p", { class: "hint", t: "network.draw_hint" }), pens,
    el("div", { class: "buttons-row" }, button("network.remove_last", () => set({ points: state.points.slice(0, -1) })), button("network.clear", () => set({ points: [] }))));
  const paste = /** @type {HTMLTextAreaElement} */ (el("textarea", { class: "paste", spellcheck: "false", tLabel: "network.csv" }));
  const file = /** @type {HTMLInputElement} */ (el("input", { type: "file", accept: ".csv,text/csv,text/plain", tLabel: "network.csv_file" }));
  file.addEventListener("change", async () => {
    const one = file.files?.[0];
    if (!one) return;
    if (one.size > tables.network_limits.csv) { complain(t("network.csv_large", { most: tables.network_limits.csv })); return; }
    set({ csv: await one.text(), csv_columns: null });
  });
  let pasting = 0;
  paste.addEventListener("input", () => { clearTimeout(pasting); pasting = window.setTimeout(() => set({ csv: paste.value.slice(0, 200000) }), 250); });
  // another way to read the text leads to other columns
  const delimiter = select({
    label: "network.csv_delimiter", value: state.csv_delimiter,
    options: Object.entries(DELIMITERS).map(([value, name]) => ({ value, label: `network.csv_${name}` })),
    onChange: (v) => set({ csv_delimiter: v, csv_columns: null }),
  });
  const HEADERS = { "null": "network.csv_header_auto", "true": "network.csv_header_yes", "false": "network.csv_header_no" };
  const header = select({
    label: "network.csv_header", value: String(state.csv_header),
    options: Object.entries(HEADERS).map(([value, label]) => ({ value, label })),
    onChange: (v) => set({ csv_header: JSON.parse(v), csv_columns: null }),
  });
  const columns = ROLES.map((role, i) => select({
    label: `network.csv_${role}`, value: "", options: [],
    onChange: (v) => set({ csv_columns: chosen().map((name, k) => (k === i ? v : name)) }),
  }));
  const csv = el("div", { class: "section-body" }, el("p", { class: "hint", t: "network.csv_hint" }), file, paste,
    delimiter.element, header.element, ...columns.map((c) => c.element));

  let names = /** @type {string[]} */ ([]), namesOf = "";
  /** The columns that are taken: those of the state, else the first two and the last. */
  function chosen() {
    if (state.csv_columns) return state.csv_columns;
    const last = names[names.length - 1] ?? "";
    return [...names.slice(0, -1), "", ""].slice(0, 2).concat(last);
  }
  /** Offer the columns that the text has. */
  async function offer() {
    const given = textOf(state), key = JSON.stringify(given);
    if (key !== namesOf) {
      namesOf = key;
      try {
        const found = given.csv.trim() ? (await lab.ask("network.columns", "csv_columns", { dataset: given })).columns : [];
        if (key !== namesOf) return;
        names = found;
      } catch (error) {
        if (error instanceof Superseded || error instanceof Refused) return; // what is wrong is said of the data
        throw error;
      }
      for (const c of columns) c.setOptions(names.map((name) => ({ value: name, label: { text: name } })));
    }
    columns.forEach((c, i) => c.set(chosen()[i]));
  }
  const complaint = el("p", { class: "complaint", role: "status" });
  const element = el("div", {}, source.element, known, drawn, csv, complaint);

  function noiseNow() {
    return state.noise ?? tables.datasets.find((d) => d.name === state.source)?.noise ?? 0.1;
  }
  /** Another source: each begins at what suits it. */
  function take(name) {
    begin();
    const values = { source: name, noise: null, epoch: 0, unit: null };
    const two = !MANY.includes(name) && name !== "drawn" && name !== "csv";
    if (!two && state.loss === "binarycrossentropy") values.loss = "crossentropy";
    set(values);
  }
  /** The points of now as drawn ones, to change them by hand. */
  function editPoints() {
    const data = current();
    if (!data) return;
    const points = Array.from(data.labels, (k, i) => [Number(data.points[2 * i].toPrecision(6)), Number(data.points[2 * i + 1].toPrecision(6)), k]);
    set({ points, source: "drawn", epoch: 0, pen: 0 });
  }

  /** Show what the state says; data: the points, null if there are none. */
  function update(data) {
    source.set(state.source);
    n.set(state.n);
    noise.set(noiseNow());
    classes.set(state.classes);
    dataSeed.set(state.data_seed);
    known.hidden = !KNOWN.includes(state.source);
    drawn.hidden = state.source !== "drawn";
    csv.hidden = state.source !== "csv";
    classes.element.hidden = !MANY.includes(state.source);
    if (state.source === "csv") {
      if (document.activeElement !== paste) paste.value = state.csv;
      delimiter.set(state.csv_delimiter);
      header.set(String(state.csv_header));
      offer();
    }
    const count = data?.classes.length ?? 2;
    const many = Math.max(3, Math.min(8, count + (state.source === "drawn" ? 1 : 0)));
    pens.replaceChildren(...Array.from({ length: many }, (_, k) => {
      const b = el("button", { type: "button", "aria-pressed": String(k === state.pen) }, dot(k), t("network.class", { n: k }));
      b.addEventListener("click", () => set({ pen: k }));
      return b;
    }));
  }
  /** Say what is wrong with the data, "" if nothing is. */
  function complain(message) { complaint.textContent = message; }

  return { element, update, complain };
}
