// @ts-check
// Every word on the page: two catalogues with equal keys, switched without a reload.

/** @type {Record<string, any>} */
const catalogues = {};
let current = "en";
export const LANGUAGES = ["en", "ja"];

/** Load both catalogues; called once, before anything is drawn. */
export async function load() {
  await Promise.all(LANGUAGES.map(async (lang) => {
    catalogues[lang] = await (await fetch(`/static/text/${lang}.json`)).json();
  }));
}

/** Take catalogues that came along, {en: …, ja: …}: where the page is not of our own server. */
export function take(given) { Object.assign(catalogues, given); }

/** The language of a first visit: `?lang=`, then what the state says, then the browser's. */
export function firstLanguage(inState) {
  const asked = new URLSearchParams(location.search).get("lang");
  if (asked && LANGUAGES.includes(asked)) return asked;
  if (inState && LANGUAGES.includes(inState)) return inState;
  return navigator.languages?.some((l) => l.toLowerCase().startsWith("ja")) && navigator.language.startsWith("ja")
    ? "ja" : "en";
}

/** The language of now. */
export const language = () => current;

/** The text of `key` ("group.name"), its {places} filled. A key that is missing shows itself: the tests look for that. */
export function t(key, args = {}) {
  let found = catalogues[current];
  for (const part of key.split(".")) found = found?.[part];
  if (typeof found !== "string") return key;
  return found.replace(/\{(\w+)\}/g, (whole, name) => (name in args ? String(args[name]) : whole));
}

/** Whether `key` is in the catalogue. */
export function has(key) {
  let found = catalogues[current];
  for (const part of key.split(".")) found = found?.[part];
  return typeof found === "string";
}

/** Make `element` say `key` now and after each change of language. A label may also be `{text: "β₁"}`, said as it is. */
export function say(element, key, args) {
  if (typeof key === "object" && key !== null) {
    element.removeAttribute("data-t");
    element.textContent = key.text;
    return element;
  }
  element.dataset.t = key;
  if (args) element.dataset.tArgs = JSON.stringify(args);
  else delete element.dataset.tArgs;
  element.textContent = t(key, args);
  return element;
}

/** Change the language of the page, and of everything on it that was said with `say` or a data-t attribute. */
export function setLanguage(lang, root = document) {
  current = lang;
  (root instanceof Document ? root.documentElement : root).lang = lang;
  refresh(root);
}

/** Say again all that is under `root`. */
export function refresh(root) {
  for (const e of root.querySelectorAll("[data-t]")) {
    e.textContent = t(e.dataset.t, e.dataset.tArgs ? JSON.parse(e.dataset.tArgs) : undefined);
  }
  for (const e of root.querySelectorAll("[data-t-label]")) e.setAttribute("aria-label", t(e.dataset.tLabel));
  for (const e of root.querySelectorAll("[data-t-title]")) e.setAttribute("title", t(e.dataset.tTitle));
  for (const e of root.querySelectorAll("[data-t-placeholder]")) e.setAttribute("placeholder", t(e.dataset.tPlaceholder));
}

/** A number as a person writes it: 300, −2000, 0.00199, 2.59e13. As koubai's pictures do. */
export function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  if (digits > 16) return String(value).replaceAll("-", "−"); // every digit: the shortest text of this very number
  const exponent = Math.floor(Math.log10(Math.abs(value)));
  let written;
  if (exponent < -4 || exponent >= Math.max(digits, 6)) {
    const [mantissa, power] = value.toExponential(digits - 1).split("e");
    written = `${trim(mantissa)}e${Number(power)}`;
  } else {
    written = trim(value.toPrecision(Math.max(digits, Math.min(exponent + 1, 6))));
  }
  return written.replaceAll("-", "−");
}
const trim = (s) => (s.includes(".") && !s.includes("e") ? s.replace(/\.?0+$/, "") : s);

/** A share as a percentage. */
export const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)}%`;
