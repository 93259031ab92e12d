// @ts-check
// Lessons: one room with most of its controls put away, and a few steps, each a sentence to read, a thing to do, and
// numbers to see change. A step knows from the state of the page when it is done. What a lesson sets is the rooms'
// ordinary state, so that undo, links and reloads work as everywhere; which step it is stands in the state as "ID.N".

import { LESSONS } from "./lessons/plan.js";
import { el } from "./widgets.js";

const sheet = document.createElement("link");
sheet.rel = "stylesheet";
sheet.href = new URL("./lessons/lessons.css", import.meta.url).href;
document.head.append(sheet);

const AWAY = "lesson-away";
const numberOf = (i) => (i === LESSONS.length - 1 ? "+" : String(i + 1));

/** Where "rate.3" is: the lesson, the number of its step from 0 and the step; null if there is none such. */
export function find(name) {
  const [id, n = "1"] = String(name ?? "").split(".");
  const at = LESSONS.findIndex((l) => l.id === id);
  if (at < 0 || !/^\d$/.test(n)) return null;
  const lesson = LESSONS[at], index = Number(n) - 1, step = lesson.steps[index];
  return step ? { at, lesson, index, step, room: step.room ?? lesson.room } : null;
}

/**
 * Make the lessons. rooms: the rooms by id; place: where the open room is; room(): what it gave; shown: its numbers.
 * @param {{lab: any, rooms: Map<string, any>, place: HTMLElement, room: () => any, shown: any, button: HTMLElement}} options
 */
