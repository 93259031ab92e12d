// @ts-check
// The field as a surface that can be turned. Heights are the same logarithmic ones as the bands of the flat field.

import { ramp } from "./contours.js";
import { placeLabels, sharpCanvas } from "./field.js";
import { css, isDark, mark, traceShape } from "./marks.js";
import { el } from "./widgets.js";

const MESH = 64, TALL = 0.62;

/** Lay a surface over `container`; hidden until show(true). onStart as the field's. */
export function createSurface(container, { onStart, onPainted, label = "descent.start" }) {
  const element = el("div", { class: "surface", hidden: true, tabindex: "0", role: "group", tLabel: "descent.surface_label" });
  const sheet = sharpCanvas(element);
  const handle = el("button", { type: "button", class: "handle", tLabel: label, tTitle: label });
  element.append(handle);
  container.append(element);
  let yaw = -0.6, pitch = 0.72, ground = /** @type {any} */ (null), mesh = /** @type {any} */ (null);
  let paths = /** @type {any[]} */ ([]), start = [0, 0], t = /** @type {number|null} */ (null), frame = 0, visible = false;
  let width = 1, height = 1;

  const dirty = () => { if (visible && !frame) frame = requestAnimationFrame(draw); };

  /** The height (0 … 1 or a little more) of the surface at a point; NaN outside. */
  function heightAt(x, y) {
    const { u, w, h, window: [[xl, xh], [yl, yh]] } = ground;
    const i = ((x - xl) / (xh - xl)) * (w - 1), j = ((y - yl) / (yh - yl)) * (h - 1);
    if (!(i >= 0 && j >= 0 && i <= w - 1 && j <= h - 1)) return NaN;
    const a = Math.min(w - 2, i | 0), b = Math.min(h - 2, j | 0), p = i - a, q = j - b, k = b * w + a;
    return Math.min(1, (u[k] * (1 - p) + u[k + 1] * p) * (1 - q) + (u[k + w] * (1 - p) + u[k + w + 1] * p) * q);
  }

  function projection() {
    const [[xl, xh], [yl, yh]] = ground.window;
    const half = Math.max(xh - xl, 1e-300) / 2, cx = (xl + xh) / 2, cy = (yl + yh) / 2;
    const tall = (yh - yl) / 2;
    const aspect = Math.min(2, Math.max(0.5, tall / half));
    const ca = Math.cos(yaw), sa = Math.sin(yaw), sp = Math.sin(pitch), cp = Math.cos(pitch);
    // as large as what is seen of the surface allows, and in the middle
    const box = [Infinity, -Infinity, Infinity, -Infinity];
    const { n, m, z } = mesh;
    for (let j = 0; j <= m; j += 2) {
      for (let i = 0; i <= n; i += 2) {
        const nx = (2 * i) / n - 1, ny = ((2 * j) / m - 1) * aspect, tallness = z[j * (n + 1) + i];
        if (tallness !== tallness) continue;
        const rx = nx * ca - ny * sa, v = (nx * sa + ny * ca) * sp + tallness * TALL * cp;
        if (rx < box[0]) box[0] = rx;
        if (rx > box[1]) box[1] = rx;
        if (v < box[2]) box[2] = v;
        if (v > box[3]) box[3] = v;
      }
    }
    if (!(box[1] > box[0])) box.splice(0, 4, -1, 1, -1, 1);
    const s = Math.min((width - 60) / (box[1] - box[0]), (height - 90) / (box[3] - box[2]));
    const ox = width / 2 - (s * (box[0] + box[1])) / 2, oy = height / 2 + (s * (box[2] + box[3])) / 2 + 14;
    return {
      to(x, y, z) {
        const nx = (x - cx) / half, ny = ((y - cy) / tall) * aspect;
        const rx = nx * ca - ny * sa, ry = nx * sa + ny * ca;
        return [ox + s * rx, oy - s * (ry * sp + z * TALL * cp), ry];
      },
      from(px, py, z) {
        const rx = (px - ox) / s, ry = ((oy - py) / s - z * TALL * cp) / sp;
        return [cx + (rx * ca + ry * sa) * half, cy + ((-rx * sa + ry * ca) / aspect) * tall];
      },
    };
  }

  function buildMesh() {
    const [[xl, xh], [yl, yh]] = ground.window;
    const n = MESH, m = Math.max(20, Math.round((MESH * Math.min(1, (yh - yl) / (xh - xl)))));
    const z = new Float32Array((n + 1) * (m + 1));
    for (let j = 0; j <= m; j++) for (let i = 0; i <= n; i++) z[j * (n + 1) + i] = heightAt(xl + ((xh - xl) * i) / n, yl + ((yh - yl) * j) / m);
    mesh = { n, m, z };
  }

  function draw() {
    frame = 0;
    if (!visible || !ground) return;
    width = element.clientWidth;
    height = element.clientHeight;
    const c = sheet.c;
    sheet.fit(width, height);
    c.fillStyle = css("--field-back");
    c.fillRect(0, 0, width, height);
    if (!mesh) buildMesh();
    const p = projection();
    const { n, m, z } = mesh;
    const [[xl, xh], [yl, yh]] = ground.window;
    const colors = ramp(css("--field-low"), css("--field-mid"), css("--field-high"), 64);
    const dark = isDark();
    const sx = new Float32Array(z.length), sy = new Float32Array(z.length), depth = new Float32Array(z.length);
    for (let j = 0; j <= m; j++) {
      for (let i = 0; i <= n; i++) {
        const k = j * (n + 1) + i;
        [sx[k], sy[k], depth[k]] = p.to(xl + ((xh - xl) * i) / n, yl + ((yh - yl) * j) / m, z[k]);
      }
    }
    const quads = [];
    for (let j = 0; j < m; j++) {
      for (let i = 0; i < n; i++) {
        const k = j * (n + 1) + i;
        const middle = (z[k] + z[k + 1] + z[k + n + 1] + z[k + n + 2]) / 4;
        if (middle === middle) quads.push([depth[k] + depth[k + n + 2], k, middle]);
      }
    }
    quads.sort((a, b) => b[0] - a[0]);
    c.lineWidth = 0.8;
    c.lineJoin = "round";
    for (const [, k, middle] of quads) {
      const dx = (z[k + 1] - z[k]) * n * 0.5, dy = (z[k + n + 1] - z[k]) * m * 0.5;
      // light from the upper left, fixed to the surface so that turning it does not make it flicker
      const light = (0.9 - 0.34 * dx + 0.34 * dy) / Math.sqrt(1 + dx * dx + dy * dy);
      const g = Math.max(0.62, Math.min(1.12, 0.72 + 0.34 * light)) * (dark ? 1.1 : 1);
      const [r, gr, b] = colors[Math.min(63, (middle * 63) | 0)];
      c.fillStyle = c.strokeStyle = `rgb(${Math.min(255, r * g)},${Math.min(255, gr * g)},${Math.min(255, b * g)})`;
      c.beginPath();
      c.moveTo(sx[k], sy[k]);
      c.lineTo(sx[k + 1], sy[k + 1]);
      c.lineTo(sx[k + n + 2], sy[k + n + 2]);
      c.lineTo(sx[k + n + 1], sy[k + n + 1]);
      c.closePath();
      c.fill();
      c.stroke();
    }
    const labelled = [], placed = [];
    for (const path of paths) {
      const end = drawPath(c, p, path, dark);
      if (!end) continue;
      placed.push([end[0] - 7, end[1] - 7, 14, 14]);
      labelled.push({ text: path.label, px: end[0], py: end[1], m: mark(path.slot, dark), strong: path.strong });
    }
    placeLabels(c, labelled, placed, [width, height]);
    const at = heightAt(start[0], start[1]);
    const [hx, hy] = p.to(start[0], start[1], at === at ? at : 0);
    handle.style.transform = `translate(${hx}px, ${hy}px)`;
    handle.hidden = at !== at;
    onPainted?.();
  }

  function drawPath(c, p, path, dark) {
    const mk = mark(path.slot, dark);
    const last = t === null ? path.rows - 1 : rowAt(path, t);
    c.beginPath();
    let pen = false, end = null, lx = -99, ly = -99;
    for (let i = 0; i <= last; i++) {
      const x = path.x[2 * i], y = path.x[2 * i + 1], z = heightAt(x, y);
      if (z !== z) { pen = false; continue; }
      // a long step lies on the surface, too: in pieces
      const prev = i ? [path.x[2 * i - 2], path.x[2 * i - 1]] : [x, y];
      const pieces = pen ? Math.min(24, Math.ceil(Math.hypot(x - prev[0], y - prev[1]) / ((ground.window[0][1] - ground.window[0][0]) / 60))) : 1;
      for (let k = 1; k <= pieces; k++) {
        const qx = prev[0] + ((x - prev[0]) * k) / pieces, qy = prev[1] + ((y - prev[1]) * k) / pieces;
        const [px, py] = p.to(pen ? qx : x, pen ? qy : y, heightAt(pen ? qx : x, pen ? qy : y) + 0.006);
        if (pen && Math.abs(px - lx) + Math.abs(py - ly) < 0.5) continue;
        if (pen) c.lineTo(px, py); else c.moveTo(px, py);
        pen = true;
        lx = px;
        ly = py;
        end = [px, py];
      }
    }
    c.setLineDash([]);
    c.strokeStyle = mk.casing;
    c.lineWidth = 4;
    c.stroke();
    c.setLineDash(mk.dash);
    c.strokeStyle = mk.color;
    c.lineWidth = path.strong ? 2.75 : 2;
    c.stroke();
    c.setLineDash([]);
    if (end) {
      traceShape(c, mk.shape, end[0], end[1], 5.5);
      c.fillStyle = mk.color;
      c.fill();
      c.strokeStyle = mk.edge;
      c.lineWidth = 1.25;
      c.stroke();
    }
    return end;
  }
  function rowAt(path, step) {
    let low = 0, high = path.rows - 1;
    while (low < high) { const middle = (low + high + 1) >> 1; if (path.t[middle] <= step) low = middle; else high = middle - 1; }
    return low;
  }

  let holding = /** @type {string|null} */ (null), px = 0, py = 0;
  const local = (e) => { const b = element.getBoundingClientRect(); return [e.clientX - b.left, e.clientY - b.top]; };
  element.addEventListener("pointerdown", (e) => {
    e.stopPropagation();
    holding = e.target === handle ? "start" : "view";
    [px, py] = local(e);
    try { element.setPointerCapture(e.pointerId); } catch { /* gone already */ }
  });
  element.addEventListener("pointermove", (e) => {
    if (!holding) return;
    const [x, y] = local(e);
    if (holding === "view") turn((x - px) * 0.008, (y - py) * 0.006);
    else moveTo(x, y, e.timeStamp);
    [px, py] = [x, y];
  });
  const up = () => { holding = null; };
  element.addEventListener("pointerup", up);
  element.addEventListener("pointercancel", up);
  element.addEventListener("wheel", (e) => { e.preventDefault(); e.stopPropagation(); turn(e.deltaX * 0.003, e.deltaY * 0.003); }, { passive: false });
  function turn(a, b) {
    yaw += a;
    pitch = Math.max(0.2, Math.min(1.5, pitch + b));
    dirty();
  }
  /** The nearest point of the window that is drawn: a start outside would have no place on the surface. */
  const seen = (x) => x.map((v, i) => Math.min(ground.window[i][1], Math.max(ground.window[i][0], v)));
  function moveTo(x, y, time) {
    if (!ground || !mesh) return;
    const p = projection();
    let z = heightAt(start[0], start[1]) || 0, at = start;
    for (let i = 0; i < 6; i++) {
      at = seen(p.from(x, y, z));
      const next = heightAt(at[0], at[1]);
      if (next !== next) return;
      z += (next - z) * 0.6;
    }
    onStart?.(seen(at.map((v) => Number(v.toPrecision(5)))), { done: false, time });
  }
  const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  handle.addEventListener("keydown", (e) => {
    const way = keys[e.key];
    if (!way || !ground) return;
    e.preventDefault();
    e.stopPropagation();
    const [[xl, xh], [yl, yh]] = ground.window;
    const next = [start[0] + (way[0] * (xh - xl)) / 100, start[1] + (way[1] * (yh - yl)) / 100];
    onStart?.(seen(next.map((v) => Number(v.toPrecision(5)))), { done: true, time: e.timeStamp });
  });
  element.addEventListener("keydown", (e) => {
    const way = keys[e.key];
    if (!way || e.target !== element) return;
    e.preventDefault();
    turn(way[0] * 0.08, -way[1] * 0.06);
  });
  const watcher = new ResizeObserver(dirty);
  watcher.observe(element);

  return {
    element,
    show(on) { visible = on; element.hidden = !on; container.classList.toggle("in-space", on); dirty(); },
    setGround(g) { ground = g; mesh = null; dirty(); },
    setPaths(list) { paths = list; dirty(); },
    setStart(x) { start = [...x]; dirty(); },
    setTime(step) { t = step; dirty(); },
    redraw: dirty,
    snapshot: () => sheet.canvas,
    destroy() { watcher.disconnect(); cancelAnimationFrame(frame); element.remove(); },
  };
}
