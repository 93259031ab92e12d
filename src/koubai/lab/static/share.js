// @ts-check
// Taking it away: as Python, as a command, as a link, and as files that the engine or the canvas writes.

import { Refused, unlessSuperseded } from "./connection.js";
import { button, el, tabs } from "./widgets.js";

/** Save bytes as a file. */
export function save(bytes, name, type) {
  const url = URL.createObjectURL(bytes instanceof Blob ? bytes : new Blob([bytes], { type }));
  const a = el("a", { href: url, download: name });
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** Put text on the clipboard; where the browser forbids it, by way of a selection. */
async function copy(text, fallback) {
  try { await navigator.clipboard.writeText(text); return true; } catch { /* no permission: select it instead */ }
  const range = document.createRange();
  range.selectNodeContents(fallback);
  const selection = getSelection();
  selection?.removeAllRanges();
  selection?.addRange(range);
  return document.execCommand("copy");
}

/** The panel of a room. state(): what is replayed and exported; snapshot(): a canvas; kinds of export by the engine. */
export function createShare({ lab, room, state, snapshot, kinds = ["svg", "csv", "gif"], slot = () => 0 }) {
  const source = el("pre", { class: "source", role: "region", tabindex: "0", tLabel: "shell.source" });
  const said = el("p", { class: "hint", role: "status" });
  let kind = "python", texts = { python: "", command: "" }, shown = false;
  const copyPython = button("shell.copy_python", () => take("python"), { kind: "plain" });
  const copyCommand = button("shell.copy_command", () => take("command"), { kind: "plain" });
  const copyLink = button("shell.copy_link", async () => {
    lab.store.flush();
    // the ticket is in a cookie: the address without a token is what opens the same state
    source.textContent = location.href;
    lab.say(said, (await copy(location.href, source)) ? "shell.copied" : "shell.select_copy");
  }, { kind: "plain" });
  const png = button("shell.save_png", () => {
    snapshot().toBlob((blob) => save(blob, `koubai-${room}.png`, "image/png"));
    lab.report(room, { exported: "png" });
  }, { kind: "plain" });
  const files = kinds.map((k) => button(`shell.save_${k}`, () => download(k), { kind: "plain" }));
  const element = el("div", {},
    el("div", { class: "buttons-row" }, copyPython, copyCommand, lab.linkless ? null : copyLink), source,
    el("div", { class: "buttons-row" }, png, ...files), said);

  async function fetchText(which) {
    const answer = await lab.ask(`${room}.replay`, "replay", { kind: which, state: { room, [room]: state() } });
    texts[which] = answer.text;
    lab.report(room, { [which]: answer.text });
    return answer.text;
  }
  async function take(which) {
    kind = which;
    try {
      source.textContent = await fetchText(which);
      lab.say(said, (await copy(source.textContent, source)) ? "shell.copied" : "shell.select_copy");
    } catch (error) { complain(error); }
  }
  function complain(error) {
    if (error instanceof Refused) { delete said.dataset.t; said.textContent = error.message; } else unlessSuperseded(error);
  }
  async function download(k) {
    lab.say(said, "shell.working");
    try {
      const answer = await lab.ask(`${room}.export`, "export", { kind: k, state: { room, [room]: state() }, slot: slot() });
      save(answer.arrays.bytes, answer.name, answer.media_type ?? answer.media ?? "application/octet-stream");
      lab.report(room, { exported: k, exportedBytes: answer.arrays.bytes.length });
      lab.say(said, "shell.saved", { name: answer.name });
    } catch (error) { complain(error); }
  }
  return {
    element, copyPython, copyCommand,
    /** Bring the text up to date when the panel is seen. */
    async update(visible) {
      shown = visible;
      if (!shown) return;
      try { source.textContent = await fetchText(kind); } catch (error) { complain(error); }
    },
  };
}