export function createLessons({ lab, rooms, place, room, shown, button }) {
  const { store, t, say } = lab;
  const lessons = LESSONS.filter((l) => rooms.has(l.room));
  let here = /** @type {any} */ (null), memory = /** @type {any} */ ({}), dressed = /** @type {any} */ (null), wanted = 0;
  const finished = new Set();

  // -- the panel -------------------------------------------------------------------------------------------------------

  const kicker = el("span", { class: "lesson-number" }), name = el("span"), term = el("span", { class: "lesson-term", lang: "en" });
  const heading = el("h2", { class: "lesson-title" }, kicker, name, term);
  const close = el("button", { type: "button", class: "quiet icon", tLabel: "lessons.close", tTitle: "lessons.close" }, "×");
  const dots = el("ol", { class: "lesson-dots", tLabel: "lessons.steps" });
  const read = el("p", { class: "lesson-read" });
  const todo = el("p", { class: "lesson-do" });
  const see = el("p", { class: "lesson-see" });
  const done = el("p", { class: "lesson-done", role: "status", "aria-live": "polite" });
  const back = el("button", { type: "button", class: "quiet", t: "lessons.back" });
  const again = el("button", { type: "button", class: "quiet", t: "lessons.again" });
  const link = el("button", { type: "button", class: "quiet", t: "lessons.link", tTitle: "lessons.link_title" });
  const next = el("button", { type: "button", class: "plain lesson-next", t: "lessons.next" });
  const panel = el("section", { class: "lesson", tLabel: "lessons.panel" },
    el("div", { class: "lesson-head" }, heading, dots, close), read, todo, see, done,
    el("div", { class: "lesson-foot" }, back, again, link, next));

  close.addEventListener("click", () => { store.set("shell", { lesson: null }); button.focus(); });
  back.addEventListener("click", () => move(-1));
  next.addEventListener("click", () => move(1));
  again.addEventListener("click", () => enter(here.lesson, here.index));
  link.addEventListener("click", async () => {
    const address = `${location.origin}/#${encodeURIComponent(JSON.stringify({ koubai: 1, lesson: nameOf(here.lesson, here.index) }))}`;
    try { await navigator.clipboard.writeText(address); lab.note("lessons.link_copied"); } catch { lab.note("lessons.link_is", { address }); }
  });

  const nameOf = (lesson, index) => `${lesson.id}.${index + 1}`;

  function move(way) {
    const { lesson, index } = here;
    if (lesson.steps[index + way]) { enter(lesson, index + way); return; }
    const other = lessons[lessons.indexOf(lesson) + way];
    if (other) enter(other, way > 0 ? 0 : other.steps.length - 1);
  }

  // -- the menu --------------------------------------------------------------------------------------------------------

  const menu = /** @type {HTMLDialogElement} */ (el("dialog", { class: "lesson-menu", tLabel: "lessons.menu" }));
  const list = el("ol", {}, ...lessons.map((lesson) => {
    const b = el("button", { type: "button", "data-lesson": lesson.id },
      el("span", { class: "lesson-number", "aria-hidden": "true" }, numberOf(LESSONS.indexOf(lesson))),
      el("span", { class: "lesson-name" }, el("b", { t: `lessons.${lesson.id}.title` }), el("span", { class: "lesson-term", lang: "en", t: `lessons.${lesson.id}.term` })),
      el("span", { class: "lesson-about", t: `lessons.${lesson.id}.about` }));
    b.addEventListener("click", () => { menu.close(); enter(lesson, 0); });
    return el("li", {}, b);
  }));
  const shut = el("button", { type: "button", class: "quiet icon", tLabel: "lessons.close_menu", tTitle: "lessons.close_menu" }, "×");
  shut.addEventListener("click", () => menu.close());
  menu.append(el("div", { class: "lesson-head" }, el("h2", { class: "lesson-title", t: "lessons.menu" }), shut), el("p", { class: "hint", t: "lessons.about" }), list);
  menu.addEventListener("click", (e) => { if (e.target === menu) menu.close(); });
  document.body.append(menu);
  button.addEventListener("click", () => menu.showModal());

  // -- where a step begins ---------------------------------------------------------------------------------------------

  /** What a room is set to at the beginning of a step: whole, so that a step is the same wherever one comes from. */
  function beginning(lesson, index) {
    const step = lesson.steps[index], id = step.room ?? lesson.room;
    const values = {};
    for (const [field, { default: d }] of Object.entries(rooms.get(id).schema)) values[field] = d;
    return { id, values: { ...values, ...lesson.base[id], ...step.set, ...(step.own ? step.keep : {}) } };
  }

  /** Go to a step. "Now yours" takes over what is in its room when one comes from the step before it. */
  function enter(lesson, index) {
    const step = lesson.steps[index];
    const { id, values } = beginning(lesson, index);
    const before = here;
    for (const field of step.clear ?? []) lab.report(id, { [field]: null });
    here = null; // its changes are no answer to the step before
    if (step.own && before?.lesson === lesson && before.index === index - 1 && before.room === id) store.set(id, step.keep ?? {});
    else store.set(id, values);
    begin(lesson, index);
    store.set("shell", { lesson: nameOf(lesson, index), room: id });
    update();
    // within a lesson the hand stays where it is, and the sentence is spoken; a new lesson begins at its title
    if (before?.lesson === lesson && panel.contains(document.activeElement)) lab.announce(`${read.textContent} ${todo.textContent}`);
    else heading.focus({ preventScroll: true });
    if (innerWidth <= 900) scrollTo({ top: 0 });
  }
  function begin(lesson, index) {
    here = find(nameOf(lesson, index));
    memory = { begun: JSON.parse(JSON.stringify(store.state)) };
    finished.delete(nameOf(lesson, index));
    done.textContent = "";
  }

  // -- following -------------------------------------------------------------------------------------------------------

  /** Bring the page to what the state says: called after each change of it, and of what rooms show. */
  function update() {
    wanted = 0;
    const now = find(store.state.lesson);
    if (!now || !rooms.has(now.room)) { undress(); here = null; return; }
    if (store.state.room !== now.room) { store.set("shell", { lesson: null }); return; } // another room was opened
    if (!here || here.lesson !== now.lesson || here.index !== now.index) {
      begin(now.lesson, now.index); // by undo, or by a link
      memory.begun = { ...memory.begun, [now.room]: beginning(now.lesson, now.index).values };
    }
    const open = room();
    if (!open) return;
    dress(open);
    tell();
  }
  const soon = () => { if (!wanted) wanted = requestAnimationFrame(update); };

  function tell() {
    const { lesson, index, step } = here, key = nameOf(lesson, index);
    const words = `lessons.${lesson.id}.${step.own ? "own" : `s${index + 1}`}`;
    const state = { ...store.state, shown };
    let values = null, is = finished.has(key);
    try { values = step.see?.(state, memory) ?? null; } catch { values = null; }
    try { is ||= step.done(state, memory) === true; } catch { /* what it looks for is not there yet */ }
    if (values) say(see, `${words}.see`, values);
    else { delete see.dataset.t; see.textContent = "\u00a0"; }
    see.classList.toggle("is-empty", !values);
    see.hidden = !step.see;
    if (is && !finished.has(key) && (values || !step.see)) { finished.add(key); say(done, `${words}.done`, values ?? {}); }
    is = finished.has(key);
    panel.classList.toggle("is-done", is);
    next.classList.toggle("primary", is);
    next.classList.toggle("plain", !is);
    shown.lesson = { id: lesson.id, step: index + 1, steps: lesson.steps.length, own: !!step.own, done: is, values };
    [...dots.children].forEach((li, i) => li.classList.toggle("is-done", finished.has(nameOf(lesson, i))));
  }

  // -- dressing the room -----------------------------------------------------------------------------------------------

  function dress(open) {
    const { lesson, index, step } = here, key = `${nameOf(lesson, index)}`;
    if (dressed?.open === open && dressed.key === key && panel.isConnected) return;
    if (dressed?.open === open) undress(true);
    dressed = { open, key };
    const bench = place.querySelector(".bench");
    bench?.prepend(panel);
    place.classList.add("in-lesson");
    place.classList.toggle("in-own", !!step.own);
    const words = `lessons.${lesson.id}.${step.own ? "own" : `s${index + 1}`}`;
    kicker.textContent = numberOf(here.at);
    say(name, `lessons.${lesson.id}.title`);
    say(term, `lessons.${lesson.id}.term`);
    heading.tabIndex = -1;
    say(read, `${words}.read`);
    say(todo, `${words}.do`);
    const last = !lesson.steps[index + 1], lessonAfter = lessons[lessons.indexOf(lesson) + 1];
    say(next, !last ? (lesson.steps[index + 1].own ? "lessons.now_yours" : "lessons.next") : "lessons.next_lesson");
    next.hidden = last && !lessonAfter;
    /** @type {HTMLButtonElement} */ (back).disabled = index === 0 && lessons.indexOf(lesson) === 0;
    dots.replaceChildren(...lesson.steps.map((other, i) => {
      const b = el("button", { type: "button" }, other.own ? "★" : String(i + 1));
      b.setAttribute("aria-label", other.own ? t("lessons.now_yours") : t("lessons.step", { n: i + 1 }));
      if (i === index) b.setAttribute("aria-current", "step");
      b.addEventListener("click", () => enter(lesson, i));
      return el("li", {}, b);
    }));
    if (step.own) return;
    const given = open.controls ?? {};
    const kept = step.show.map((c) => given[c]).filter(Boolean);
    for (const root of place.querySelectorAll(".controls, .under, .field-top, .diagram")) {
      // the way back from a unit's picture belongs to the picture
      if (root.classList.contains("field-top") && !given.view) continue;
      hide(root, kept);
    }
    const details = step.open && /** @type {HTMLDetailsElement | null} */ (place.querySelector(step.open));
    if (details) details.open = true;
  }
  /** Put away all under `root` but what is kept and what it lies in; true if something of it stays. */
  function hide(root, kept) {
    if (kept.includes(root)) return true;
    if (!kept.some((k) => root.contains(k))) { root.classList.add(AWAY); return false; }
    for (const child of root.children) hide(child, kept);
    return true;
  }
  function undress(partly = false) {
    for (const e of document.querySelectorAll(`.${AWAY}`)) e.classList.remove(AWAY);
    if (partly) return;
    if (panel.isConnected) panel.remove();
    place.classList.remove("in-lesson", "in-own");
    dressed = null;
    delete shown.lesson;
  }

  const report = lab.report;
  lab.report = (id, values) => { report(id, values); if (here) soon(); };
  store.subscribe((_, change) => { if (!change.settled) { if (change.all || change.group === "shell") update(); else soon(); } });

  return {
    /** Before the first room is opened: a link that names a step and nothing else begins where the step does. */
    begin() {
      const now = find(store.state.lesson);
      if (!now || !rooms.has(now.room)) return;
      const own = store.compact();
      for (const field of now.step.clear ?? []) lab.report(now.room, { [field]: null });
      if (!(now.room in own)) Object.assign(store.state[now.room], JSON.parse(JSON.stringify(beginning(now.lesson, now.index).values)));
      store.state.room = now.room;
    },
    update,
    /** The words that are not said by key, after a change of language. */
    onLanguage() { dressed = null; undress(true); if (here) update(); },
  };
}
