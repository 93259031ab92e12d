// @ts-check
// Controls: each is made of native elements, so that keyboard and screen reader work as everywhere else.
// A label is a key of the catalogues, or {text: "β₁"} for what is written the same in every language.

import { say, t, number as written } from "./text.js";

let made = 0;
const nextId = () => `w${++made}`;

/** Make an element: `el("p", {class: "verdict"}, child, "text", …)`; `t` says a text by its key. */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "t") say(element, value);
    else if (key === "tLabel") label(element, "aria-label", "tLabel", value);
    else if (key === "tTitle") label(element, "title", "tTitle", value);
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else element.setAttribute(key, String(value));
  }
  element.append(...children.filter((c) => c !== null && c !== undefined));
  return element;
}

function label(element, attribute, data, key) {
  if (typeof key === "object") { element.setAttribute(attribute, key.text); return; }
  const probe = document.createElement("i");
  say(probe, key);
  element.dataset[data] = key;
  element.setAttribute(attribute, probe.textContent ?? "");
}

/** A button. kind: "plain", "primary" or "quiet". */
export function button(key, onClick, { kind = "plain", title = null } = {}) {
  const b = el("button", { type: "button", class: kind, t: key, tTitle: title });
  b.addEventListener("click", onClick);
  return b;
}

/** A section with a heading; `body` is where its content goes, `end` a place beside the heading. */
export function section(key, ...children) {
  const id = nextId();
  const end = el("div", { class: "section-end" });
  const head = el("div", { class: "section-head" }, el("h2", { id, t: key }), end);
  const body = el("div", { class: "section-body" }, ...children);
  return { element: el("section", { class: "section", "aria-labelledby": id }, head, body), body, end };
}

/** A text that a person may write for a number: also "1e-3", "−2", "1/3". NaN if it is none. */
export function readNumber(text) {
  const plain = text.trim().replaceAll("−", "-").replace(/^\+/, "").replaceAll("，", ".").normalize("NFKC");
  const fraction = /^(-?[\d.]+(?:e-?\d+)?)\/([\d.]+(?:e-?\d+)?)$/i.exec(plain);
  if (fraction) return Number(fraction[1]) / Number(fraction[2]);
  return plain === "" ? NaN : Number(plain);
}

/** What a number may be: "a whole number from 1 to 300". The ends of the range of floats are said as "above 0", or not at all. */
function allowedText(low, high, integer) {
  const kind = integer ? "shell.allowed_whole" : "shell.allowed_number", above = low > 0 && low < 1e-290;
  const ends = above && high >= 1e12 ? "shell.allowed_positive" : above ? "shell.allowed_positive_to"
    : Number.isFinite(low) && Number.isFinite(high) ? "shell.allowed_between" : Number.isFinite(low) ? "shell.allowed_from" : Number.isFinite(high) ? "shell.allowed_to" : "shell.allowed_any";
  return t(ends, { kind: t(kind), low: written(low, 10), high: written(high, 10) });
}

/**
 * A number to type, with a label. Arrow keys step by `step` (or by a factor of 10^(1/10) with `log`).
 * `optional`: it may be left empty, which is null. onInput(value) hears only of numbers within low and high. `set(value)` shows one without a call.
 */
