// @ts-check
// One optimizer to choose: its name, its rate, and its hyperparameters.

import { createHyperparameters, entryOf, firstRate, optimizerMenu } from "./optimizers.js";
import { el, logSlider } from "./widgets.js";

/**
 * The controls of one optimizer. get() and set(optimizer) read and write the state; filter(entry): which are offered.
 * @param {{lab: any, get: () => any, set: (optimizer: any) => void, filter?: (entry: any) => boolean, first?: (entry: any) => number}} options
 */
export function optimizerControls({ lab, get, set, filter = () => true, first = firstRate }) {
  const menu = optimizerMenu({
    lab, value: get().name, filter, label: "network.optimizer",
    onChange(name) {
      const entry = lab.catalogue.optimizers.find((o) => o.name === name);
      set({ name, ...(entry.searches ? {} : { lr: first(entry) }) });
    },
  });
  const rate = logSlider({
    label: "network.rate", value: get().lr ?? 0.1, low: 1e-5, high: 10, least: 1e-15, most: 1e6,
    onInput: (lr) => set({ ...get(), lr }),
  });
  const hyper = createHyperparameters({ lab, get, set, rate: rate.element });
  const update = () => {
    menu.set(entryOf(lab, get())?.name ?? get().name);
    if (get().lr !== undefined) rate.set(get().lr);
    hyper.update();
  };
  update();
  return { element: el("div", { class: "section-body" }, menu.element, rate.element, hyper.element), rate, menu, update };
}
