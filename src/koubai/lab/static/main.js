// @ts-check
// The page: one store, one connection, one room at a time.

import { connect } from "./connection.js";
import { createLessons, find } from "./lessons.js";
import * as marks from "./marks.js";
import { is, makeStore } from "./state.js";
import * as text from "./text.js";
import * as widgets from "./widgets.js";

const ROOMS = ["descent", "basins", "derivative", "network"];
const $ = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
const shown = { descent: {}, basins: {}, derivative: {}, network: {} };
const started = performance.now();
const frames = { first: null };

/** @type {any} */ (window).__lab = { state: { shown, ready: false } };
const failed = [];
window.addEventListener("error", (e) => failed.push(String(e.message)));
window.addEventListener("unhandledrejection", (e) => failed.push(String(e.reason)));

async function start() {
  const note = $("note");
  // first of all: the engine makes its catalogue while the rest is being loaded
  const connection = connect({
    lang: text.language,
    onChange(up) {
      text.say(note, up ? "shell.connected" : "shell.reconnecting");
      note.classList.toggle("down", !up);
      if (up) setTimeout(() => { if (connection.isUp()) { note.textContent = ""; delete note.dataset.t; } }, 2500);
    },
  });
  const catalogue = connection.ask("shell.catalogue", "catalogue");
  const [modules] = await Promise.all([
    Promise.all(ROOMS.map((id) => import(`./rooms/${id}.js`).then((m) => m.default ?? m.room ?? m, (e) => {
      console.warn(`the room ${id} could not be opened: ${e}`);
      return null;
    }))),
    text.load(),
  ]);
  const rooms = new Map();
  ROOMS.forEach((id, i) => { if (modules[i]?.mount) rooms.set(id, modules[i]); });
  const schemas = {
    shell: {
      room: { default: "descent", check: is.one(...rooms.keys()) },
      lang: { default: null, check: is.any(is.nothing, is.one(...text.LANGUAGES)) },
      theme: { default: null, check: is.any(is.nothing, is.one("light", "dark")) },
      lesson: { default: null, check: is.any(is.nothing, is.text(40)) },
    },
  };
  for (const [id, room] of rooms) schemas[id] = room.schema ?? {};
  const store = makeStore(schemas);
  let mounted = /** @type {any} */ (null), at = null;
  let lessons = /** @type {any} */ (null);
  const bad = new Set(store.readAddress());
  theme(store.state.theme);
  const opened = text.firstLanguage(null);
  text.setLanguage(text.firstLanguage(store.state.lang));

  /** Say which fields of the link could not be used. */
  function badLink(...names) {
    for (const name of names) bad.add(name);
    if (bad.size) text.say(note, "shell.bad_link", { fields: [...bad].join(", ") });
  }
  function mendLesson() {
    if (!store.state.lesson || find(store.state.lesson)) return;
    store.mend("shell", { lesson: null });
    badLink("lesson");
  }
  badLink();
  mendLesson();

  /** What a room is given. */
  const lab = {
    store, state: store.state, ask: connection.ask, t: text.t, say: text.say, marks, widgets, text,
    /** Speak through the live region, politely, and not the same thing twice in a row. */
    announce(words) { if ($("aloud").textContent !== words) $("aloud").textContent = words; },
    /** Show the numbers of a room to whoever reads window.__lab.state.shown. */
    report(room, values) { Object.assign(shown[room] ??= {}, values); },
    note(key, args) { text.say(note, key, args); },
    badLink,
    /** The catalogue of the engine: problems, optimizers, datasets, limits. Asked once. */
    catalogue: null,
    /** Called by a room when its first picture is on the screen. */
    painted() { frames.first ??= performance.now(); },
    go(room) { store.set("shell", { room }); },
    frames,
  };
  Object.defineProperty(window, "__lab", { value: {
    get state() {
      return {
        ...store.state, lang: text.language(), shown, ready: mounted !== null, connected: connection.isUp(),
        busy: connection.isBusy(), first: frames.first, started, failed,
      };
    },
    store, lab, ask: connection.ask,
    /** What the open room gave: its controls by name, for lessons that hide some. */
    get room() { return mounted; },
  } });

  const tabs = new Map();
  for (const id of rooms.keys()) {
    const b = widgets.el("button", { type: "button", t: `shell.room_${id}` });
    b.addEventListener("click", () => lab.go(id));
    tabs.set(id, b);
    $("rooms").append(b);
  }

  function show() {
    const id = rooms.has(store.state.room) ? store.state.room : [...rooms.keys()][0];
    for (const [name, tab] of tabs) {
      if (name === id) tab.setAttribute("aria-current", "page");
      else tab.removeAttribute("aria-current");
    }
    document.title = `${text.t(`shell.room_${id}`)} · koubai lab`;
    if (at === id && mounted) return;
    mounted?.unmount?.();
    mounted = null;
    at = id;
    const place = $("room");
    place.replaceChildren();
    place.className = `room room-${id}`;
    mounted = rooms.get(id).mount(place, lab);
    text.refresh(place);
  }

  store.subscribe((state, change) => {
    /** @type {HTMLButtonElement} */ ($("undo")).disabled = !store.canUndo();
    if (change.settled) return;
    if (change.all || change.group === "shell") {
      theme(state.theme);
      // an undo takes back a first switch of the language as well, to what the page was opened in
      const lang = location.search && change.all ? text.firstLanguage(state.lang) : state.lang ?? (change.all ? opened : null);
      if (lang && lang !== text.language()) switchTo(lang);
      if (change.all) { at = null; lessons?.begin(); }
      show();
    }
  });

  function switchTo(lang) {
    text.setLanguage(lang);
    languageButton();
    document.title = `${text.t(`shell.room_${at}`)} · koubai lab`;
    mounted?.onLanguage?.();
    lessons?.onLanguage();
  }
  function languageButton() {
    const other = text.language() === "ja" ? "en" : "ja";
    $("lang").textContent = other === "ja" ? "日本語" : "English";
    $("lang").lang = other;
  }
  $("lang").addEventListener("click", () => {
    // what was asked for in the address is no longer what is wanted
    if (location.search) history.replaceState(null, "", location.pathname + location.hash);
    const lang = text.language() === "ja" ? "en" : "ja";
    store.set("shell", { lang });
    if (lang !== text.language()) switchTo(lang); // the state said so before, and ?lang= something else
  });
  $("theme").addEventListener("click", () => store.set("shell", { theme: marks.isDark() ? "light" : "dark" }));
  $("undo").addEventListener("click", () => store.undo());
  window.addEventListener("hashchange", () => {
    if (location.hash.slice(1) === store.fragment()) return;
    bad.clear();
    badLink(...store.readAddress());
    mendLesson();
    at = null;
    theme(store.state.theme);
    lessons?.begin();
    switchTo(text.firstLanguage(store.state.lang));
    show();
    lessons?.update();
  });
  window.addEventListener("keydown", (e) => {
    const typing = e.target instanceof HTMLInputElement && e.target.type === "text";
    if ((e.ctrlKey || e.metaKey) && e.key === "z" && !typing) { e.preventDefault(); store.undo(); }
  });
  // a phone may end a page in the background without another word
  window.addEventListener("pagehide", () => store.flush());
  document.addEventListener("visibilitychange", () => { if (document.hidden) store.flush(); });
  marks.onScheme(() => { if (!store.state.theme) recolor(); });

  function theme(name) {
    const root = document.documentElement;
    const before = root.dataset.theme;
    if (name) root.dataset.theme = name;
    else delete root.dataset.theme;
    if (before !== root.dataset.theme) recolor();
  }
  function recolor() {
    for (const c of document.querySelectorAll("canvas.swatch")) /** @type {any} */ (c).redraw?.();
    mounted?.onTheme?.();
  }

  languageButton();
  lab.catalogue = await catalogue;
  lessons = createLessons({ lab, rooms, place: $("room"), room: () => mounted, shown, button: $("lessons") });
  lessons.begin();
  show();
  lessons.update();
}

start();
