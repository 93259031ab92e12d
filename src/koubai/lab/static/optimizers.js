// @ts-check
// The optimizers that descend side by side, and every hyperparameter of the chosen one.

import { swatch } from "./marks.js";
import { number as written, t } from "./text.js";
import { button, choice, el, logSlider, number, section, select, toggle } from "./widgets.js";

const GROUPS = [
  ["plain", ["SGD", "Momentum", "Nesterov"]],
  ["adaptive", ["Adagrad", "RMSprop", "Adadelta", "Adam", "AMSGrad", "AdamW", "Adamax", "NAdam", "RAdam", "AdaBelief", "Yogi", "Adan", "NovoGrad", "Lamb", "Adafactor", "Ftrl", "Lion", "Rprop", "ASGD", "Lars", "Muon"]],
  ["free", ["DoG", "DoWG", "DAdaptAdamW", "Prodigy", "MoMo", "PolyakSGD", "COCOB", "ScheduleFreeSGD", "ScheduleFreeAdamW"]],
  ["search", ["GradientDescent", "BarzilaiBorwein", "ConjugateGradient", "LBFGS", "LevenbergMarquardt"]],
];
const GREEK = { momentum: "β", beta1: "β₁", beta2: "β₂", beta3: "β₃", alpha: "α", rho: "ρ", eps: "ε" };
export const MOST = 12;

/** A rate that a person may begin with on a bench, where a thousandth goes nowhere in a hundred steps. */
export function firstRate(entry) {
  return { SGD: 0.1, Momentum: 0.05, Nesterov: 0.05, Adagrad: 1, RMSprop: 0.1, Lion: 0.1, Rprop: 0.1 }[entry.name]
    ?? (entry.lr < 0.1 ? 0.2 : entry.lr);
}

/** The entry of the catalogue for an optimizer of the state. */
export function entryOf(lab, optimizer) {
  return lab.catalogue.optimizers.find((o) => o.name === optimizer.name) ?? lab.catalogue.optimizers.find((o) => o.key === String(optimizer.name).toLowerCase());
}

/** What is sent to the engine: without the page's own field. */
export function plainOptimizer({ off, ...rest }) { return rest; }

/** The names of the optimizers as they are written at their paths: a second Adam is "Adam 2". */
export function labelsOf(optimizers) {
  const seen = new Map();
  return optimizers.map((o) => {
    const n = (seen.get(o.name) ?? 0) + 1;
    seen.set(o.name, n);
    return n === 1 ? o.name : `${o.name} ${n}`;
  });
}

function grouped(lab, filter) {
  const by = new Map(lab.catalogue.optimizers.map((o) => [o.name, o]));
  const options = [];
  const placed = new Set();
  for (const [group, names] of GROUPS) {
    for (const name of names) {
      if (by.has(name) && filter(by.get(name))) { options.push({ value: name, label: { text: name }, group: `shell.optimizers_${group}` }); placed.add(name); }
    }
  }
  for (const o of lab.catalogue.optimizers) if (!placed.has(o.name) && filter(o)) options.push({ value: o.name, label: { text: o.name }, group: "shell.group_others" });
  return options;
}

/**
 * The list. get() and set(list, chosen) read and write the state.
 * @param {{lab: any, get: () => {optimizers: any[], chosen: number}, set: (list: any[], chosen: number) => void}} options
 */
export function createOptimizerList({ lab, get, set }) {
  const list = el("ul", { class: "optimizers" });
  const add = select({
    label: "descent.add", bare: true, value: "",
    options: [{ value: "", label: "descent.add" }, ...grouped(lab, () => true)],
    onChange: (name) => {
      add.set("");
      const { optimizers } = get();
      const entry = lab.catalogue.optimizers.find((o) => o.name === name);
      if (!entry || optimizers.length >= MOST) return;
      set([...optimizers, { name, ...(entry.searches ? {} : { lr: firstRate(entry) }) }], optimizers.length);
    },
  });
  const made = section("descent.optimizers", list);
  made.end.append(add.element);
  let rows = [], built = "";

  function update(results = []) {
    const { optimizers, chosen } = get();
    const labels = labelsOf(optimizers);
    const key = labels.join();
    if (key !== built) {
      built = key;
      rows = optimizers.map((o, i) => {
        const box = toggle({ label: { text: "" }, value: !o.off, onChange: (on) => {
          set(get().optimizers.map((other, k) => (k === i ? { ...plainOptimizer(other), ...(on ? {} : { off: true }) } : other)), get().chosen);
        } });
        box.box.setAttribute("aria-label", labels[i]);
        const pick = el("button", { type: "button", class: "pick" }, labels[i]);
        pick.addEventListener("click", () => set(get().optimizers, i));
        const f = el("span", { class: "f" });
        const drop = el("button", { type: "button", class: "drop", "aria-label": `${t("descent.remove")} ${labels[i]}`, tTitle: "descent.remove" }, "×");
        drop.addEventListener("click", () => {
          const now = get();
          const rest = now.optimizers.filter((_, k) => k !== i);
          if (rest.length) set(rest, Math.min(now.chosen > i ? now.chosen - 1 : now.chosen, rest.length - 1));
        });
        const row = el("li", {}, box.box, swatch(i), pick, f, drop);
        return { row, box, pick, f, drop };
      });
      list.replaceChildren(...rows.map((r) => r.row));
    }
    rows.forEach((r, i) => {
      r.row.classList.toggle("chosen", i === chosen);
      r.row.classList.toggle("off", !!optimizers[i].off);
      r.pick.setAttribute("aria-pressed", String(i === chosen));
      r.box.set(!optimizers[i].off);
      r.drop.hidden = optimizers.length === 1;
      const run = results[i];
      r.f.textContent = optimizers[i].off || !run ? "" : run.status === "failed" ? "–" : `f = ${written(run.fun, 3)}`;
    });
  }
  return { element: made.element, update, add: add.menu, rows: () => rows };
}