export function number({ label: key, value, low = -Infinity, high = Infinity, step = 1, log = false, integer = false, optional = false, onInput, digits = 6, bare = false }) {
  const id = nextId();
  const input = /** @type {HTMLInputElement} */ (el("input", { id, type: "text", inputmode: "decimal", class: "num", spellcheck: "false", autocomplete: "off" }));
  const name = el("label", { for: id, t: key, class: bare ? "aloud" : "name-of" });
  let now = value;
  const allowed = el("small", { class: "allowed", id: `${id}a`, role: "status" });
  allowed.hidden = true;
  /** Say what may be typed, while something else is. */
  const mark = (ok) => {
    input.toggleAttribute("aria-invalid", !ok);
    if (!ok) input.setAttribute("aria-invalid", "true");
    allowed.hidden = ok;
    allowed.textContent = ok ? "" : allowedText(low, high, integer);
    if (ok) { input.removeAttribute("aria-describedby"); input.removeAttribute("title"); return; }
    input.setAttribute("aria-describedby", allowed.id);
    input.title = allowed.textContent ?? "";
  };
  const show = () => { input.value = optional && now === null ? "" : written(now, digits); mark(true); };
  const take = (v) => {
    if (optional && input.value.trim() === "") { now = null; mark(true); onInput?.(null); return true; }
    if (integer) v = Math.round(v);
    const ok = Number.isFinite(v) && v >= low && v <= high;
    mark(ok);
    if (ok && v !== now) { now = v; onInput?.(v); }
    return ok;
  };
  input.addEventListener("input", () => take(readNumber(input.value)));
  input.addEventListener("blur", show);
  input.addEventListener("focus", () => input.select());
  input.addEventListener("keydown", (e) => {
    const way = e.key === "ArrowUp" ? 1 : e.key === "ArrowDown" ? -1 : 0;
    if (e.key === "Enter") show();
    if (!way) return;
    e.preventDefault();
    const far = e.shiftKey ? 10 : 1;
    const next = log && now > 0 ? now * 10 ** (way * far / 20) : now + way * far * step;
    take(Math.min(high, Math.max(low, Number(next.toPrecision(6)))));
    show();
  });
  show();
  return {
    element: el("div", { class: bare ? "number bare" : "number" }, name, input, allowed),
    input,
    set(v) { now = v; if (!input.matches(":focus")) show(); },
    get value() { return now; },
  };
}

/**
 * A slider with a number beside it. On a log scale unless `log` is false; typing may leave the slider's range within
 * `least` and `most`; with `zero` the left end is 0. onInput(value) with every move, onChange(value) when it comes to rest.
 */
export function logSlider({ label: key, value, low, high, log = true, least = log ? Number.MIN_VALUE : -Infinity, most = Infinity, integer = false, zero = false, onInput, onChange, help = null }) {
  const id = nextId();
  const STEPS = 600;
  const range = /** @type {HTMLInputElement} */ (el("input", { id, type: "range", min: 0, max: STEPS, step: 1 }));
  const to = (v) => (log && zero && v <= 0 ? 0 : log ? Math.log(Math.max(v, low) / low) / Math.log(high / low) : (v - low) / (high - low));
  const from = (p) => {
    if (log && zero && p === 0) return 0;
    const v = log ? low * (high / low) ** p : low + p * (high - low);
    return integer ? Math.round(v) : Number(v.toPrecision(3));
  };
  let now = value;
  const show = () => {
    const p = Math.min(1, Math.max(0, to(now)));
    range.value = String(Math.round(p * STEPS));
    range.style.setProperty("--at", `${100 * p}%`);
    range.setAttribute("aria-valuetext", written(now));
  };
  const typed = number({
    label: key, value, low: least, high: most, log, integer, step: integer ? 1 : (high - low) / 100, bare: true,
    onInput: (v) => { now = v; show(); onInput?.(v); onChange?.(v); },
  });
  range.addEventListener("input", () => {
    now = from(Number(range.value) / STEPS);
    show();
    typed.set(now);
    onInput?.(now);
  });
  range.addEventListener("change", () => onChange?.(now));
  const name = el("label", { for: id, t: key, class: "name-of" });
  if (help) label(name, "title", "tTitle", help);
  show();
  return {
    element: el("div", { class: "slider" }, name, range, typed.element),
    range,
    input: typed.input,
    set(v) { now = v; show(); typed.set(v); },
    setRange(l, h) { low = l; high = h; show(); },
    get value() { return now; },
  };
}

