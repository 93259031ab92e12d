// @ts-check
// The lab in a notebook: one room in a shadow root, so that the notebook's page keeps its own styles, with the kernel as
// its engine. What the room is set to is the widget's `_setting`, which Python and every view of the widget share.

import { connect } from "../connection.js";
import * as marks from "../marks.js";
import basins from "../rooms/basins.js";
import descent from "../rooms/descent.js";
import { makeStore } from "../state.js";
import * as text from "../text.js";
import * as widgets from "../widgets.js";

const ROOMS = { descent, basins };
const REPORTED = { descent: ["verdict", "rate"], basins: ["minima", "shares", "path", "resolution"] };
const PATIENCE = 2500; // ms without an answer after which the page says that the kernel is busy

/** A JSON value in which the numbers that JSON hasn't got are the strings that stand for them. */
function plain(value) {
  if (typeof value === "number") return Number.isFinite(value) ? value : String(value);
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return [.../** @type {any} */ (value)].map(plain);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
  return value ?? null;
}
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** Whether the notebook around `element` is dark: as JupyterLab, VS Code and Colab say it, else by what lies behind. */
export function isDarkAround(element) {
  const { body, documentElement: html } = document;
  if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "false";
  if (body.dataset.vscodeThemeKind) return /dark|high-contrast$/.test(body.dataset.vscodeThemeKind);
  if (html.hasAttribute("theme")) return html.getAttribute("theme") === "dark";
  for (let at = element; at; at = at.parentElement ?? at.getRootNode().host ?? null) {
    const [r, g, b, a = 1] = (getComputedStyle(at).backgroundColor.match(/[\d.]+/g) ?? []).map(Number);
    if (r !== undefined && a > 0.5) return 0.3 * r + 0.59 * g + 0.11 * b < 128;
  }
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/** The way to the engine by the widget's own messages. Several views of a widget are told apart by `channel`. */
function kernel(model, channel, onWaiting) {
  return (hear) => {
    let waiting = 0, since = 0;
    const timer = setInterval(() => onWaiting(waiting > 0 && performance.now() - since > PATIENCE), 500);
    const receive = (content, buffers) => {
      if (content?.channel !== channel || !buffers?.length) return;
      const [view] = buffers;
      waiting = Math.max(0, waiting - 1);
      since = performance.now();
      const bytes = view instanceof ArrayBuffer ? new Uint8Array(view) : new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
      hear.message(bytes.slice().buffer); // a copy begins at a multiple of 8 bytes, as arrays want
    };
    model.on("msg:custom", receive);
    return {
      send(request) {
        if (!waiting++) since = performance.now();
        model.send({ channel, request });
      },
      ready: () => true,
      close() {
        clearInterval(timer);
        model.off("msg:custom", receive);
        model.send({ channel, closed: true });
      },
    };
  };
}

/** Show the widget's room in `el`; returns how to take it away. */
export async function show({ model, el, catalogues, style }) {
  const id = model.get("_room");
  const room = ROOMS[id];
  text.take(catalogues);
  const host = document.createElement("div");
  // what is typed here is not for the notebook: its single-letter commands would cut and insert cells
  host.dataset.lmSuppressShortcuts = "true";
  for (const kind of ["keydown", "keypress", "keyup"]) host.addEventListener(kind, (e) => e.stopPropagation());
  const shadow = host.attachShadow({ mode: "open" });
  const sheet = document.createElement("style");
  sheet.textContent = style;
  const root = widgets.el("div", { class: "koubai-lab" });
  const place = widgets.el("div", { class: `room room-${id}`, role: "group" });
  const note = widgets.el("p", { class: "note", role: "status" });
  const aloud = widgets.el("p", { class: "aloud", "aria-live": "polite" });
  root.append(place, note, aloud);
  shadow.append(sheet, root);
  el.append(host);
  // the wheel scrolls the notebook; with Ctrl, and by pinching, it zooms
  root.addEventListener("wheel", (e) => { if (!e.ctrlKey && !e.metaKey) e.stopPropagation(); }, { capture: true });

  marks.setRoot(root);
  const wantedLanguage = () => text.firstLanguage(model.get("language"));
  const wantedTheme = () => model.get("theme") ?? (isDarkAround(el) ? "dark" : "light");
  root.dataset.theme = wantedTheme();
  root.style.setProperty("--lab-height", `${model.get("height")}px`);
  text.setLanguage(wantedLanguage(), root);

  let busy = false;
  const channel = Math.random().toString(36).slice(2);
  const connection = connect({
    lang: text.language,
    onChange() {},
    transport: kernel(model, channel, (late) => {
      if (late === busy) return;
      busy = late;
      if (late) text.say(note, "notebook.busy");
      else { note.textContent = ""; delete note.dataset.t; }
    }),
  });

  const store = makeStore({ shell: {}, [id]: room.schema }, {
    read: () => encodeURIComponent(JSON.stringify({ koubai: 1, [id]: model.get("_setting") })),
    write: () => { if (!same(model.get("_setting"), own())) { model.set("_setting", own()); model.save_changes(); } },
  });
  const own = () => JSON.parse(JSON.stringify(store.state[id]));
  const bad = store.readAddress();
  if (bad.length) text.say(note, "notebook.bad_setting", { fields: bad.join(", ") });

  const shown = {};
  let reporting = 0;
  const lab = {
    store, state: store.state, ask: connection.ask, t: text.t, say: text.say, marks, widgets, text,
    linkless: true, // a notebook's address says nothing of a widget in it
    announce(words) { if (aloud.textContent !== words) aloud.textContent = words; },
    report(_, values) {
      Object.assign(shown, values);
      clearTimeout(reporting);
      reporting = window.setTimeout(() => {
        const found = plain(Object.fromEntries(REPORTED[id].filter((k) => k in shown).map((k) => [k, shown[k]])));
        if (!same(model.get("_shown"), found)) { model.set("_shown", found); model.save_changes(); }
      }, 200);
    },
    note(key, args) { text.say(note, key, args); },
    badLink(...names) { text.say(note, "notebook.bad_setting", { fields: names.join(", ") }); },
    catalogue: null, painted() {}, go() {}, frames: {},
  };
  lab.catalogue = await connection.ask("shell.catalogue", "catalogue");
  const mounted = room.mount(place, lab);
  text.refresh(root);
  /** @type {any} */ (host).lab = { store, shown, mounted, ask: connection.ask, isBusy: connection.isBusy }; // for tests

  const recolor = () => {
    const theme = wantedTheme();
    if (root.dataset.theme === theme) return;
    root.dataset.theme = theme;
    for (const c of root.querySelectorAll("canvas.swatch")) /** @type {any} */ (c).redraw?.();
    mounted.onTheme?.();
  };
  const followers = {
    "change:_setting": () => { if (!same(model.get("_setting"), own())) store.replace({ koubai: 1, [id]: model.get("_setting") }); },
    "change:language": () => { text.setLanguage(wantedLanguage(), root); mounted.onLanguage?.(); },
    "change:theme": recolor,
    "change:height": () => root.style.setProperty("--lab-height", `${model.get("height")}px`),
  };
  for (const [name, follow] of Object.entries(followers)) model.on(name, follow);
  const watching = new MutationObserver(recolor);
  const filter = { attributes: true, attributeFilter: ["class", "theme", "data-jp-theme-light", "data-vscode-theme-kind", "style"] };
  for (const e of [document.documentElement, document.body]) watching.observe(e, filter);
  marks.onScheme(recolor);
  root.addEventListener("keydown", (e) => {
    const typing = e.target instanceof HTMLInputElement && e.target.type === "text";
    if ((e.ctrlKey || e.metaKey) && e.key === "z" && !typing) { e.preventDefault(); store.undo(); }
  });

  return () => {
    watching.disconnect();
    clearTimeout(reporting);
    for (const [name, follow] of Object.entries(followers)) model.off(name, follow);
    mounted.unmount?.();
    connection.close();
    host.remove();
  };
}
