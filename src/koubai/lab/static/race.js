// @ts-check
// The race: the chosen optimizers with one budget of evaluations each, which is stated, as is what is counted.

import { Refused, unlessSuperseded } from "./connection.js";
import { swatch } from "./marks.js";
import { number as written } from "./text.js";
import { button, choice, el, logSlider } from "./widgets.js";

/**
 * The panel. ask(): the arguments (function, x0, optimizers, seed); slots(): the slot of each; budget and lr in the state.
 * onRates(rates by slot) when a person takes the tuned rates.
 */
export function createRace({ lab, arguments: args, slots, get, set, onRates }) {
  const budget = logSlider({ label: "descent.budget", value: get().budget, low: 10, high: lab.catalogue.limits.budget, integer: true, least: 1, most: lab.catalogue.limits.budget, onInput: (v) => set({ budget: v }) });
  const rates = choice({
    label: "descent.race_lr", value: get().race_lr,
    options: ["given", "tuned"].map((v) => ({ value: v, label: `descent.lr_${v}` })),
    onChange: (v) => set({ race_lr: v }),
  });
  const go = button("descent.race_go", run, { kind: "primary" });
  const take = button("descent.take_rates", () => onRates(found), { kind: "plain" });
  take.hidden = true;
  const body = el("tbody");
  const heads = ["optimizer", "rate", "tuning", "evaluations", "fun"].map((k) => el("th", { scope: "col", t: `descent.race_${k}` }));
  const table = el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ...heads)), body));
  table.hidden = true;
  const rules = el("p", { class: "hint", t: "descent.race_rules", });
  const result = el("p", { class: "hint", role: "status" });
  const element = el("div", {}, rules, budget.element, el("div", { class: "row" }, rates.element, go), result, table, take);
  let found = new Map();

  async function run() {
    go.setAttribute("aria-busy", "true");
    const own = slots();
    let answer;
    try {
      answer = await lab.ask("descent.race", "race", { ...args(), budget: get().budget, lr: get().race_lr });
    } catch (error) {
      if (error instanceof Refused) { result.textContent = error.message; return; }
      unlessSuperseded(error);
      return;
    } finally { go.removeAttribute("aria-busy"); }
    found = new Map();
    const winner = answer.tied ?? [answer.winner];
    body.replaceChildren(...answer.table.map((row) => {
      const slot = own[answer.slots.indexOf(row.name)];
      found.set(slot, row.lr);
      const lost = row.diverged || row.failed;
      return el("tr", { class: winner.includes(row.name) ? "won" : null },
        el("td", {}, swatch(slot, { width: 22 }), row.name),
        el("td", {}, row.lr === null ? "–" : written(row.lr, 3)),
        el("td", {}, written(row.tuning)),
        el("td", {}, lost ? lab.t("descent.race_lost") : Number.isFinite(row.evaluations) ? written(row.evaluations) : "–"),
        el("td", {}, written(row.fun, 3)));
    }));
    table.hidden = false;
    take.hidden = get().race_lr !== "tuned";
    lab.say(result, "descent.race_result", { budget: written(answer.budget), target: written(answer.target, 3) });
    lab.report("descent", { race: { budget: answer.budget, winner: answer.winner, table: answer.table, rules: answer.rules } });
    lab.announce(lab.t("descent.race_won", { name: answer.winner ?? "–" }));
  }
  return {
    element, go,
    update() { budget.set(get().budget); rates.set(get().race_lr); },
    /** What was raced is no longer what is shown. */
    stale() { table.classList.add("stale"); },
  };
}