const slidable = (h) => h.kind === "number" && !h.may_be_none;

/** The slider of a hyperparameter: its range from what the engine allows and where its default lies. */
function sliderFor(h, value, fallback, onInput) {
  const label = { text: GREEK[h.name] ? `${GREEK[h.name]}  ${h.name}` : h.name };
  const low = h.low ?? -Infinity, high = h.high ?? Infinity;
  const above = low + (h.low_allowed === false ? Math.max(1e-12, Math.abs(low) * 1e-9) : 0);
  const below = high - (h.high_allowed === false ? 1e-9 : 0);
  if (low === 0 && high === 1) {
    return logSlider({ label, value, low: 0, high: 0.999, log: false, least: above, most: below, onInput });
  }
  if (low === 0 && high === Infinity) {
    const centre = fallback > 0 ? fallback : 1e-2;
    return logSlider({ label, value, low: centre / 1e4, high: centre * 1e4, zero: h.low_allowed !== false, least: above, most: 1e300, onInput });
  }
  if (Number.isFinite(low) && Number.isFinite(high)) {
    return logSlider({ label, value, low: above, high: below, log: false, least: above, most: below, onInput });
  }
  return number({ label, value, low: above, high: below, step: 0.1, onInput });
}

/**
 * The hyperparameters of one optimizer. get(): the optimizer; set(optimizer). `rate`: an element for the rate (the strip).
 */
export function createHyperparameters({ lab, get, set, rate }) {
  const formula = el("pre", { class: "rule" });
  const main = el("div", { class: "section-body" });
  const more = el("div", { class: "section-body" });
  const details = el("details", { class: "more" }, el("summary", { t: "descent.more" }), more);
  const element = el("div", { class: "section-body" }, main, details);
  let built = "", controls = new Map();

  const change = (name, value, fallback) => {
    const next = { ...get() };
    if (value === fallback) delete next[name];
    else next[name] = value;
    set(next);
  };

  function update() {
    const optimizer = get();
    const entry = entryOf(lab, optimizer);
    if (!entry) return;
    const framework = optimizer.semantics ?? entry.semantics[0];
    const defaults = entry.defaults[framework] ?? {};
    const key = `${entry.name}|${framework}`;
    if (key !== built) {
      built = key;
      controls = new Map();
      main.replaceChildren();
      more.replaceChildren();
      rate.hidden = !!entry.searches;
      formula.textContent = entry.formula;
      for (const h of entry.hyperparameters) {
        const fallback = defaults[h.name] ?? h.default;
        const name = h.name;
        const value = optimizer[name] ?? fallback;
        let control;
        if (h.kind === "flag") control = toggle({ label: { text: name }, value, onChange: (v) => change(name, v, fallback) });
        else if (h.kind === "word") control = select({ label: { text: name }, value, options: h.words.map((w) => ({ value: w, label: { text: w } })), onChange: (v) => change(name, v, fallback) });
        else if (h.kind === "whole") control = number({ label: { text: name }, value, low: h.low, high: h.high ?? Infinity, integer: true, onInput: (v) => change(name, v, fallback) });
        else if (slidable(h)) control = sliderFor(h, value, fallback, (v) => change(name, v, fallback));
        else control = number({ label: { text: name }, value, low: h.low, high: h.high, log: true, optional: true, onInput: (v) => change(name, v, fallback) });
        control.element.title = h.meaning ?? "";
        controls.set(name, { control, fallback });
        const first = slidable(h) && !h.shared && !/eps|dampening|accumulator|decay$/.test(name);
        (first ? main : more).append(control.element);
      }
      if (entry.semantics.length > 1) {
        const names = { torch: "PyTorch", keras: "Keras", optax: "optax", paper: "paper" };
        const pick = choice({
          label: "descent.semantics", value: framework,
          options: entry.semantics.map((s) => ({ value: s, label: { text: names[s] ?? s } })),
          onChange: (s) => { const next = { ...get() }; if (s === entry.semantics[0]) delete next.semantics; else next.semantics = s; set(next); },
        });
        more.prepend(el("div", { class: "select" }, el("span", { class: "name-of", t: "descent.semantics" }), pick.element));
      }
      more.append(formula);
    }
    for (const [name, { control, fallback }] of controls) control.set(optimizer[name] ?? fallback);
  }
  return { element, update };
}

/** A menu of one optimizer, for the basin room. */
export function optimizerMenu({ lab, value, onChange, label = "descent.optimizer", filter = () => true }) {
  return select({ label, value, options: grouped(lab, filter), onChange });
}
