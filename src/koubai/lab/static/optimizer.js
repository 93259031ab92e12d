// @ts-check
// One optimizer to choose: its name, its rate, and the hyperparameters that are its own.

import { el, logSlider, number, select, toggle } from "./widgets.js";

const FIRST = ["momentum", "nesterov", "beta1", "beta2", "alpha", "rho"]; // what is asked for most; the rest is folded away
const MOST = 5;

/**
 * The controls of one optimizer. `value` is {name, lr, …}; names: those offered. onChange(value) with every move.
 * @param {any} lab @param {{value: any, names: string[], low?: number, high?: number, onChange: (value: any) => void}} options
 */
export function optimizerControls(lab, { value, names, low = 1e-4, high = 10, onChange }) {
  const known = new Map(lab.catalogue.optimizers.map((o) => [o.name, o]));
  const element = el("div", { class: "section-body" });
  const more = el("div", { class: "section-body" });
  let now = { ...value };
  const change = (part) => { now = { ...now, ...part }; onChange(now); };
  const offered = names.filter((n) => known.has(n));
  const menu = select({
    label: "network.optimizer", options: offered.map((n) => ({ value: n, label: { text: n } })), value: now.name,
    onChange(name) {
      // the rate stays, so that two optimizers are compared at one rate; one that has its own factor takes that
      const own = known.get(name);
      const keeps = own.lr < 0.5 && (known.get(now.name)?.lr ?? 1) < 0.5;
      now = { name, lr: keeps ? now.lr : own.lr };
      rate.set(now.lr);
      fill();
      onChange(now);
    },
  });
  const rate = logSlider({ label: "network.rate", value: now.lr, low, high, least: 1e-12, most: 1e6, onInput: (lr) => change({ lr }) });
  element.append(menu.element, rate.element, more);

  function fill() {
    more.replaceChildren();
    const own = (known.get(now.name)?.hyperparameters ?? []).filter((h) => !h.shared && (h.kind === "number" || h.kind === "flag"));
    const shown = own.filter((h) => FIRST.includes(h.name)).sort((a, b) => place(a.name) - place(b.name)).slice(0, MOST);
    const rest = own.filter((h) => !shown.includes(h));
    more.append(...shown.map(control).filter(Boolean));
    if (rest.length) {
      const inner = el("div", { class: "section-body" }, ...rest.map(control).filter(Boolean));
      more.append(el("details", { class: "more" }, el("summary", { t: "network.more" }), inner));
    }
  }
  function control(h) {
    const at = now[h.name] ?? h.default;
    if (h.kind === "flag") {
      return toggle({ label: { text: h.name }, value: Boolean(at), onChange: (v) => change({ [h.name]: v }) }).element;
    }
    if (typeof at !== "number") return null;
    if (h.low === 0 && h.high === 1) {
      return logSlider({
        label: { text: h.name }, value: at, low: 0, high: 0.999, log: false, least: h.low_allowed ? 0 : 1e-12,
        most: h.high_allowed ? 1 : 1 - 1e-9, onInput: (v) => change({ [h.name]: v }),
      }).element;
    }
    return number({ label: { text: h.name }, value: at, low: h.low ?? -Infinity, high: h.high ?? Infinity, log: h.log, onInput: (v) => change({ [h.name]: v }) }).element;
  }
  const place = (name) => { const i = FIRST.indexOf(name); return i < 0 ? 99 : i; };
  fill();
  return {
    element, rate, menu,
    set(v) { now = { ...v }; menu.set(now.name); rate.set(now.lr); fill(); },
    get value() { return now; },
  };
}
