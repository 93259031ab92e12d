// @ts-check
// The settings of a network and of its training: layers and units, activation, loss; optimizer, schedule, batches, seed.

import { optimizerControls } from "../optimizer.js";
import { button, el, logSlider, number, select } from "../widgets.js";

export const ACTIVATIONS = ["tanh", "relu", "sigmoid", "leakyrelu", "gelu"];
export const LOSSES = ["crossentropy", "binarycrossentropy", "mse"];
export const INITIALIZERS = ["xavier", "he", "normal", "orthogonal", "zeros"];

/** The panel of layers and units. */
export function createLayers({ lab, state, set }) {
  const t = lab.t;
  const layerList = el("ul", { class: "layers" });
  const addLayer = button("network.add_layer", () => set({ layers: [...state.layers, state.layers[state.layers.length - 1] ?? 8] }));
  const activation = select({ label: "network.activation", value: state.activation, options: ACTIVATIONS.map((a) => ({ value: a, label: { text: a } })), onChange: (a) => set({ activation: a }) });
  const init = select({ label: "network.init", value: state.init, options: INITIALIZERS.map((a) => ({ value: a, label: { text: a } })), onChange: (a) => set({ init: a }) });
  const loss = select({ label: "network.loss", value: state.loss, options: LOSSES.map((l) => ({ value: l, label: `network.loss_${l}` })), onChange: (l) => set({ loss: l }) });
  const parameters = el("p", { class: "hint" });
  const element = el("div", {}, layerList, el("div", { class: "buttons-row" }, addLayer), parameters, activation.element, loss.element, init.element);

  let layerRows = [];
  function update() {
    if (layerRows.length !== state.layers.length) {
      layerRows = state.layers.map((units, i) => {
        const slider = logSlider({
          label: { text: t("network.layer", { n: i + 1 }) }, value: units, low: 1, high: 32, log: false, least: 1, most: 64, integer: true,
          onInput: (v) => set({ layers: state.layers.map((u, k) => (k === i ? v : u)) }),
        });
        const drop = el("button", { type: "button", class: "drop", "aria-label": `${t("network.remove_layer")} ${i + 1}` }, "×");
        drop.addEventListener("click", () => set({ layers: state.layers.filter((_, k) => k !== i) }));
        return { slider, row: el("li", {}, slider.element, drop) };
      });
      layerList.replaceChildren(...layerRows.map((r) => r.row));
    }
    layerRows.forEach((r, i) => { if (r.slider.value !== state.layers[i]) r.slider.set(state.layers[i]); });
    /** @type {HTMLButtonElement} */ (addLayer).disabled = state.layers.length >= 6;
    activation.set(state.activation);
    init.set(state.init);
    loss.set(state.loss);
  }

  update();
  return {
    element, update, activation: activation.element,
    /** How many parameters there are. */
    say(n) { parameters.textContent = t("network.parameters", { n }); },
    onLanguage() { layerRows = []; update(); },
  };
}

/** The panel of the training. points(): how many there are. */
export function createTraining({ lab, state, set, points }) {
  const tables = lab.catalogue;
  const schedules = new Map(tables.schedules.map((s) => [s.name, s.settings]));
  const allowed = new Set(tables.training_optimizers);
  const walker = optimizerControls({
    lab, get: () => state.optimizer, set: (optimizer) => set({ optimizer }), filter: (o) => allowed.has(o.name),
    first: (o) => ({ SGD: 0.1, Momentum: 0.05, Nesterov: 0.05, Adagrad: 0.1, RMSprop: 0.01, Lion: 0.003 }[o.name] ?? (o.lr < 0.1 ? 0.02 : o.lr)),
  });
  const schedule = select({
    label: "network.schedule", value: state.schedule?.name ?? "constant",
    options: tables.schedules.map((s) => ({ value: s.name, label: `network.schedule_${s.name}` })),
    onChange(name) { set({ schedule: name === "constant" ? null : { name, ...firstSettings(name) } }); },
  });
  const settings = el("div", { class: "section-body" });
  const batch = logSlider({ label: "network.batch_size", value: state.batch_size, low: 1, high: 256, least: 1, most: 2000, integer: true, onInput: (v) => set({ batch_size: v }) });
  const validation = logSlider({ label: "network.validation", value: state.validation, low: 0, high: 0.6, log: false, least: 0, most: 0.9, onInput: (v) => set({ validation: v }) });
  const seed = number({ label: "network.seed", value: state.seed, low: 0, high: 2 ** 31 - 1, integer: true, onInput: (v) => set({ seed: v }) });
  const another = button("network.another", () => set({ seed: state.seed + 1 }));
  const limit = number({ label: "network.limit", value: state.limit, low: 1, high: 10000, integer: true, onInput: (v) => set({ limit: v, epoch: Math.min(v, state.epoch) }) });
  const element = el("div", {}, walker.element, schedule.element, settings, batch.element, validation.element, seed.element,
    el("div", { class: "buttons-row" }, another), limit.element);

  const perEpoch = () => Math.max(1, Math.ceil((points()) * (1 - state.validation) / state.batch_size));
  /** Steps that suit the training: the page's epochs in updates. */
  function firstSettings(name) {
    const all = perEpoch() * state.limit;
    return { step: { every: Math.ceil(all / 3), gamma: 0.3 }, exponential: { gamma: 0.5, steps: Math.ceil(all / 4) }, cosine: { steps: all, min_lr: 0 },
      linear: { steps: all, end_lr: 0 }, one_cycle: { steps: all, warm: 0.3 }, inverse_sqrt: { steps: perEpoch() }, plateau: { gamma: 0.5, patience: 10 } }[name] ?? {};
  }
  let builtSchedule = "";
  function showSchedule() {
    const now = state.schedule, name = now?.name ?? "constant";
    schedule.set(name);
    const key = name;
    if (key !== builtSchedule) {
      builtSchedule = key;
      settings.replaceChildren();
      if (now) {
        for (const setting of [...Object.keys(schedules.get(name) ?? {}), "warmup"]) {
          const fallback = schedules.get(name)?.[setting] ?? 0;
          const value = now[setting] ?? fallback;
          if (typeof value !== "number") continue;
          const whole = ["every", "steps", "patience", "cooldown", "warmup"].includes(setting);
          settings.append(number({
            label: { text: setting }, value, low: 0, high: 1e9, integer: whole, log: !whole || value > 50, step: whole ? 1 : 0.05,
            onInput: (v) => set({ schedule: { ...state.schedule, [setting]: v } }),
          }).element);
        }
        settings.append(note("network.per_epoch", { n: perEpoch() }));
      }
    }
  }
  function note(key, args) {
    const p = el("p", { class: "hint" });
    lab.say(p, key, args);
    return p;
  }

  function update() {
    walker.update();
    showSchedule();
    batch.set(state.batch_size);
    validation.set(state.validation);
    seed.set(state.seed);
    limit.set(state.limit);
  }
  update();
  return { element, update, optimizer: walker.element, schedule: schedule.element, onLanguage() { builtSchedule = ""; update(); } };
}