/** A menu. options: [{value, label (key or {text}), group?}]. onChange(value). */
export function select({ label: key, options, value, onChange, bare = false }) {
  const id = nextId();
  const menu = /** @type {HTMLSelectElement} */ (el("select", { id }));
  const fill = (list) => {
    menu.replaceChildren();
    const groups = new Map();
    for (const o of list) {
      let into = /** @type {HTMLElement} */ (menu);
      if (o.group) {
        if (!groups.has(o.group)) {
          const g = el("optgroup");
          label(g, "label", "tGroup", o.group);
          groups.set(o.group, g);
          menu.append(g);
        }
        into = groups.get(o.group);
      }
      into.append(el("option", { value: o.value, t: o.label }));
    }
  };
  fill(options);
  menu.value = value;
  menu.addEventListener("change", () => onChange?.(menu.value));
  return {
    element: el("div", { class: bare ? "select bare" : "select" }, el("label", { for: id, t: key, class: bare ? "aloud" : "name-of" }), menu),
    menu,
    set(v) { menu.value = v; },
    setOptions(list) { const v = menu.value; fill(list); menu.value = v; },
    get value() { return menu.value; },
  };
}

/** A switch (checkbox) with its label. onChange(checked). */
export function toggle({ label: key, value, onChange }) {
  const id = nextId();
  const box = /** @type {HTMLInputElement} */ (el("input", { id, type: "checkbox" }));
  box.checked = value;
  box.addEventListener("change", () => onChange?.(box.checked));
  return {
    element: el("div", { class: "toggle" }, box, el("label", { for: id, t: key })),
    box,
    set(v) { box.checked = v; },
    get value() { return box.checked; },
  };
}

/** One of a few, side by side. options: [{value, label}]. onChange(value). */
export function choice({ label: key, options, value, onChange }) {
  const name = nextId();
  const inputs = new Map();
  const group = el("div", { class: "choice", role: "radiogroup", tLabel: key });
  for (const o of options) {
    const id = nextId();
    const input = /** @type {HTMLInputElement} */ (el("input", { id, type: "radio", name, value: o.value }));
    input.checked = o.value === value;
    input.addEventListener("change", () => { if (input.checked) onChange?.(o.value); });
    inputs.set(o.value, input);
    group.append(el("span", {}, input, el("label", { for: id, t: o.label })));
  }
  return {
    element: group,
    set(v) { for (const [k, input] of inputs) input.checked = k === v; },
    get value() { return [...inputs].find(([, i]) => i.checked)?.[0]; },
  };
}

/** Tabs: items [{id, label, panel}]; arrow keys move between them. onChange(id). */
export function tabs({ label: key, items, value, onChange }) {
  const list = el("div", { class: "tabs", role: "tablist", tLabel: key });
  const panels = el("div", { class: "panels" });
  const heads = new Map();
  let now = value;
  const show = (id) => {
    now = id;
    for (const item of items) {
      const on = item.id === id;
      const head = heads.get(item.id);
      head.setAttribute("aria-selected", String(on));
      head.tabIndex = on ? 0 : -1;
      item.panel.hidden = !on;
    }
  };
  items.forEach((item, i) => {
    const id = nextId();
    const head = el("button", { type: "button", role: "tab", id, t: item.label, "aria-controls": `${id}p` });
    item.panel.id = `${id}p`;
    item.panel.setAttribute("role", "tabpanel");
    item.panel.setAttribute("aria-labelledby", id);
    head.addEventListener("click", () => { show(item.id); onChange?.(item.id); });
    head.addEventListener("keydown", (e) => {
      const way = e.key === "ArrowRight" ? 1 : e.key === "ArrowLeft" ? -1 : 0;
      if (!way) return;
      e.preventDefault();
      const next = items[(i + way + items.length) % items.length];
      show(next.id);
      heads.get(next.id).focus();
      onChange?.(next.id);
    });
    heads.set(item.id, head);
    list.append(head);
    panels.append(item.panel);
  });
  show(value);
  return { element: el("div", { class: "tabbed" }, list, panels), set: show, head: (id) => heads.get(id), get value() { return now; } };
}

