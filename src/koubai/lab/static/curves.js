// @ts-check
// Curves over one axis: losses by step, errors by h. Series are told apart as everywhere: colour, dash, mark, label.

import { sharpCanvas, ticks } from "./field.js";
import { css, isDark, mark, traceShape } from "./marks.js";
import { number, t } from "./text.js";
import { el } from "./widgets.js";

/**
 * Make a chart in `container`. xLog, yLog: logarithmic axes. label: what it shows, a key (for screen readers).
 * onCursor(x) when a person points at or drags along the axis.
 * setSeries([{x, y, slot, label, points?}]) (x left out counts 0, 1, 2 …), setCursor(x), setMarks([{x, y, slot?}]).
 */
export function createCurves(container, { label, xLabel = null, yLabel = null, xLog = false, yLog = true, onCursor = null, height = 220 }) {
  const element = el("div", { class: "curves", role: "img", tLabel: label });
  const sheet = sharpCanvas(element);
  sheet.canvas.style.height = `${height}px`;
  container.append(element);
  let series = /** @type {any[]} */ ([]), cursor = /** @type {number | null} */ (null), points = /** @type {any[]} */ ([]);
  let frame = 0, range = /** @type {any} */ (null), fixed = /** @type {any} */ (null);
  let area = { left: 46, right: 12, top: 20, bottom: 22 };
  const fx = (v) => (xLog ? Math.log10(v) : v), fy = (v) => (yLog ? Math.log10(v) : v);

  function dirty() { if (!frame) frame = requestAnimationFrame(draw); }

  function limits() {
    let xl = Infinity, xh = -Infinity, yl = Infinity, yh = -Infinity;
    for (const s of series) {
      const n = s.y.length;
      for (let i = 0; i < n; i++) {
        const x = fx(s.x ? s.x[i] : i), y = fy(s.y[i]);
        if (x - x === 0) { if (x < xl) xl = x; if (x > xh) xh = x; }
        if (y - y === 0) { if (y < yl) yl = y; if (y > yh) yh = y; }
      }
    }
    for (const p of points) { const y = fy(p.y); if (y - y === 0) { yl = Math.min(yl, y); yh = Math.max(yh, y); } }
    if (!(xh > xl)) { xl = Number.isFinite(xl) ? xl - 0.5 : 0; xh = xl + 1; }
    if (!Number.isFinite(yl)) { yl = 0; yh = 1; }
    if (!(yh > yl)) { yl -= 0.5; yh += 0.5; }
    // nobody reads a loss below 1e-24 of its start, and a run that blew up must not flatten the others
    if (yLog) yl = Math.max(yl, Math.min(yh, 12) - 26);
    if (yLog && !fixed) {
      const firsts = series.map((s) => fy(s.y[0])).filter((v) => v - v === 0);
      const top = Math.max(...firsts, yl + 1) + 1.5;
      if (series.some((s) => fy(s.y[s.y.length - 1]) < top)) yh = Math.min(yh, top);
      yh = Math.min(yh, Math.max(yl + 1, 12));
    }
    const pad = (yh - yl) * 0.04;
    return { xl, xh, yl: yl - pad, yh: yh + pad, ...(fixed ?? {}) };
  }

  function draw() {
    frame = 0;
    const w = element.clientWidth;
    if (!w) return;
    const h = height, c = sheet.c;
    sheet.fit(w, h);
    c.clearRect(0, 0, w, h);
    range = limits();
    const { xl, xh, yl, yh } = range;
    const X = (x) => area.left + ((fx(x) - xl) / (xh - xl)) * (w - area.left - area.right);
    const Yl = (v) => h - area.bottom - ((v - yl) / (yh - yl)) * (h - area.top - area.bottom);
    const Y = (y) => Yl(fy(y));
    c.font = `11px ${css("--sans")}`;
    c.lineWidth = 1;
    c.textBaseline = "middle";
    c.textAlign = "right";
    const written = (v, log) => (log ? (Math.abs(v) <= 3 ? number(10 ** v) : `1e${v}`.replace("-", "−")) : number(v, 3));
    // less than three decades: 1, 2, 5 of each
    const fine = yLog && yh - yl < 2.6;
    const rows = fine
      ? [0, 1, 2, 3].flatMap((k) => [1, 2, 5].map((d) => Math.floor(yl) + k + Math.log10(d))).filter((v) => v >= yl && v <= yh)
      : ticks(yl, yh, 4).filter((v) => !yLog || Number.isInteger(v));
    for (const v of rows) {
      c.fillStyle = css("--hair");
      c.fillRect(area.left, Math.round(Yl(v)), w - area.left - area.right, 1);
      c.fillStyle = css("--faint");
      c.fillText(fine ? number(10 ** v, 2) : written(v, yLog), area.left - 6, Yl(v));
    }
    c.textAlign = "center";
    c.textBaseline = "top";
    for (const v of ticks(xl, xh, Math.min(6, w / 70)).filter((v) => !xLog || Number.isInteger(v))) {
      const px = area.left + ((v - xl) / (xh - xl)) * (w - area.left - area.right);
      c.fillStyle = css("--faint");
      c.fillRect(Math.round(px), h - area.bottom, 1, 4);
      c.fillText(written(v, xLog), Math.min(px, w - 16), h - area.bottom + 6);
    }
    c.fillStyle = css("--line");
    c.fillRect(area.left, h - area.bottom, w - area.left - area.right, 1);
    c.fillStyle = css("--faint");
    c.textBaseline = "top";
    if (yLabel) { c.textAlign = "left"; c.fillText(t(yLabel), 0, 2); }
    if (xLabel) { c.textAlign = "right"; c.fillText(t(xLabel), w - area.right, 2); }

    c.save();
    c.beginPath();
    c.rect(area.left, area.top - 4, w - area.left - area.right + 8, h - area.top - area.bottom + 5);
    c.clip();
    const dark = isDark();
    c.lineJoin = "round";
    for (const s of series) {
      const m = mark(s.slot ?? 0, dark);
      const n = s.y.length;
      c.beginPath();
      let pen = false, lastX = -9, lastY = 0;
      for (let i = 0; i < n; i++) {
        const px = X(s.x ? s.x[i] : i), py = Y(s.y[i]);
        if (!(px - px === 0) || py !== py) { pen = false; continue; }
        const q = Math.max(-50, Math.min(h + 50, py));
        if (pen && i < n - 1 && px - lastX < 0.9 && Math.abs(q - lastY) < 1.5) continue;
        if (pen) c.lineTo(px, q); else c.moveTo(px, q);
        pen = true;
        lastX = px;
        lastY = q;
      }
      c.setLineDash(m.dash);
      c.strokeStyle = m.color;
      c.globalAlpha = s.faint ? 0.45 : 1;
      c.lineWidth = s.strong ? 2.5 : 1.75;
      c.stroke();
      c.setLineDash([]);
      for (let i = n - 1; i >= 0; i--) {
        const px = X(s.x ? s.x[i] : i), py = Y(s.y[i]);
        if (!(px - px === 0) || !(py - py === 0)) continue;
        traceShape(c, m.shape, px, py, 3.6);
        c.fillStyle = m.color;
        c.fill();
        break;
      }
      c.globalAlpha = 1;
    }
    for (const p of points) {
      const m = mark(p.slot ?? 0, dark);
      traceShape(c, p.shape ?? m.shape, X(p.x), Y(p.y), p.r ?? 4.5);
      c.fillStyle = p.color ?? m.color;
      c.fill();
      c.strokeStyle = css("--raised");
      c.lineWidth = 1.5;
      c.stroke();
    }
    if (cursor !== null) {
      const px = X(cursor);
      c.fillStyle = css("--accent");
      c.fillRect(Math.round(px) - 0.5, area.top - 4, 1.5, h - area.top - area.bottom + 4);
    }
    c.restore();
  }

  if (onCursor) {
    element.style.cursor = "pointer";
    const at = (e) => {
      if (!range) return;
      const box = element.getBoundingClientRect();
      const p = Math.min(1, Math.max(0, (e.clientX - box.left - area.left) / (box.width - area.left - area.right)));
      const v = range.xl + p * (range.xh - range.xl);
      onCursor(xLog ? 10 ** v : v);
    };
    element.addEventListener("pointerdown", (e) => { element.setPointerCapture(e.pointerId); at(e); });
    element.addEventListener("pointermove", (e) => { if (e.buttons & 1) at(e); });
  }
  const watcher = new ResizeObserver(dirty);
  watcher.observe(element);
  return {
    element, canvas: sheet.canvas,
    setSeries(list) { series = list; dirty(); },
    setMarks(list) { points = list; dirty(); },
    setCursor(x) { cursor = x; dirty(); },
    /** Hold the axes: {xl, xh, yl, yh} in the axis's own scale (logarithms on a log axis), or null. */
    setRange(r) { fixed = r; dirty(); },
    redraw: dirty,
    destroy() { watcher.disconnect(); cancelAnimationFrame(frame); element.remove(); },
  };
}
