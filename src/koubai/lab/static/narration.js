// @ts-check
// One step, term by term: each line of the rule with its numbers, and the same quantities as arrows on the field.

import { arrow } from "./field.js";
import { css } from "./marks.js";
import { number } from "./text.js";
import { el } from "./widgets.js";

const INERTIA = ["b", "m_hat", "m", "v"];

const written = (v) => {
  if (Array.isArray(v)) return v.length > 4 ? `(${v.slice(0, 3).map((x) => number(x)).join(", ")}, …)` : `(${v.map((x) => number(x)).join(", ")})`;
  return typeof v === "number" ? number(v) : String(v);
};
/** Of "where(t == 1, a, b)" the branch that this step takes. */
const branch = (f, t) => {
  const found = /^where\(t == 1, (\w+), (.*)\)$/.exec(f);
  return found ? found[t === 0 ? 1 : 2] : f;
};
/** A formula in the engine's own letters, with the signs that people write. */
const pretty = (f, t = 1) => branch(f, t).replaceAll(" * ", " · ").replaceAll("**", "^").replaceAll("beta1", "β₁").replaceAll("beta2", "β₂")
  .replaceAll("sqrt", "√").replace(/\blr\b/g, "η").replace(/\beps\b/g, "ε").replaceAll(" - ", " − ");

/** The panel. `render(step, name)` shows an answer of "step"; onLit(name|null) hears which line is pointed at. */
export function createNarration({ lab, onLit }) {
  const head = el("p", { class: "hint" });
  const terms = el("div", { class: "terms" });
  const legend = el("p", { class: "hint", t: "descent.arrow_scale", hidden: true });
  const element = el("div", {}, head, terms, legend);
  let lit = null;

  function row({ id, dot, math, value, what }) {
    const left = el("span", { class: "math" }, dot ? el("i", { class: `dot arrow-${dot}` }) : null, math);
    const r = el("div", { class: "term", tabindex: dot ? "0" : null }, left, el("span", { class: "value" }, value), what ? el("span", { class: "what", t: what }) : null);
    if (dot) {
      const on = () => { lit = id; r.classList.add("lit"); onLit(id); };
      const off = () => { lit = null; r.classList.remove("lit"); onLit(null); };
      r.addEventListener("pointerenter", on);
      r.addEventListener("pointerleave", off);
      r.addEventListener("focus", on);
      r.addEventListener("blur", off);
    }
    return r;
  }

  function render(step, name, times = 1) {
    if (!step) {
      head.textContent = "";
      lab.say(head, "descent.no_step");
      terms.replaceChildren();
      legend.hidden = true;
      return;
    }
    legend.hidden = false;
    lab.say(legend, times === 1 ? "descent.arrow_scale" : "descent.arrow_times", { times: number(times) });
    lab.say(head, "descent.step_of", { t: step.t, next: step.t + 1, name });
    const inertia = inertiaOf(step);
    const rows = [
      row({ id: "x", math: "x", value: written(step.x) }),
      row({ id: "f", math: "f(x)", value: written(step.f) }),
      row({ id: "gradient", dot: step.x.length === 2 ? "gradient" : null, math: "g = ∇f(x)", value: written(step.g), what: "descent.what_gradient" }),
    ];
    for (const term of step.terms) {
      if (term.name === "x") continue;
      rows.push(row({
        id: term.name === inertia?.name ? "momentum" : term.name, dot: term.name === inertia?.name ? "momentum" : null,
        math: `${term.name} = ${pretty(term.formula, step.t)}`, value: written(term.value),
        what: lab.text.has(`descent.what_${term.name}`) ? `descent.what_${term.name}` : null,
      }));
    }
    const last = step.terms.findLast((x) => x.name === "x");
    rows.push(
      row({ id: "step", dot: "step", math: `x ← ${last && !/^end/.test(last.formula) ? pretty(last.formula, step.t) : "x + Δx"}`, value: written(step.x_next), what: "descent.what_step" }),
      row({ id: "dx", math: "Δx", value: written(step.step) }),
      row({ id: "fnext", math: "f(x)", value: `${written(step.f)} → ${written(step.f_next)}` }),
    );
    terms.replaceChildren(...rows);
  }
  return { element, render, get lit() { return lit; } };
}

/** The term that carries what earlier gradients left, if the rule has one: b, m or their like. */
export function inertiaOf(step) {
  const n = step.x.length;
  for (const name of INERTIA) {
    const term = step.terms.find((x) => x.name === name && Array.isArray(x.value) && x.value.length === n);
    if (!term) continue;
    if (name === "v" && !/momentum|\bg\b(?!\s*\*\s*g)/.test(term.formula)) continue;
    if (/g \* g|g\*\*2/.test(term.formula)) continue;
    return term;
  }
  return null;
}

/** What earlier gradients add to this step: of "b = momentum · b + g" what was left of b; of an average the average. */
function carried(step) {
  const term = inertiaOf(step);
  if (!term) return null;
  return term.name === "b" ? term.value.map((v, i) => v - step.g[i]) : term.value;
}

/** The arrows of a step in the plane: −lr·g, −lr·inertia, and the step that is made. */
function arrowsOf(step) {
  const found = { gradient: step.g.map((g) => -step.lr * g) };
  const inertia = carried(step);
  if (inertia) found.momentum = inertia.map((m) => -step.lr * m);
  found.step = step.step;
  return found;
}

/** How many times longer than at the field's scale all arrows of a step are drawn, so that the longest can be seen. */
export function magnified(step, field) {
  if (!step || step.x.length !== 2) return 1;
  const [x, y] = [field.X(step.x[0]), field.Y(step.x[1])];
  const longest = Math.max(...Object.values(arrowsOf(step)).map((v) => Math.hypot(field.X(step.x[0] + v[0]) - x, field.Y(step.x[1] + v[1]) - y)));
  if (!(longest > 0) || longest >= 80) return 1;
  const wanted = Math.min(1e15, 120 / longest), power = 10 ** Math.floor(Math.log10(wanted));
  return [5, 2, 1].map((k) => k * power).find((k) => k <= wanted) ?? 1;
}

/** Draw the arrows of a step on a field, all at one scale; `lit` is the one that is pointed at. */
export function paintStep(c, field, step, lit) {
  if (!step || step.x.length !== 2) return;
  const [w, h] = field.size;
  const from = [field.X(step.x[0]), field.Y(step.x[1])];
  const casing = css("--raised");
  const times = magnified(step, field);
  for (const [id, v] of Object.entries(arrowsOf(step))) {
    let dx = (field.X(step.x[0] + v[0]) - from[0]) * times, dy = (field.Y(step.x[1] + v[1]) - from[1]) * times;
    const long = Math.hypot(dx, dy), most = Math.hypot(w, h);
    if (long > most) { dx *= most / long; dy *= most / long; }
    c.globalAlpha = lit && lit !== id ? 0.25 : 1;
    arrow(c, from[0], from[1], from[0] + dx, from[1] + dy, { color: css(`--arrow-${id}`), casing, width: lit === id ? 4 : id === "step" ? 2 : 3 });
    c.globalAlpha = 1;
  }
}
