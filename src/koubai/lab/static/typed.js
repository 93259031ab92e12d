// @ts-check
// A function to type: checked by the engine as it is typed, with the fault under the caret; the last good one stays.

import { Refused, Superseded } from "./connection.js";
import { el, select } from "./widgets.js";

/**
 * @param {any} lab
 * @param {{view: string, label: string, hint: string, value: {problem?: string, expression?: string}, problems: any[],
 *   dimension: number, onChange: (f: {problem?: string, expression?: string}) => void}} options
 *   problems: those of the catalogue that are offered; onChange hears of good functions only
 */
export function typedFunction(lab, { view, label, hint, value, problems, dimension, onChange }) {
  const input = /** @type {HTMLInputElement} */ (el("input", {
    type: "text", class: "line-input", spellcheck: "false", autocomplete: "off", autocapitalize: "off", tLabel: label,
  }));
  const caret = el("div", { class: "caret", "aria-hidden": "true" });
  const complaint = el("p", { class: "complaint", role: "status" });
  const id = `complaint-${view.replace(/\W/g, "-")}`;
  complaint.id = id;
  input.setAttribute("aria-describedby", id);
  const TYPED = "";
  const menu = select({
    label: hint, bare: true, value: value.problem ?? TYPED,
    options: [{ value: TYPED, label: "derivative.typed" }, ...problems.map((p) => ({ value: p.name, label: { text: `${p.name}   ${p.formula}` } }))],
    onChange(name) {
      clear();
      if (name === TYPED) { input.focus(); input.select(); return; }
      now = { problem: name };
      show();
      onChange(now);
    },
  });
  let now = value, timer = 0;

  function clear() {
    caret.textContent = "";
    complaint.textContent = "";
    input.removeAttribute("aria-invalid");
  }
  function show() {
    const known = problems.find((p) => p.name === now.problem);
    // a known function is written as its name, so that typing over it begins with something
    input.value = now.expression ?? (known ? known.formula.replace(/^f\([^)]*\) = /, "") : "");
    menu.set(now.problem ?? TYPED);
  }
  async function check() {
    const text = input.value;
    try {
      const found = await lab.ask(view, "parse", { expression: text, dimension });
      if (input.value !== text) return;
      if (found.dimension !== undefined && found.dimension !== dimension) {
        refuse(lab.t("derivative.one_variable", { n: found.dimension, names: (found.variables ?? []).join(", ") }), null);
        return;
      }
      clear();
      now = { expression: text.trim() };
      menu.set(TYPED);
      onChange(now);
    } catch (error) {
      if (error instanceof Superseded) return;
      if (!(error instanceof Refused)) throw error;
      if (input.value === text) refuse(error.message, error.position);
    }
  }
  function refuse(message, position) {
    input.setAttribute("aria-invalid", "true");
    complaint.textContent = message;
    caret.textContent = position ? " ".repeat(position[0]) + "^".repeat(Math.max(1, position[1] - position[0])) : "";
  }
  input.addEventListener("input", () => { clearTimeout(timer); timer = window.setTimeout(check, 120); });
  input.addEventListener("keydown", (e) => { if (e.key === "Enter") { clearTimeout(timer); check(); } });
  show();
  return {
    element: el("div", { class: "typed" }, input, caret, menu.element, complaint),
    input, menu, complaint,
    set(f) { now = f; clear(); if (document.activeElement !== input) show(); },
  };
}
