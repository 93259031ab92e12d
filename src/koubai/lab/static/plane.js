// @ts-check
// A canvas with two axes, linear or logarithmic: ticks, a window that is panned and zoomed, and handles to drag.

import { css, fitCanvas, isDark } from "./marks.js";
import { el } from "./widgets.js";

const SUPER = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const font = (size = 12, weight = 400) => `${weight} ${size}px ${css("--sans")}`;

/** 10 to a whole power, as books write it. */
export const power = (n) => `10${[...String(n)].map((d) => SUPER[d]).join("")}`;

/** A number exactly as Python's repr writes it: the shortest text that reads back to the same bits. */
export function digits(v) {
  if (v === null || v === undefined) return "–";
  if (Number.isNaN(v)) return "nan";
  if (!Number.isFinite(v)) return v > 0 ? "inf" : "−inf";
  if (v === 0) return Object.is(v, -0) ? "−0.0" : "0.0";
  const [mantissa, exponent] = Math.abs(v).toExponential().split("e");
  const all = mantissa.replace(".", "");
  const e = Number(exponent);
  let text;
  if (e < -4 || e >= 16) {
    text = `${all[0]}${all.length > 1 ? `.${all.slice(1)}` : ""}e${e < 0 ? "-" : "+"}${String(Math.abs(e)).padStart(2, "0")}`;
  } else if (e < 0) text = `0.${"0".repeat(-e - 1)}${all}`;
  else if (all.length <= e + 1) text = `${all}${"0".repeat(e + 1 - all.length)}.0`;
  else text = `${all.slice(0, e + 1)}.${all.slice(e + 1)}`;
  return (v < 0 ? "−" : "") + text;
}

/** The colours of now, by their use. */
export function palette() {
  return {
    dark: isDark(), ground: css("--raised"), ink: css("--ink"), soft: css("--soft"), faint: css("--faint"),
    line: css("--hair"), edge: css("--line"), accent: css("--accent"), bad: css("--bad"), good: css("--good"),
    casing: css("--raised"),
  };
}

/** Round steps between two numbers, about `count` of them. */
export function ticks(low, high, count) {
  const span = high - low;
  if (!(span > 0) || !Number.isFinite(span)) return [];
  const rough = span / Math.max(1, count);
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((k) => k * unit >= rough * 0.999);
  const out = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9 && out.length < 100; k++) out.push(k * step);
  return out;
}

function tickText(v, step) {
  if (Math.abs(v) < step * 1e-9) return "0";
  const size = Math.max(Math.abs(v), step);
  if (size >= 1e6 || size < 1e-4) {
    const [m, e] = v.toExponential(Math.max(0, Math.min(6, Math.floor(Math.log10(Math.abs(v))) - Math.floor(Math.log10(step))))).split("e");
    return `${m}e${Number(e)}`.replaceAll("-", "−");
  }
  return v.toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9))).replaceAll("-", "−");
}

/**
 * Make a plane. `draw(c, plane)` paints inside the frame; `x` and `y` are {low, high, log?}.
 * @param {{draw: (c: CanvasRenderingContext2D, plane: any) => void, label?: any, xName?: () => string, yName?: () => string,
 *   pad?: [number, number, number, number], grid?: boolean, frame?: boolean, square?: boolean, opaque?: boolean,
 *   onView?: ((x: {low: number, high: number}, y: {low: number, high: number}) => void) | null, after?: any, className?: string}} options
 */
