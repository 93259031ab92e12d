// @ts-check
// Which function: one of the catalogue, or one that is typed, with its errors under the caret while typing.

import { Refused, Superseded } from "./connection.js";
import { el, section, select } from "./widgets.js";

/** The groups of the catalogue, as people look for them. */
const GROUPS = [
  ["bowls", ["sphere", "shifted_bowl", "elongated_bowl", "ill_conditioned", "matyas", "booth", "zakharov"]],
  ["valleys", ["rosenbrock", "dixon_price", "beale", "freudenstein_roth", "goldstein_price"]],
  ["odd", ["saddle", "monkey_saddle", "plateau", "easom"]],
  ["several", ["himmelblau", "three_hump_camel", "six_hump_camel", "branin", "mccormick", "peaks"]],
  ["many", ["egg_crate", "styblinski_tang", "rastrigin", "ackley", "levy", "griewank"]],
];
const OWN = "own";

/** A name of the catalogue for people: "six_hump_camel" is "Six-hump camel". */
export function problemTitle(name) {
  const words = name.replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
}

/**
 * The picker of a room for functions of `dimension` variables.
 * value(): the function now; draft(): the text typed last. onFunction(function, problem|null); onDraft(text).
 * @param {{lab: any, room: string, dimension: number, value: () => any, draft: () => string, onFunction: Function, onDraft: Function}} options
 */
export function createFunctionPicker({ lab, room, dimension, value, draft, onFunction, onDraft }) {
  const problems = new Map(lab.catalogue.problems.filter((p) => p.dimension === dimension).map((p) => [p.name, p]));
  const options = [{ value: OWN, label: "shell.own_function" }];
  const placed = new Set();
  for (const [group, names] of GROUPS) {
    for (const name of names) {
      if (problems.has(name)) { options.push({ value: name, label: { text: problemTitle(name) }, group: `shell.group_${group}` }); placed.add(name); }
    }
  }
  for (const name of problems.keys()) if (!placed.has(name)) options.push({ value: name, label: { text: problemTitle(name) }, group: "shell.group_others" });

  const menu = select({ label: "shell.function", bare: true, options, value: OWN, onChange: choose });
  const formula = el("p", { class: "formula" });
  const input = /** @type {HTMLInputElement} */ (el("input", {
    type: "text", class: "line-input", spellcheck: "false", autocomplete: "off", autocapitalize: "off", maxlength: 1000,
    tLabel: "shell.expression", "aria-describedby": `${room}-complaint`,
  }));
  const before = el("span", { class: "before" }), at = el("span", { class: "at" });
  const caret = el("div", { class: "caret", "aria-hidden": "true" }, before, at);
  const complaint = el("p", { class: "complaint", id: `${room}-complaint`, role: "status" });
  const typed = el("div", { class: "typed" }, input, caret, complaint);
  const made = section("shell.function", formula, typed);
  made.end.append(menu.element);

  function choose(name) {
    if (name === OWN) {
      show(true);
      input.focus();
      input.select();
      check();
      return;
    }
    complain(null);
    onFunction({ problem: name }, problems.get(name));
  }

  let complained = /** @type {any} */ (undefined);
  function complain(refused) {
    if (!refused && complained === null) return; // this is called at each move of a hand
    complained = refused;
    const place = refused?.position ?? null;
    complaint.classList.toggle("calm", !refused);
    if (refused) { delete complaint.dataset.t; complaint.textContent = refused.message; } else lab.say(complaint, dimension === 1 ? "shell.typed_hint_1" : "shell.typed_hint");
    if (refused) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
    before.textContent = place ? input.value.slice(0, place[0]) : "";
    at.textContent = place ? "^".repeat(Math.max(1, Math.min(place[1], input.value.length + 1) - place[0])) : "";
    caret.scrollLeft = input.scrollLeft;
    lab.report(room, { complaint: refused ? { message: refused.message, position: place } : null });
  }

  async function check() {
    const text = input.value;
    onDraft(text);
    try {
      await lab.ask(`${room}.parse`, "parse", { expression: text, dimension });
    } catch (error) {
      if (error instanceof Superseded) return;
      if (!(error instanceof Refused)) throw error;
      if (menu.value === OWN && input.value === text) complain(error);
      return;
    }
    if (menu.value !== OWN || input.value !== text) return;
    complain(null);
    onFunction({ expression: text }, null);
  }
  input.addEventListener("input", check);
  input.addEventListener("scroll", () => { caret.scrollLeft = input.scrollLeft; });

  function show(own) {
    menu.set(own ? OWN : value().problem);
    typed.hidden = !own;
    formula.hidden = own;
  }

  /** Show what the state says. */
  function set() {
    const f = value();
    if (f.problem && problems.has(f.problem)) {
      const p = problems.get(f.problem);
      formula.textContent = p.formula;
      formula.title = p.formula;
      if (!input.matches(":focus")) { input.value = draft(); show(false); complain(null); }
    } else {
      if (!input.matches(":focus")) {
        const text = draft() && draft() !== f.expression ? draft() : f.expression;
        input.value = text;
        show(true);
        // a text that could not be read when the page was left is still there, and still says why
        if (text !== f.expression) check();
        else complain(null);
      } else show(true);
    }
  }
  set();
  return { element: made.element, menu: menu.menu, input, set, problems, onLanguage() { if (!typed.hidden && input.getAttribute("aria-invalid")) check(); } };
}
