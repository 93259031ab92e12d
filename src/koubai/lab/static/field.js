// @ts-check
// The field: a plane seen from above. The ground (bands and lines of f, or a map of basins) is kept as a bitmap; paths,
// marks and labels lie on a canvas of their own, so that a drag redraws only them. The start is a real button on top.

import * as contours from "./contours.js";
import { css, fitCanvas, isDark, mark, traceShape } from "./marks.js";
import { number } from "./text.js";
import { el } from "./widgets.js";

const BANDS = 18;
const LABEL = 12.5;

/** Round steps for about `count` ticks between low and high. */
export function ticks(low, high, count = 5) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= raw) ?? raw;
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) found.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  return found;
}

/** A canvas that follows the size of its parent at the screen's own resolution. */
export function sharpCanvas(parent, className = "") {
  const canvas = document.createElement("canvas");
  if (className) canvas.className = className;
  canvas.setAttribute("aria-hidden", "true");
  parent.append(canvas);
  const c = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  return {
    canvas, c,
    /** Fit to CSS size; the context then draws in CSS pixels. */
    fit: (width, height) => fitCanvas(canvas, c, width, height, 2),
  };
}

const widths = new Map();

/**
 * Write labels beside the ends of paths so that none lies on another or on what is `placed` ([left, top, width, height]).
 * list: [{text, px, py, m (a mark), strong}].
 */
export function placeLabels(c, list, placed, [width, height]) {
  c.textBaseline = "middle";
  c.textAlign = "left";
  const h = 19;
  for (const item of list) {
    c.font = `${item.strong ? 600 : 400} ${LABEL}px ${css("--sans")}`;
    const key = c.font + item.text;
    let w = widths.get(key);
    if (w === undefined) { w = c.measureText(item.text).width + 20; widths.set(key, w); }
    let box = null;
    // one column to the right, from beside the end outwards; where that is full or outside, one to the left
    search: for (const left of [item.px + 14, item.px - 14 - w]) {
      for (let k = 0; k < 16; k++) {
        const dy = (k % 2 ? 1 : -1) * Math.ceil(k / 2) * (h + 1);
        const b = [left, item.py + dy - h / 2, w, h];
        if (b[0] < 4 || b[0] + w > width - 48 || b[1] < 4 || b[1] + h > height - 22) continue;
        if (placed.some((q) => b[0] < q[0] + q[2] && q[0] < b[0] + w && b[1] < q[1] + q[3] && q[1] < b[1] + h)) continue;
        box = b;
        break search;
      }
    }
    if (!box) continue;
    placed.push(box);
    const [bx, by] = box;
    if (Math.abs(by + h / 2 - item.py) > h) {
      c.strokeStyle = css("--field-axis");
      c.lineWidth = 1;
      c.beginPath();
      c.moveTo(item.px, item.py);
      c.lineTo(bx < item.px ? bx + w : bx, by + h / 2);
      c.stroke();
    }
    c.fillStyle = css("--raised");
    c.globalAlpha = 0.9;
    c.beginPath();
    c.roundRect(bx, by, w, h, 4);
    c.fill();
    c.globalAlpha = 1;
    traceShape(c, item.m.shape, bx + 8.5, by + h / 2, 3.6);
    c.fillStyle = item.m.color;
    c.fill();
    c.strokeStyle = item.m.edge;
    c.lineWidth = 0.75;
    c.stroke();
    c.fillStyle = css("--ink");
    c.fillText(item.text, bx + 16, by + h / 2 + 0.5);
  }
}

/**
 * Make a field in `container`.
 * onStart(x, {done, time}) while the start is dragged or moved by key, onView(window) when what is seen has changed,
 * label: how the start is called, a key. `start: false` leaves the start out.
 * @param {HTMLElement} container
 * @param {{onStart?: Function, onView?: Function, onPainted?: Function, label?: string, start?: boolean, lab: any}} options
 */