export function makePlane({ draw, label = null, xName = () => "", yName = () => "", pad = [10, 12, 30, 46], grid = true, onView = null, square = false, opaque = false, after = null, className = "" }) {
  const canvas = /** @type {HTMLCanvasElement} */ (el("canvas", { role: "img", tLabel: label }));
  const element = el("div", { class: `plane ${className}` }, canvas);
  const c = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const plane = {
    element, canvas, width: 0, height: 0, x: { low: 0, high: 1, log: false }, y: { low: 0, high: 1, log: false },
    colors: palette(),
    /** Where things are drawn: left, top, right, bottom in CSS pixels. */
    get box() { return { left: pad[3], top: pad[0], right: plane.width - pad[1], bottom: plane.height - pad[2] }; },
    px(v) {
      const { low, high, log } = plane.x, b = plane.box;
      const u = log ? (Math.log10(v) - Math.log10(low)) / (Math.log10(high) - Math.log10(low)) : (v - low) / (high - low);
      return b.left + u * (b.right - b.left);
    },
    py(v) {
      const { low, high, log } = plane.y, b = plane.box;
      const u = log ? (Math.log10(v) - Math.log10(low)) / (Math.log10(high) - Math.log10(low)) : (v - low) / (high - low);
      return b.bottom - u * (b.bottom - b.top);
    },
    atX(p) {
      const { low, high, log } = plane.x, b = plane.box, u = (p - b.left) / (b.right - b.left);
      return log ? low * (high / low) ** u : low + u * (high - low);
    },
    atY(p) {
      const { low, high, log } = plane.y, b = plane.box, u = (b.bottom - p) / (b.bottom - b.top);
      return log ? low * (high / low) ** u : low + u * (high - low);
    },
    /** Show a window. */
    view(x, y) {
      if (x) Object.assign(plane.x, x);
      if (y) Object.assign(plane.y, y);
      plane.redraw();
    },
    redraw() {
      if (!wanted) wanted = requestAnimationFrame(paint);
    },
    onTheme() { plane.colors = palette(); plane.redraw(); },
    handle, destroy,
  };
  let wanted = 0;
  const handles = new Set();

  function paint() {
    wanted = 0;
    const width = element.clientWidth, height = element.clientHeight;
    if (!width || !height) return;
    plane.width = width;
    plane.height = height;
    if (square) fitSquare();
    fitCanvas(canvas, c, width, height, 3);
    c.clearRect(0, 0, width, height);
    const b = plane.box;
    c.fillStyle = plane.colors.ground;
    if (opaque) c.fillRect(0, 0, width, height); // a picture that is saved has its ground
    else c.fillRect(b.left, b.top, b.right - b.left, b.bottom - b.top);
    if (grid) axes();
    c.save();
    c.beginPath();
    c.rect(b.left, b.top, b.right - b.left, b.bottom - b.top);
    c.clip();
    draw(c, plane);
    c.restore();
    for (const h of handles) h.show();
    after?.(c, plane);
    plane.afterDraw?.(c, plane);
  }

  /** Widen one axis so that both have the same scale: the window asked for is in the middle. */
  function fitSquare() {
    const b = plane.box, w = b.right - b.left, h = b.bottom - b.top;
    const want = plane.asked ?? (plane.asked = { x: [plane.x.low, plane.x.high], y: [plane.y.low, plane.y.high] });
    const scale = Math.max((want.x[1] - want.x[0]) / w, (want.y[1] - want.y[0]) / h);
    const mx = (want.x[0] + want.x[1]) / 2, my = (want.y[0] + want.y[1]) / 2;
    Object.assign(plane.x, { low: mx - scale * w / 2, high: mx + scale * w / 2 });
    Object.assign(plane.y, { low: my - scale * h / 2, high: my + scale * h / 2 });
  }

  function marksOf(axis, length, room) {
    if (axis.log) {
      const low = Math.log10(axis.low), high = Math.log10(axis.high);
      const first = Math.ceil(low - 1e-9), last = Math.floor(high + 1e-9);
      const out = [];
      let every = Math.max(1, Math.ceil((high - low) / Math.max(1, length / room)));
      if (Math.floor(last / every) - Math.ceil(first / every) < 1) every = 1; // at least two, if there are two
      for (let k = first; k <= last; k++) if (k % every === 0) out.push([10 ** k, power(k)]);
      if (out.length > 1) return out;
      // less than a decade: round numbers within it
      const between = [];
      for (let k = Math.floor(low); k <= high; k++) {
        for (const m of [1, 2, 5]) {
          const v = m * 10 ** k;
          if (v >= axis.low && v <= axis.high) between.push([v, m === 1 && (k < -3 || k > 3) ? power(k) : tickText(v, v)]);
        }
      }
      return between.length > 1 ? between : out;
    }
    const all = ticks(axis.low, axis.high, length / room);
    const step = all.length > 1 ? all[1] - all[0] : axis.high - axis.low;
    return all.map((v) => [v, tickText(v, step)]);
  }

  function axes() {
    const b = plane.box, p = plane.colors;
    c.font = font();
    c.lineWidth = 1;
    c.strokeStyle = p.line;
    c.fillStyle = p.soft;
    c.textAlign = "center";
    c.textBaseline = "top";
    const xTitle = xName(), yTitle = yName();
    const titleWidth = xTitle ? c.measureText(xTitle).width + 10 : 0;
    for (const [v, text] of marksOf(plane.x, b.right - b.left, 74)) {
      const at = Math.round(plane.px(v)) + 0.5;
      if (at < b.left - 1 || at > b.right + 1) continue;
      c.beginPath(); c.moveTo(at, b.top); c.lineTo(at, b.bottom); c.stroke();
      const half = c.measureText(text).width / 2;
      if (at + half < b.right - titleWidth) c.fillText(text, Math.max(at, half + 1), b.bottom + 7);
    }
    if (xTitle) { c.textAlign = "right"; c.fillStyle = p.ink; c.fillText(xTitle, b.right, b.bottom + 7); c.fillStyle = p.soft; }
    c.textAlign = "right";
    c.textBaseline = "middle";
    for (const [v, text] of marksOf(plane.y, b.bottom - b.top, 52)) {
      const at = Math.round(plane.py(v)) + 0.5;
      if (at < b.top - 1 || at > b.bottom + 1) continue;
      c.beginPath(); c.moveTo(b.left, at); c.lineTo(b.right, at); c.stroke();
      if (at > b.top + (yTitle ? 20 : -2)) c.fillText(text, b.left - 7, Math.max(b.top + 5, Math.min(at, b.bottom - 3)));
    }
    if (yTitle) {
      c.textAlign = "left"; c.textBaseline = "top"; c.fillStyle = p.ink;
      c.fillText(yTitle, 8, b.top);
    }
    // the axes themselves, where 0 is in sight
    c.strokeStyle = p.soft;
    if (!plane.x.log && plane.x.low < 0 && plane.x.high > 0) {
      const at = Math.round(plane.px(0)) + 0.5;
      c.globalAlpha = 0.5; c.beginPath(); c.moveTo(at, b.top); c.lineTo(at, b.bottom); c.stroke(); c.globalAlpha = 1;
    }
    if (!plane.y.log && plane.y.low < 0 && plane.y.high > 0) {
      const at = Math.round(plane.py(0)) + 0.5;
      c.globalAlpha = 0.5; c.beginPath(); c.moveTo(b.left, at); c.lineTo(b.right, at); c.stroke(); c.globalAlpha = 1;
    }
  }

  // -- the window ------------------------------------------------------------------------------------------------------

  const fingers = new Map();
  function local(e) {
    const r = canvas.getBoundingClientRect();
    return [e.clientX - r.left, e.clientY - r.top];
  }
  function zoom(factor, atX = (plane.x.low + plane.x.high) / 2, atY = (plane.y.low + plane.y.high) / 2) {
    const { x, y } = plane;
    onView?.({ low: atX + (x.low - atX) * factor, high: atX + (x.high - atX) * factor },
      { low: atY + (y.low - atY) * factor, high: atY + (y.high - atY) * factor });
  }
  plane.zoom = zoom;
  if (onView) {
    canvas.addEventListener("wheel", (e) => {
      e.preventDefault();
      const [px, py] = local(e);
      zoom(Math.exp(Math.max(-1, Math.min(1, e.deltaY * (e.deltaMode ? 0.05 : 0.0015)))), plane.atX(px), plane.atY(py));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (e) => {
      if (plane.onPress?.(e, ...local(e))) return;
      if (e.pointerType === "touch" && !plane.ownsTouch && fingers.size === 0) { fingers.set(e.pointerId, local(e)); canvas.setPointerCapture(e.pointerId); return; }
      canvas.setPointerCapture(e.pointerId);
      fingers.set(e.pointerId, local(e));
    });
    canvas.addEventListener("pointermove", (e) => {
      const before = fingers.get(e.pointerId);
      if (!before) return;
      const now = local(e);
      const { x, y } = plane;
      if (fingers.size === 1) {
        const dx = plane.atX(before[0]) - plane.atX(now[0]), dy = plane.atY(before[1]) - plane.atY(now[1]);
        onView({ low: x.low + dx, high: x.high + dx }, { low: y.low + dy, high: y.high + dy });
      } else if (fingers.size === 2) {
        const other = [...fingers].find(([id]) => id !== e.pointerId)?.[1] ?? now;
        const was = Math.hypot(before[0] - other[0], before[1] - other[1]), is = Math.hypot(now[0] - other[0], now[1] - other[1]);
        if (was > 8 && is > 8) zoom(was / is, plane.atX((now[0] + other[0]) / 2), plane.atY((now[1] + other[1]) / 2));
      }
      fingers.set(e.pointerId, now);
    });
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
      canvas.addEventListener(name, (e) => fingers.delete(/** @type {PointerEvent} */ (e).pointerId));
    }
  }

  // -- handles ---------------------------------------------------------------------------------------------------------

  /**
   * A thing to drag: a slider for the keyboard and for screen readers, a dot for the eye.
   * at() → {x, y} in the plane or null when it is out of use; onDrag(x, y); onKey(way, far) with the arrow keys.
   */
  function handle({ label: key, at, onDrag, onKey, onRest = null, text = () => "", kind = "" }) {
    const dot = el("div", { class: `handle ${kind}`, role: "slider", tabindex: 0, tLabel: key, "aria-valuenow": 0 });
    element.append(dot);
    const own = {
      element: dot,
      show() {
        const p = at();
        const b = plane.box;
        const px = p ? plane.px(p.x) : NaN, py = p ? plane.py(p.y) : NaN;
        const seen = Number.isFinite(px) && Number.isFinite(py) && px >= b.left - 1 && px <= b.right + 1;
        dot.hidden = !p;
        if (!p) return;
        const clampedX = seen ? px : Math.min(b.right, Math.max(b.left, Number.isFinite(px) ? px : b.left));
        const clampedY = Math.min(b.bottom, Math.max(b.top, Number.isFinite(py) ? py : b.bottom));
        dot.classList.toggle("beyond", !seen || clampedY !== py);
        dot.style.transform = `translate(${clampedX}px, ${clampedY}px)`;
        dot.setAttribute("aria-valuenow", String(p.x));
        dot.setAttribute("aria-valuetext", text());
      },
    };
    let held = false, off = [0, 0];
    dot.addEventListener("pointerdown", (e) => {
      if (e.button) return;
      e.preventDefault();
      dot.setPointerCapture(e.pointerId);
      dot.focus({ preventScroll: true });
      held = true;
      const r = dot.getBoundingClientRect();
      off = [e.clientX - (r.left + r.width / 2), e.clientY - (r.top + r.height / 2)];
      dot.classList.add("held");
    });
    dot.addEventListener("pointermove", (e) => {
      if (!held) return;
      const [x, y] = local(e);
      onDrag(plane.atX(x - off[0]), plane.atY(y - off[1]));
    });
    const release = () => {
      if (!held) return;
      held = false;
      dot.classList.remove("held");
      onRest?.();
    };
    dot.addEventListener("pointerup", release);
    dot.addEventListener("pointercancel", release);
    dot.addEventListener("keydown", (e) => {
      const way = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[e.key];
      if (!way) return;
      e.preventDefault();
      onKey(way, e.shiftKey ? 10 : 1);
      onRest?.();
    });
    handles.add(own);
    plane.redraw();
    return own;
  }

  const watch = new ResizeObserver(() => plane.redraw());
  watch.observe(element);
  function destroy() {
    watch.disconnect();
    cancelAnimationFrame(wanted);
    element.remove();
  }
  return /** @type {any} */ (plane);
}

