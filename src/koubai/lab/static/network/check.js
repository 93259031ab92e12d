// @ts-check
// Backpropagation against numerical differences, at the weights of now: do they agree, and what did each cost?

import { Refused, Superseded } from "../connection.js";
import { button, el } from "../widgets.js";

/**
 * @param {{lab: any, arguments_: () => {spec: any, epoch: number} | null, begin: () => void}} options
 *   arguments_: what is checked, null if there is nothing; begin is called before
 */
export function createCheck({ lab, arguments_, begin }) {
  const checkButton = button("network.check", () => check(), { kind: "primary" });
  const checked = el("div", { class: "section-body", "aria-live": "polite" });
  const element = el("div", {}, el("p", { class: "hint", t: "network.check_hint" }), el("div", { class: "buttons-row" }, checkButton), checked);

  async function check() {
    const given = arguments_();
    if (!given) return;
    begin();
    checked.replaceChildren(el("p", { class: "hint", t: "network.checking" }));
    try {
      const a = await lab.ask("network.check", "check", given);
      if (!element.isConnected) return;
      lab.report("network", { check: { agrees: a.agrees, largest: a.largest, backprop: a.backprop.evaluations, numerical: a.numerical.evaluations, parameters: a.parameters } });
      const ms = (s) => `${(1000 * s).toFixed(1)} ms`;
      const row = (key, value) => el("p", {}, el("span", { t: key }), el("b", {}, value));
      const body = el("tbody", {}, ...a.components.map(([name, own, other]) => el("tr", {}, el("td", {}, name), el("td", {}, own.toPrecision(9).replace("-", "−")), el("td", {}, other.toPrecision(9).replace("-", "−")))));
      const sentence = el("p", {});
      lab.say(sentence, a.agrees ? "network.agree" : "network.disagree");
      checked.replaceChildren(sentence,
        el("div", { class: "agree" }, row("network.largest", `${a.largest.toExponential(1).replace("-", "−")}  (${a.at})`),
          row("network.cost_backprop", lab.t("network.evaluations", { n: a.backprop.evaluations, ms: ms(a.backprop.seconds) })),
          row("network.cost_numerical", lab.t("network.evaluations", { n: a.numerical.evaluations, ms: ms(a.numerical.seconds) }))),
        ...(a.checked < a.parameters ? [note("network.in_part", { n: a.checked, all: a.parameters })] : []),
        el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", { t: "network.component", scope: "col" }), el("th", { t: "network.by_backprop", scope: "col" }), el("th", { t: "network.by_difference", scope: "col" }))), body)));
      lab.announce(sentence.textContent ?? "");
    } catch (error) {
      if (error instanceof Superseded || !element.isConnected) return;
      if (!(error instanceof Refused)) throw error;
      checked.replaceChildren(el("p", { class: "complaint" }, error.message));
    }
  }
  function note(key, args) {
    const p = el("p", { class: "hint" });
    lab.say(p, key, args);
    return p;
  }

  return { element };
}