export function createField(container, { onStart, onView, onPainted, label = "descent.start", start: hasStart = true, lab }) {
  const element = el("div", { class: "field" });
  const ground = sharpCanvas(element), over = sharpCanvas(element);
  over.c.lineJoin = "round";
  const handle = /** @type {HTMLButtonElement} */ (el("button", { type: "button", class: "handle", tLabel: label, tTitle: label }));
  if (hasStart) element.append(handle);
  const tools = el("div", { class: "field-tools" },
    el("button", { type: "button", tLabel: "shell.zoom_in", tTitle: "shell.zoom_in", onclick: () => zoom(1.5) }, "+"),
    el("button", { type: "button", tLabel: "shell.zoom_out", tTitle: "shell.zoom_out", onclick: () => zoom(1 / 1.5) }, "−"),
    el("button", { type: "button", tLabel: "shell.zoom_fit", tTitle: "shell.zoom_fit", onclick: () => { fit(home); viewChanged(); } }, "⤢"));
  element.append(tools);
  container.append(element);

  let width = 1, height = 1;
  const laidOut = { width: 0, height: 0 };
  /** centre, and pixels per unit */
  let view = { cx: 0, cy: 0, px: 40, py: 40 };
  let home = [[-5, 5], [-5, 5]], wanted = home;
  let start = [0, 0];
  /** @type {any[]} */
  let paths = [];
  let t = /** @type {number | null} */ (null);
  let groundData = /** @type {any} */ (null);
  let bitmap = /** @type {any} */ (null);
  let extra = /** @type {((c: CanvasRenderingContext2D, api: any) => void) | null} */ (null);
  let slopes = /** @type {any} */ (null);
  let minima = /** @type {number[][]} */ ([]);
  let groundDirty = true, overDirty = true, frame = 0, labels = true;

  const X = (x) => (x - view.cx) * view.px + width / 2;
  const Y = (y) => height / 2 - (y - view.cy) * view.py;
  const toPoint = (px, py) => [(px - width / 2) / view.px + view.cx, (height / 2 - py) / view.py + view.cy];
  const seen = () => [
    [view.cx - width / 2 / view.px, view.cx + width / 2 / view.px],
    [view.cy - height / 2 / view.py, view.cy + height / 2 / view.py],
  ];

  /** Show all of `window`: both axes to one scale, unless that would make a sliver of it. */
  function fit(window) {
    wanted = window;
    width = element.clientWidth || width;
    height = element.clientHeight || height;
    const [[xl, xh], [yl, yh]] = window;
    let px = width / (xh - xl), py = height / (yh - yl);
    const skew = px / py;
    if (skew > 1 / 5 && skew < 5) px = py = Math.min(px, py);
    view = { cx: (xl + xh) / 2, cy: (yl + yh) / 2, px, py };
    dirty(true);
  }

  function viewChanged() {
    wanted = seen();
    dirty(true);
    onView?.(seen());
  }

  function zoom(factor, at = [width / 2, height / 2]) {
    const [x, y] = toPoint(at[0], at[1]);
    const px = view.px * factor, py = view.py * factor;
    if (!(px > 1e-9 && px < 1e13)) return;
    view = { px, py, cx: x - (at[0] - width / 2) / px, cy: y - (height / 2 - at[1]) / py };
    viewChanged();
  }

  // -- drawing ---------------------------------------------------------------------------------------------------

  function dirty(alsoGround = false) {
    overDirty = true;
    if (alsoGround) groundDirty = true;
    if (!frame) frame = requestAnimationFrame(draw);
  }

  function draw() {
    frame = 0;
    if (groundDirty) drawGround();
    if (overDirty) drawOver();
    groundDirty = overDirty = false;
    placeHandle();
    onPainted?.();
  }

  function placeHandle() {
    if (hasStart) handle.style.transform = `translate(${X(start[0])}px, ${Y(start[1])}px)`;
  }

  function paintBitmap() {
    const { u, w, h } = groundData;
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    const W = Math.round(width * ratio), H = Math.round(height * ratio);
    const image = contours.bands(u, w, h, W, H,
      contours.ramp(css("--field-low"), css("--field-mid"), css("--field-high"), BANDS));
    const canvas = document.createElement("canvas");
    canvas.width = W;
    canvas.height = H;
    const c = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    c.putImageData(image, 0, 0);
    c.strokeStyle = css("--field-line");
    c.lineWidth = ratio;
    const levels = Array.from({ length: BANDS - 1 }, (_, i) => (i + 1) / BANDS);
    contours.lines(c, u, w, h, levels, (i) => (i / (w - 1)) * W, (j) => (1 - j / (h - 1)) * H);
    return canvas;
  }

  let topWidth = 0; // of what lies over the field's upper edge: no label goes there
  function drawGround() {
    const top = /** @type {HTMLElement | null} */ (element.querySelector(".field-top"));
    topWidth = top ? top.offsetLeft + top.offsetWidth : 0;
    const c = ground.c;
    ground.fit(width, height);
    c.fillStyle = css("--field-mid");
    c.fillRect(0, 0, width, height);
    if (groundData) {
      bitmap ??= groundData.image ?? paintBitmap();
      const [[xl, xh], [yl, yh]] = groundData.window;
      c.imageSmoothingEnabled = !groundData.image;
      c.drawImage(bitmap, X(xl), Y(yh), X(xh) - X(xl), Y(yl) - Y(yh));
    }
    axes(c);
  }

  function axes(c) {
    const [[xl, xh], [yl, yh]] = seen();
    c.font = `11px ${css("--sans")}`;
    c.fillStyle = css("--ink");
    const write = (text, px, py) => {
      c.globalAlpha = 0.75;
      c.strokeStyle = css("--raised");
      c.lineWidth = 3;
      c.strokeText(text, px, py);
      c.globalAlpha = 1;
      c.fillText(text, px, py);
    };
    c.lineJoin = "round";
    c.textAlign = "center";
    c.textBaseline = "bottom";
    for (const x of ticks(xl, xh, Math.max(4, width / 130))) {
      const p = X(x);
      if (p < 40 || p > width - 20) continue;
      c.fillRect(Math.round(p), height - 5, 1, 5);
      write(number(x), p, height - 7);
    }
    c.textAlign = "left";
    c.textBaseline = "middle";
    for (const y of ticks(yl, yh, Math.max(4, height / 110))) {
      const p = Y(y);
      if (p < 60 || p > height - 26) continue;
      c.fillRect(0, Math.round(p), 5, 1);
      write(number(y), 9, p);
    }
    c.globalAlpha = 1;
  }

  /** Trace a polyline of rows [from, to], clipped to the picture: a path that flies off must not cost a thing. */
  function tracePath(c, x, from, to) {
    const m = 40, left = -m, right = width + m, top = -m, bottom = height + m;
    c.beginPath();
    let penX = NaN, penY = NaN, ax = X(x[2 * from]), ay = Y(x[2 * from + 1]);
    let lastX = NaN, lastY = NaN;
    for (let i = from + 1; i <= to; i++) {
      let bx = X(x[2 * i]), by = Y(x[2 * i + 1]);
      if (!(Math.abs(bx) < 1e9) || !(Math.abs(by) < 1e9)) {
        if (!(Math.abs(bx) <= Infinity) || !(Math.abs(by) <= Infinity)) break;
        bx = Math.max(-1e9, Math.min(1e9, bx));
        by = Math.max(-1e9, Math.min(1e9, by));
      }
      // nothing to see in a third of a pixel
      if (i < to && Math.abs(bx - ax) < 0.35 && Math.abs(by - ay) < 0.35) continue;
      let t0 = 0, t1 = 1;
      const dx = bx - ax, dy = by - ay;
      const clip = (p, q) => {
        if (p === 0) return q >= 0;
        const r = q / p;
        if (p < 0) { if (r > t1) return false; if (r > t0) t0 = r; }
        else { if (r < t0) return false; if (r < t1) t1 = r; }
        return true;
      };
      if (clip(-dx, ax - left) && clip(dx, right - ax) && clip(-dy, ay - top) && clip(dy, bottom - ay)) {
        const sx = ax + t0 * dx, sy = ay + t0 * dy;
        if (sx !== penX || sy !== penY) c.moveTo(sx, sy);
        penX = ax + t1 * dx;
        penY = ay + t1 * dy;
        c.lineTo(penX, penY);
        lastX = penX;
        lastY = penY;
      }
      ax = bx;
      ay = by;
    }
    return [lastX, lastY];
  }

  /** The row of a path that shows step t. */
  function rowAt(path, step) {
    if (step === null || !path.t) return path.rows - 1;
    if (path.t[path.rows - 1] === path.rows - 1) return Math.min(path.rows - 1, step);
    let low = 0, high = path.rows - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (path.t[middle] <= step) low = middle; else high = middle - 1;
    }
    return low;
  }

  function drawOver() {
    const c = over.c;
    over.fit(width, height);
    c.clearRect(0, 0, width, height);
    const dark = isDark();
    if (slopes) drawSlopes(c);
    if (minima.length) drawMinima(c);
    c.lineJoin = "round";
    c.lineCap = "butt";
    const ends = [];
    for (const path of paths) {
      if (path.rows < 1) continue;
      const m = { ...mark(path.slot, dark), ...path.look };
      const now = rowAt(path, t);
      const draw = (from, to, alpha) => {
        if (to <= from) return null;
        const end = tracePath(c, path.x, from, to);
        c.globalAlpha = alpha;
        c.setLineDash([]);
        c.strokeStyle = m.casing;
        c.lineWidth = path.strong ? 5 : 4.25;
        c.stroke();
        c.strokeStyle = m.color;
        c.lineWidth = path.strong ? 2.75 : 2;
        c.setLineDash(m.dash);
        c.stroke();
        c.globalAlpha = 1;
        return end;
      };
      // what is still ahead; dashes leave less of a line to see, and so does the dark
      if (now < path.rows - 1) draw(now, path.rows - 1, dark ? 0.55 : 0.28);
      draw(0, now, 1);
      dots(c, path, now, m);
      ends.push({ path, m, row: now });
    }
    c.setLineDash([]);
    const placed = [[0, 0, topWidth, 46]];
    if (hasStart) placed.push([X(start[0]) - 12, Y(start[1]) - 12, 24, 24]);
    const labelled = [];
    for (const { path, m, row } of ends) {
      let px = X(path.x[2 * row]), py = Y(path.x[2 * row + 1]);
      const inside = px >= 0 && px <= width && py >= 0 && py <= height;
      if (inside) {
        traceShape(c, m.shape, px, py, path.strong ? 6.5 : 5.5);
        c.fillStyle = m.color;
        c.fill();
        c.strokeStyle = m.edge;
        c.lineWidth = 1.25;
        c.stroke();
        placed.push([px - 7, py - 7, 14, 14]);
      } else {
        // the last place where the path was seen
        for (let i = row; i >= 0; i--) {
          const qx = X(path.x[2 * i]), qy = Y(path.x[2 * i + 1]);
          if (qx >= 8 && qx <= width - 8 && qy >= 8 && qy <= height - 8) { px = qx; py = qy; break; }
          if (i === 0) px = NaN;
        }
      }
      if (px === px && path.label) labelled.push({ text: inside ? path.label : `${path.label} ↗`, px, py, m, strong: path.strong });
    }
    extra?.(c, api);
    if (labels) placeLabels(c, labelled, placed, [width, height]);
  }

  function dots(c, path, now, m) {
    let lx = X(path.x[0]), ly = Y(path.x[1]), count = 0;
    c.fillStyle = m.color;
    c.strokeStyle = m.casing;
    c.lineWidth = 1;
    for (let i = 1; i < now && count < 60; i++) {
      const px = X(path.x[2 * i]), py = Y(path.x[2 * i + 1]);
      if (!(Math.abs(px - lx) + Math.abs(py - ly) > 9)) { if (i > 400) break; continue; }
      lx = px;
      ly = py;
      if (px < 0 || px > width || py < 0 || py > height) continue;
      count++;
      c.beginPath();
      c.arc(px, py, 2.6, 0, 6.3);
      c.fill();
      c.stroke();
    }
  }

  /** The gradient on a grid: direction to scale, length by the logarithm, for it spans decades. */
  function drawSlopes(c) {
    const { x, g } = slopes;
    const n = g.length / 2;
    let most = 0;
    for (let i = 0; i < n; i++) { const l = Math.hypot(g[2 * i], g[2 * i + 1]); if (l > most && l < Infinity) most = l; }
    if (!most) return;
    c.strokeStyle = c.fillStyle = css("--ink");
    c.globalAlpha = 0.5;
    c.lineWidth = 1;
    c.setLineDash([]);
    c.beginPath();
    for (let i = 0; i < n; i++) {
      let dx = g[2 * i] * view.px, dy = -g[2 * i + 1] * view.py;
      const l = Math.hypot(g[2 * i], g[2 * i + 1]), d = Math.hypot(dx, dy);
      if (!(l > 0) || !(d < Infinity)) continue;
      const long = 26 * Math.max(0.12, 1 + Math.log10(l / most) / 3);
      dx *= long / d;
      dy *= long / d;
      const px = X(x[2 * i]), py = Y(x[2 * i + 1]), ex = px + dx, ey = py + dy;
      const head = Math.min(5, long * 0.4), a = Math.atan2(dy, dx);
      c.moveTo(px, py);
      c.lineTo(ex, ey);
      c.lineTo(ex - head * Math.cos(a - 0.5), ey - head * Math.sin(a - 0.5));
      c.moveTo(ex, ey);
      c.lineTo(ex - head * Math.cos(a + 0.5), ey - head * Math.sin(a + 0.5));
    }
    c.stroke();
    c.globalAlpha = 1;
  }

  function drawMinima(c) {
    c.strokeStyle = css("--ink");
    c.globalAlpha = 0.75;
    c.lineWidth = 1.25;
    for (const m of minima) {
      const px = X(m[0]), py = Y(m[1]);
      c.beginPath();
      c.moveTo(px - 5, py); c.lineTo(px + 5, py);
      c.moveTo(px, py - 5); c.lineTo(px, py + 5);
      c.stroke();
    }
    c.globalAlpha = 1;
  }

  // -- hands -----------------------------------------------------------------------------------------------------

  const pointers = new Map();
  let dragging = false, panning = false, tapping = null, pinch = 0;
  const local = (e) => {
    const box = element.getBoundingClientRect();
    return [e.clientX - box.left, e.clientY - box.top];
  };
  function moveStart(p, done, time) {
    // the handle stays where a hand finds it again
    start = toPoint(Math.min(width, Math.max(0, p[0])), Math.min(height, Math.max(0, p[1])));
    placeHandle();
    onStart?.(start.map((v, i) => round(v, i ? view.py : view.px)), { done, time });
  }
  /** To a tenth of a pixel: what a hand sets needs no seventeen digits. */
  function round(v, scale) {
    const digits = Math.max(0, Math.min(15, Math.ceil(Math.log10(scale)) + 1));
    return Number(v.toFixed(digits));
  }

  element.addEventListener("pointerdown", (e) => {
    if (tools.contains(/** @type {Node} */ (e.target)) || /** @type {Element} */ (e.target).closest?.(".field-top")) return;
    if (e.button !== 0 && e.button !== 1) return;
    pointers.set(e.pointerId, local(e));
    if (pointers.size === 2) { dragging = false; tapping = null; pinch = spread(); return; }
    const onHandle = e.target === handle;
    if (e.shiftKey || e.button === 1 || !hasStart) { panning = true; capture(e); e.preventDefault(); return; }
    if (e.pointerType === "touch" && !onHandle) { tapping = local(e); return; }
    dragging = true;
    capture(e);
    if (hasStart) { e.preventDefault(); handle.focus({ preventScroll: true }); }
    if (!onHandle) moveStart(local(e), false, e.timeStamp);
  });
  const capture = (e) => { try { element.setPointerCapture(e.pointerId); } catch { /* the pointer is gone already */ } };
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  };
  element.addEventListener("pointermove", (e) => {
    const before = pointers.get(e.pointerId);
    if (!before) return;
    const p = local(e);
    pointers.set(e.pointerId, p);
    if (pointers.size === 2) {
      const now = spread();
      const [a, b] = [...pointers.values()];
      zoom(now / pinch, [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]);
      pinch = now;
    } else if (panning) {
      view.cx -= (p[0] - before[0]) / view.px;
      view.cy += (p[1] - before[1]) / view.py;
      viewChanged();
    } else if (dragging) moveStart(p, false, e.timeStamp);
    else if (tapping && Math.hypot(p[0] - tapping[0], p[1] - tapping[1]) > 10) tapping = null;
  });
  const up = (e) => {
    if (!pointers.delete(e.pointerId)) return;
    const p = local(e);
    if (dragging) onStart?.(start.map((v, i) => round(v, i ? view.py : view.px)), { done: true, time: e.timeStamp });
    else if (tapping && e.type === "pointerup") moveStart(p, true, e.timeStamp);
    dragging = panning = false;
    tapping = null;
  };
  element.addEventListener("pointerup", up);
  element.addEventListener("pointercancel", up);
  element.addEventListener("wheel", (e) => {
    e.preventDefault();
    zoom(Math.exp(-Math.max(-80, Math.min(80, e.deltaY * (e.deltaMode ? 20 : 1))) * 0.004), local(e));
  }, { passive: false });
  handle.addEventListener("keydown", (e) => {
    const far = e.shiftKey ? 40 : e.altKey ? 1 : 8;
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
    if (way) {
      e.preventDefault();
      moveStart([X(start[0]) + way[0] * far, Y(start[1]) + way[1] * far], true, e.timeStamp);
    } else if (e.key === "+" || e.key === "=") zoom(1.5);
    else if (e.key === "-") zoom(1 / 1.5);
    else if (e.key === "0") { fit(home); viewChanged(); }
  });

  const watcher = new ResizeObserver(() => {
    const w = element.clientWidth, h = element.clientHeight;
    if (!w || !h || (w === laidOut.width && h === laidOut.height)) return;
    laidOut.width = w;
    laidOut.height = h;
    bitmap = groundData?.image ?? null;
    fit(wanted);
    onView?.(seen(), { resized: true });
  });
  watcher.observe(element);
  width = element.clientWidth || 640;
  height = element.clientHeight || 480;

  const api = {
    element, handle,
    /** Where a point of the plane is on the canvas, and back. */
    X, Y, toPoint,
    /** The part of the plane that is seen: [[xlow, xhigh], [ylow, yhigh]]. */
    seen,
    get size() { return [width, height]; },
    /** Pixels per unit of each variable. */
    get scale() { return [view.px, view.py]; },
    /** Show a window, and make it the one that "fit" returns to unless `keepHome`. */
    setWindow(window, { keepHome = false } = {}) { if (!keepHome) home = window; fit(window); },
    setHome(window) { home = window; },
    /** The ground as values of f: z (h × w, lowest row first) over `window`. */
    setGround({ z, w, h, window }) {
      const scale = contours.heights(z);
      const u = new Float32Array(z.length);
      for (let i = 0; i < z.length; i++) u[i] = scale.of(z[i]);
      groundData = { u, w, h, window, scale };
      bitmap = null;
      dirty(true);
      return groundData;
    },
    /** The ground as a finished picture (a canvas) over `window`. */
    setImage(image, window) { groundData = { image, window }; bitmap = image; dirty(true); },
    get ground() { return groundData; },
    /** Paths: [{x: Float32Array of rows × 2, t, rows, slot, label, strong, look}]; look replaces parts of the slot's mark. */
    setPaths(list) { paths = list; dirty(); },
    /** The step that is shown; null is the end. */
    setTime(step) { t = step; dirty(); },
    /** Only the handle: the paths are drawn when they are there. */
    setStart(x) { start = [...x]; placeHandle(); },
    /** The gradient as arrows: {x, g} of rows × 2, or null. */
    setArrows(arrows) { slopes = arrows; dirty(); },
    setMinima(list) { minima = list; dirty(); },
    setLabels(on) { labels = on; dirty(); },
    /** Something more to draw over the paths: (context, field). */
    setExtra(painter) { extra = painter; dirty(); },
    rowAt,
    redraw() { bitmap = groundData?.image ?? null; widths.clear(); dirty(true); },
    /** What is seen, as one canvas, the start with it. */
    snapshot() {
      const canvas = document.createElement("canvas");
      canvas.width = over.canvas.width;
      canvas.height = over.canvas.height;
      const c = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
      c.drawImage(ground.canvas, 0, 0);
      c.drawImage(over.canvas, 0, 0);
      if (hasStart) {
        const k = canvas.width / width;
        c.beginPath();
        c.arc(X(start[0]) * k, Y(start[1]) * k, 8 * k, 0, 7);
        c.fillStyle = css("--accent");
        c.fill();
        c.lineWidth = 2 * k;
        c.strokeStyle = css("--raised");
        c.stroke();
      }
      return canvas;
    },
    destroy() { watcher.disconnect(); cancelAnimationFrame(frame); element.remove(); },
  };
  return api;
}

/** Draw an arrow on a canvas, with a head that stays in proportion on short ones. */
export function arrow(c, x0, y0, x1, y1, { color, casing, width = 2.5 }) {
  const length = Math.hypot(x1 - x0, y1 - y0);
  if (!(length > 1.5) || !Number.isFinite(length)) return;
  const a = Math.atan2(y1 - y0, x1 - x0);
  const head = Math.min(11, length * 0.45);
  const trace = () => {
    c.beginPath();
    c.moveTo(x0, y0);
    c.lineTo(x1 - Math.cos(a) * head * 0.7, y1 - Math.sin(a) * head * 0.7);
    c.moveTo(x1, y1);
    c.lineTo(x1 - head * Math.cos(a - 0.45), y1 - head * Math.sin(a - 0.45));
    c.lineTo(x1 - head * Math.cos(a + 0.45), y1 - head * Math.sin(a + 0.45));
    c.closePath();
  };
  c.setLineDash([]);
  c.lineJoin = "round";
  trace();
  c.strokeStyle = casing;
  c.lineWidth = width + 3;
  c.stroke();
  trace();
  c.strokeStyle = c.fillStyle = color;
  c.lineWidth = width;
  c.stroke();
  c.fill();
}