/** Draw a line through points given as arrays; a point that is not finite breaks it. */
export function trace(c, plane, xs, ys, from = 0, to = xs.length) {
  let pen = false, before = 0;
  const b = plane.box, far = 4 * (b.bottom - b.top);
  c.beginPath();
  for (let i = from; i < to; i++) {
    const x = plane.px(xs[i]);
    let y = plane.py(ys[i]);
    if (!Number.isFinite(x) || !Number.isFinite(y)) { pen = false; continue; }
    // from far above to far below at once: a pole, no line
    const side = y < b.top ? -1 : y > b.bottom ? 1 : 0;
    if (pen && side && before && side !== before) pen = false;
    before = side;
    y = Math.max(b.top - far, Math.min(b.bottom + far, y));
    if (pen) c.lineTo(x, y);
    else c.moveTo(x, y);
    pen = true;
  }
}

/** Write text with a casing of the ground's colour, so that it can be read on anything. */
export function write(c, plane, text, x, y, { color = plane.colors.ink, align = "left", base = "middle", bold = false } = {}) {
  c.font = font(12, bold ? 600 : 400);
  c.textAlign = /** @type {CanvasTextAlign} */ (align);
  c.textBaseline = /** @type {CanvasTextBaseline} */ (base);
  c.lineJoin = "round";
  c.lineWidth = 4;
  c.strokeStyle = plane.colors.casing;
  c.setLineDash([]);
  c.strokeText(text, x, y);
  c.fillStyle = color;
  c.fillText(text, x, y);
}