const ICONS = {
  play: "M5 3.500v13l11-6.500z", pause: "M5 3.500h3.500v13H5zm6.500 0H15v13h-3.500z",
  step: "M4 3.500v13l8-6.500zm9.500 0H16v13h-2.500z", back: "M16 3.500v13L8 10zm-12 0h2.500v13H4z",
  reset: "M10 4V1.200L5.800 5.200 10 9.200V6.200a4.300 4.300 0 1 1-4.300 4.300H3.500A6.500 6.500 0 1 0 10 4z",
};

/** An icon of the transport. */
export function icon(name) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(ns, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * Play, step, back, reset, a slider over the steps, and a speed (steps a second). The caller holds the time:
 * onSeek(t, clock) when it is set, by a clock or by hand; `set({t, total, playing})` shows it.
 */
export function transport({ onSeek, onPlay = null, speed = 30, onSpeed = null, label: key = "shell.steps" }) {
  let at = 0, total = 0, playing = false, from = 0, since = 0, frame = 0, rate = speed;
  const round = (name, tLabel, click) => {
    const b = el("button", { type: "button", class: "round", tLabel, tTitle: tLabel }, icon(name));
    b.addEventListener("click", click);
    return b;
  };
  const play = round("play", "shell.play", () => setPlaying(!playing));
  const reset = round("reset", "shell.reset", () => { setPlaying(false); seek(0); });
  const back = round("back", "shell.back", () => { setPlaying(false); seek(at - 1); });
  const step = round("step", "shell.step", () => { setPlaying(false); seek(at + 1); });
  const range = /** @type {HTMLInputElement} */ (el("input", { type: "range", min: 0, max: 0, step: 1, value: 0, tLabel: key }));
  range.addEventListener("input", () => { setPlaying(false); seek(Number(range.value)); });
  const count = el("output", { class: "count" });
  const speeds = select({
    label: "shell.speed", bare: true, value: String(speed),
    options: [1, 3, 10, 30, 100, 300].map((s) => ({ value: String(s), label: { text: `${s}/s` } })),
    onChange: (v) => { rate = Number(v); from = at; since = performance.now(); onSpeed?.(rate); },
  });
  function seek(t, clock = false) {
    at = Math.min(total, Math.max(0, t));
    show();
    onSeek(at, clock);
  }
  function show() {
    range.max = String(total);
    range.value = String(at);
    range.style.setProperty("--at", `${total ? 100 * at / total : 0}%`);
    const width = String(total).length;
    count.textContent = `${String(at).padStart(width, "\u2007")} / ${total}`;
    /** @type {HTMLButtonElement} */ (back).disabled = at <= 0;
    /** @type {HTMLButtonElement} */ (reset).disabled = at <= 0;
    /** @type {HTMLButtonElement} */ (step).disabled = at >= total;
  }
  function tick(now) {
    if (!playing) return;
    const t = Math.floor(from + (now - since) * rate / 1000);
    if (t !== at) seek(t, true);
    if (at >= total) { setPlaying(false); return; }
    frame = requestAnimationFrame(tick);
  }
  function setPlaying(on) {
    if (on === playing) return;
    playing = on;
    play.replaceChildren(icon(on ? "pause" : "play"));
    label(play, "aria-label", "tLabel", on ? "shell.pause" : "shell.play");
    label(play, "title", "tTitle", on ? "shell.pause" : "shell.play");
    cancelAnimationFrame(frame);
    if (on) {
      if (at >= total) seek(0, true);
      from = at;
      since = performance.now();
      frame = requestAnimationFrame(tick);
    }
    onPlay?.(on);
  }
  show();
  return {
    element: el("div", { class: "transport" }, el("div", { class: "buttons" }, reset, back, play, step), range, count, speeds.element),
    range,
    buttons: { play, step, back, reset },
    set(s) {
      if (s.total === total && s.t === at) return;
      if (s.total !== undefined) total = s.total;
      if (s.t !== undefined) at = Math.min(total, s.t);
      show();
    },
    setPlaying,
    setSpeed(s) { rate = s; speeds.set(String(s)); },
    get t() { return at; },
    get playing() { return playing; },
  };
}
