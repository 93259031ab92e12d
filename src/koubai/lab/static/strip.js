// @ts-check
// The rate strip: what each rate would do from here, slow, good, diverging, with the bound of stability marked.
// It is a slider: click, drag or use the arrow keys to set the rate.

import { sharpCanvas } from "./field.js";
import { css } from "./marks.js";
import { number, t } from "./text.js";
import { el } from "./widgets.js";

const KINDS = ["none", "slow", "good", "jump", "bad"];

/** Make the strip in `container`. onRate(lr, {done}). */
export function createStrip(container, { onRate }) {
  const slider = el("div", { class: "strip-slider", role: "slider", tabindex: "0", tLabel: "descent.rate_slider" });
  const sheet = sharpCanvas(slider);
  const keys = el("div", { class: "keys" }, ...KINDS.map((k) => el("span", {}, el("i", { class: `kind-${k}` }), el("span", { t: `descent.kind_${k}` }))));
  const complaint = el("p", { class: "complaint", role: "status" });
  complaint.hidden = true;
  const element = el("div", { class: "strip" }, slider, keys, complaint);
  container.append(element);
  let low = 1e-4, high = 10, rate = 0.1, data = /** @type {any} */ (null), unknown = false, frame = 0;
  const H = 62, BAND = 16, TOP = 4, PAD = 8;
  const dirty = () => { if (!frame) frame = requestAnimationFrame(draw); };
  const at = (lr) => (Math.log(lr / low) / Math.log(high / low));

  function draw() {
    frame = 0;
    const w = slider.clientWidth;
    if (!w) return;
    const c = sheet.c;
    sheet.fit(w, H);
    c.clearRect(0, 0, w, H);
    const X = (lr) => PAD + at(lr) * (w - 2 * PAD);
    const base = H - 15, band = base - BAND;
    if (!data) drawUnknown(c, PAD, band, w - 2 * PAD);
    else {
      c.fillStyle = css("--rate-none");
      c.fillRect(PAD, band, w - 2 * PAD, BAND);
      const { lr, kind, fun } = data;
      const n = lr.length;
      const edge = (i) => (i <= 0 ? lr[0] : i >= n ? lr[n - 1] : Math.sqrt(lr[i - 1] * lr[i]));
      for (let i = 0; i < n; i++) {
        c.fillStyle = css(`--rate-${KINDS[kind[i]]}`);
        const a = Math.max(PAD, X(edge(i))), b = Math.min(w - PAD, X(edge(i + 1)));
        if (b > a) c.fillRect(a, band, b - a + 0.6, BAND);
      }
      // where each rate ends, on a logarithmic scale between the least found and the start
      let least = Infinity;
      for (const f of fun) if (f < least) least = f;
      const way = Math.max(data.start - least, 1e-300);
      const height = (f) => {
        if (!(f - f === 0)) return 1;
        const left = (f - least) / way;
        return Math.max(0, Math.min(1, 1 + Math.log10(Math.max(left, 1e-6)) / 6));
      };
      c.beginPath();
      let pen = false;
      for (let i = 0; i < n; i++) {
        const px = X(lr[i]);
        if (px < PAD || px > w - PAD) { pen = false; continue; }
        const py = band - 4 - height(fun[i]) * (band - 4 - TOP);
        if (pen) c.lineTo(px, py); else c.moveTo(px, py);
        pen = true;
      }
      c.strokeStyle = css("--soft");
      c.lineWidth = 1.5;
      c.lineJoin = "round";
      c.stroke();
      if (data.bound && data.bound > low && data.bound < high) {
        const px = Math.round(X(data.bound)) + 0.5;
        c.strokeStyle = css("--ink");
        c.lineWidth = 1;
        c.setLineDash([3, 2]);
        c.beginPath();
        c.moveTo(px, TOP);
        c.lineTo(px, base);
        c.stroke();
        c.setLineDash([]);
        c.font = `11px ${css("--sans")}`;
        c.fillStyle = css("--ink");
        const words = t("descent.bound", { value: number(data.bound, 3) });
        const wide = c.measureText(words).width;
        c.textAlign = px + wide + 6 < w - 2 ? "left" : "right";
        c.textBaseline = "top";
        const tx = px + (c.textAlign === "left" ? 5 : -5);
        c.fillStyle = css("--sheet");
        c.fillRect(c.textAlign === "left" ? tx - 2 : tx - wide - 2, TOP - 3, wide + 4, 14);
        c.fillStyle = css("--ink");
        c.fillText(words, tx, TOP - 2);
      }
    }
    c.font = `11px ${css("--sans")}`;
    c.fillStyle = css("--faint");
    c.textAlign = "center";
    c.textBaseline = "top";
    const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
    const skip = Math.ceil((last - first + 1) / 7);
    for (let k = first; k <= last; k += skip) {
      const px = X(10 ** k);
      c.fillText(k >= -3 && k <= 3 ? number(10 ** k) : `1e${k}`.replace("-", "−"), Math.max(17, Math.min(w - 15, px)), base + 4);
    }
    const px = Math.max(PAD, Math.min(w - PAD, X(rate)));
    c.fillStyle = css("--accent");
    c.fillRect(px - 1, TOP, 2, base - TOP);
    c.beginPath();
    c.arc(px, band + BAND / 2, 7, 0, 7);
    c.fill();
    c.lineWidth = 2.5;
    c.strokeStyle = css("--raised");
    c.stroke();
  }

  /** Nothing is known of the rates: hatched, and no colour of what a rate does. */
  function drawUnknown(c, left, top, wide) {
    c.save();
    c.beginPath();
    c.rect(left, top, wide, BAND);
    c.clip();
    c.strokeStyle = css("--line");
    c.lineWidth = 1;
    c.strokeRect(left + 0.5, top + 0.5, wide - 1, BAND - 1);
    c.beginPath();
    for (let x = left - BAND; x < left + wide; x += 7) { c.moveTo(x, top + BAND); c.lineTo(x + BAND, top); }
    c.stroke();
    c.restore();
    if (!unknown) return;
    c.font = `12px ${css("--sans")}`;
    c.fillStyle = css("--soft");
    c.textAlign = "center";
    c.textBaseline = "bottom";
    c.fillText(t("descent.kind_unknown"), left + wide / 2, top - 4);
  }

  const say = () => {
    slider.setAttribute("aria-valuemin", String(low));
    slider.setAttribute("aria-valuemax", String(high));
    slider.setAttribute("aria-valuenow", String(rate));
    slider.setAttribute("aria-valuetext", number(rate));
  };
  const from = (e) => {
    const box = slider.getBoundingClientRect();
    const p = Math.min(1, Math.max(0, (e.clientX - box.left - PAD) / (box.width - 2 * PAD)));
    return Number((low * (high / low) ** p).toPrecision(3));
  };
  const move = (lr, done) => { rate = lr; say(); dirty(); onRate(lr, { done }); };
  slider.addEventListener("pointerdown", (e) => {
    if (e.button) return;
    try { slider.setPointerCapture(e.pointerId); } catch { /* gone already */ }
    move(from(e), false);
  });
  slider.addEventListener("pointermove", (e) => { if (e.buttons & 1 && slider.hasPointerCapture(e.pointerId)) move(from(e), false); });
  slider.addEventListener("pointerup", () => onRate(rate, { done: true }));
  slider.addEventListener("keydown", (e) => {
    const way = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[e.key];
    const end = e.key === "Home" ? low : e.key === "End" ? high : null;
    if (!way && end === null) return;
    e.preventDefault();
    const next = end ?? rate * 10 ** ((way ?? 0) * (e.shiftKey ? 10 : 1) / 50);
    move(Number(Math.min(high, Math.max(low, next)).toPrecision(3)), true);
  });
  const watcher = new ResizeObserver(dirty);
  watcher.observe(slider);
  say();
  return {
    element, slider,
    /** {lr, fun, kind, bound, start}, or null while nothing is known */
    setData(d) { data = d; unknown = false; complaint.hidden = true; dirty(); },
    /** What the rates do could not be found out; `message` says why, "" where something else says it. */
    setUnknown(message) { data = null; unknown = true; complaint.textContent = message; complaint.hidden = !message; dirty(); },
    setRate(lr) { rate = lr; if (lr < low) low = lr / 3; if (lr > high) high = lr * 3; say(); dirty(); },
    setRange(l, h) { low = Math.min(l, rate); high = Math.max(h, rate); say(); dirty(); },
    get range() { return [low, high]; },
    redraw: dirty,
    destroy() { watcher.disconnect(); cancelAnimationFrame(frame); },
  };
}
