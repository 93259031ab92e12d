// @ts-check
// What the derivative bench draws: secant and tangent on the curve, a descent on it, and the V of the errors.

import { mark, traceShape } from "../marks.js";
import { trace, write } from "../plane.js";
import { number as written, percent } from "../text.js";

export const METHODS = ["forward", "backward", "central"];

/**
 * @param {{state: any, t: any, seen: () => any, height: (x: number) => number, heightOf: (x: number) => number}} options
 *   seen(): what the engine has answered last: curve, found, vee, run, valley, narrated, and the step t that is shown;
 *   height(x): of the curve; heightOf(x): as the engine gave it, where it did
 */
export function createPictures({ state, t, seen, height, heightOf }) {
  const sign = () => (state.method === "backward" ? -1 : 1);
  const exactHere = () => { const { found } = seen(); return found && found.x === state.x && found.h === state.h; };

  /** @param {CanvasRenderingContext2D} c @param {any} p */
  function draw(c, p) {
    const { curve } = seen();
    if (!curve) return;
    if (state.tab !== "descent") drawSlope(c, p);
    else drawDescent(c, p);
  }
  function drawCurve(c, p) {
    const { curve } = seen();
    c.setLineDash([]);
    c.lineJoin = "round";
    c.lineWidth = 2.5;
    c.strokeStyle = p.colors.ink;
    trace(c, p, curve.x, curve.f);
    c.stroke();
  }
  function line(c, p, x, y, slope) {
    const b = p.box;
    const x1 = p.atX(b.left - 5), x2 = p.atX(b.right + 5);
    c.beginPath();
    c.moveTo(p.px(x1), p.py(y + slope * (x1 - x)));
    c.lineTo(p.px(x2), p.py(y + slope * (x2 - x)));
    c.stroke();
  }
  function drawSlope(c, p) {
    const { found } = seen();
    const { x, h, method } = state, b = p.box, look = mark(METHODS.indexOf(method));
    const y = heightOf(x);
    const here = exactHere();
    const far = x + sign() * h, yFar = heightOf(far), low = x - h, yLow = heightOf(low);
    const slope = here ? found[method].value
      : method === "central" ? (height(x + h) - yLow) / (2 * h) : (yFar - y) / (sign() * h);
    const exact = found && found.x === x ? found.exact : null;
    // the triangle: how far along, how far up
    const from = method === "central" ? [low, yLow] : [x, y];
    const [x1, y1, x2, y2] = [p.px(from[0]), p.py(from[1]), p.px(far), p.py(yFar)];
    if (Math.abs(x2 - x1) > 10 && Number.isFinite(y1 + y2)) {
      c.fillStyle = look.color;
      c.globalAlpha = p.colors.dark ? 0.16 : 0.1;
      c.beginPath(); c.moveTo(x1, y1); c.lineTo(x2, y1); c.lineTo(x2, y2); c.closePath(); c.fill();
      c.globalAlpha = 1;
      c.strokeStyle = p.colors.soft;
      c.lineWidth = 1;
      c.setLineDash([3, 3]);
      c.beginPath(); c.moveTo(x1, y1); c.lineTo(x2, y1); c.lineTo(x2, y2); c.stroke();
      c.setLineDash([]);
    }
    if (exact !== null && Number.isFinite(y)) {
      c.strokeStyle = p.colors.soft;
      c.lineWidth = 1.75;
      c.setLineDash([7, 5]);
      line(c, p, x, y, exact);
      c.setLineDash([]);
    }
    drawCurve(c, p);
    if (Number.isFinite(slope)) {
      c.strokeStyle = look.casing; c.lineWidth = 4.5;
      line(c, p, from[0], Number.isFinite(from[1]) ? from[1] : y, slope);
      c.strokeStyle = look.color; c.lineWidth = 2.25;
      line(c, p, from[0], Number.isFinite(from[1]) ? from[1] : y, slope);
    }
    for (const [px, py] of [from, [far, yFar]]) {
      if (!Number.isFinite(py)) continue;
      c.fillStyle = look.color; c.strokeStyle = look.casing; c.lineWidth = 1.5;
      traceShape(c, look.shape, p.px(px), p.py(py), 5); c.fill(); c.stroke();
    }
    if (Math.abs(x2 - x1) > 44 && Number.isFinite(y1 + y2)) {
      const above = y2 > y1; // the triangle hangs: its names stand outside of it
      write(c, p, method === "central" ? "2h" : "h", (x1 + x2) / 2, y1 + (above ? -11 : 13), { align: "center", color: p.colors.soft });
      const side = x2 > x1 ? 1 : -1;
      const room = side > 0 ? b.right - x2 > 28 : x2 - b.left > 28;
      if (Math.abs(y2 - y1) > 24 && room) write(c, p, "Δf", x2 + side * 9, (y1 + y2) / 2, { align: side > 0 ? "left" : "right", color: p.colors.soft });
    }
    // names at the ends of the lines, apart from one another
    const names = [];
    const base = Number.isFinite(from[1]) ? from : [x, y];
    if (Number.isFinite(slope)) names.push({ text: `${t("derivative.secant")} ${written(slope, 6)}`, color: look.color, at: end(p, base[0], base[1], slope), other: end(p, base[0], base[1], slope, true) });
    if (exact !== null && Number.isFinite(y)) names.push({ text: `${t("derivative.tangent")} ${written(exact, 6)}`, color: p.colors.soft, at: end(p, x, y, exact), other: end(p, x, y, exact, true) });
    place(c, p, names);
  }
  /** Where a line leaves the frame on the right (or the left), or through its top or bottom. */
  function end(p, x, y, slope, left = false) {
    const b = p.box;
    let px = left ? b.left + 8 : b.right - 8, py = p.py(y + slope * (p.atX(px) - x));
    const edge = py < b.top + 14 ? b.top + 14 : py > b.bottom - 14 ? b.bottom - 14 : null;
    if (edge !== null && slope !== 0) { px = (left ? Math.max : Math.min)(px, p.px(x + (p.atY(edge) - y) / slope) + (left ? 16 : -16)); py = edge; }
    return [px, py];
  }
  function place(c, p, names) {
    const b = p.box;
    // a name that would lie under a handle stands at the other end of its line
    const held = [state.x, state.x + sign() * state.h].map((v) => [p.px(v), p.py(heightOf(v))]);
    for (const n of names) {
      const covers = held.some(([hx, hy]) => Math.abs(n.at[1] - 11 - hy) < 26 && hx > n.at[0] - 120 && hx < n.at[0] + 22);
      if (covers) { n.at = n.other; n.left = n.at[0] < b.left + 140; }
    }
    names.sort((a, d) => a.at[1] - d.at[1]);
    let last = null;
    for (const n of names) {
      let [x, y] = n.at;
      c.font = `600 12px ${getComputedStyle(document.body).fontFamily}`;
      const width = c.measureText(n.text).width;
      if (n.other === n.at) x += width + 14; // beside the left end, not before it
      x = Math.max(b.left + width + 6, Math.min(x, b.right - 8));
      y -= 11; // above its line
      if (last && Math.abs(last.y - y) < 18 && Math.abs(last.x - x) < Math.max(width, last.width) + 8) y = last.y + (last.y + 18 > b.bottom - 8 ? -18 : 18);
      y = Math.max(b.top + 9, y);
      write(c, p, n.text, x, y, { align: "right", color: n.color, bold: true });
      last = { x, y, width };
    }
  }

  function drawDescent(c, p) {
    const { valley, run, narrated } = seen();
    const b = p.box;
    drawCurve(c, p);
    if (valley) drawStrip(c, p, b);
    if (!run?.path.length) return;
    const look = mark(0), n = Math.min(seen().t + 1, run.path.length);
    const xs = run.path, ys = run.fs;
    c.strokeStyle = look.casing; c.lineWidth = 4.5; c.lineJoin = "round";
    trace(c, p, xs, ys, 0, n); c.stroke();
    c.strokeStyle = look.color; c.lineWidth = 1.75;
    trace(c, p, xs, ys, 0, n); c.stroke();
    c.fillStyle = look.color;
    for (let i = 0; i < n; i++) {
      const px = p.px(xs[i]), py = p.py(ys[i]);
      if (px < b.left - 5 || px > b.right + 5 || !Number.isFinite(py)) continue;
      c.beginPath(); c.arc(px, py, 2.6, 0, 7); c.fill();
    }
    // the step of now: the tangent that it goes by, and its length along the axis
    const s = narrated;
    const at = n - 1;
    if (s && s.t === at && Number.isFinite(s.f)) {
      c.strokeStyle = p.colors.soft; c.lineWidth = 1.5; c.setLineDash([6, 4]);
      const half = 0.09 * (p.x.high - p.x.low);
      c.beginPath(); c.moveTo(p.px(s.x[0] - half), p.py(s.f - half * s.g[0])); c.lineTo(p.px(s.x[0] + half), p.py(s.f + half * s.g[0])); c.stroke();
      c.setLineDash([]);
      arrow(c, p, p.px(s.x[0]), p.px(s.x_next[0]), p.py(s.f));
    }
    const px = p.px(xs[at]), py = p.py(ys[at]);
    if (Number.isFinite(px + py)) {
      c.fillStyle = look.color; c.strokeStyle = look.casing; c.lineWidth = 2;
      traceShape(c, look.shape, px, py, 7); c.fill(); c.stroke();
      const inFrame = px > b.left && px < b.right && py > b.top && py < b.bottom;
      if (inFrame && at > 0) {
        const name = `${state.optimizer.name}  ${at}`;
        const left = px > b.right - 90;
        write(c, p, name, px + (left ? -13 : 13), Math.max(b.top + 10, py - 16), { color: look.color, bold: true, align: left ? "right" : "left" });
      }
    }
  }
  function arrow(c, p, x1, x2, y) {
    if (Math.abs(x2 - x1) < 3) return;
    c.strokeStyle = c.fillStyle = p.colors.accent;
    c.lineWidth = 2.25;
    const way = Math.sign(x2 - x1), size = Math.min(8, Math.abs(x2 - x1));
    c.beginPath(); c.moveTo(x1, y); c.lineTo(x2 - way * size * 0.7, y); c.stroke();
    c.beginPath(); c.moveTo(x2, y); c.lineTo(x2 - way * size, y - size * 0.55); c.lineTo(x2 - way * size, y + size * 0.55); c.closePath(); c.fill();
  }
  /** Along the lower edge: for each start the valley that it ends in; in each valley its share. */
  function drawStrip(c, p, b) {
    const { valley } = seen();
    const high = 14, top = b.bottom - high, xs = valley.arrays.x, label = valley.arrays.label;
    const step = (p.px(xs[xs.length - 1]) - p.px(xs[0])) / (xs.length - 1);
    let from = 0;
    for (let i = 1; i <= label.length; i++) {
      if (i < label.length && label[i] === label[from]) continue;
      const left = p.px(xs[from]) - step / 2, right = p.px(xs[i - 1]) + step / 2, k = label[from];
      c.fillStyle = k >= 0 ? mark(k + 1).color : p.colors.edge;
      c.fillRect(left, top, right - left, high);
      if (k >= 0 && right - left > 22) {
        c.fillStyle = "#fff"; c.font = `600 11px ${getComputedStyle(document.body).fontFamily}`;
        c.textAlign = "center"; c.textBaseline = "middle";
        c.lineWidth = 3; c.strokeStyle = "rgba(0,0,0,0.55)";
        c.strokeText(String(k + 1), (left + right) / 2, top + high / 2 + 0.5);
        c.fillText(String(k + 1), (left + right) / 2, top + high / 2 + 0.5);
      }
      from = i;
    }
    c.strokeStyle = p.colors.ground; c.lineWidth = 2; c.setLineDash([]);
    c.beginPath(); c.moveTo(b.left, top - 1); c.lineTo(b.right, top - 1); c.stroke();
    valley.minima.slice(0, 8).forEach((m, k) => {
      const x = p.px(m.x), y = p.py(m.fun);
      if (x < b.left || x > b.right || y < b.top || y > b.bottom) return;
      c.fillStyle = mark(k + 1).color; c.strokeStyle = p.colors.ground; c.lineWidth = 2;
      c.beginPath(); c.arc(x, y, 5.5, 0, 7); c.fill(); c.stroke();
      write(c, p, `${k + 1}  ${percent(m.share)}`, x, Math.min(y + 18, top - 10), { align: "center", bold: true });
    });
  }

  function drawErrors(c, p) {
    const { vee } = seen();
    if (!vee) return;
    const b = p.box, a = vee.arrays;
    const stuck = p.px(vee.stuck);
    if (stuck > b.left) {
      c.fillStyle = p.colors.line;
      c.fillRect(b.left, b.top, stuck - b.left, b.bottom - b.top);
      if (stuck - b.left > 24) {
        c.save(); c.translate((b.left + stuck) / 2, (b.top + b.bottom) / 2); c.rotate(-Math.PI / 2);
        write(c, p, "x + h = x", 0, 0, { align: "center", color: p.colors.soft });
        c.restore();
      }
    }
    const stated = Math.max(p.y.low, vee.adaptive.error || p.y.low);
    if (Number.isFinite(stated)) {
      c.strokeStyle = p.colors.soft; c.lineWidth = 1.5; c.setLineDash([2, 3]);
      c.beginPath(); c.moveTo(b.left, p.py(stated)); c.lineTo(b.right, p.py(stated)); c.stroke(); c.setLineDash([]);
      const under = p.py(stated) - 18 < b.top;
      write(c, p, t("derivative.adaptive"), b.right - 6, p.py(stated) + (under ? 10 : -9), { align: "right", color: p.colors.soft });
    }
    const order = METHODS.filter((m) => m !== state.method).concat(state.method);
    for (const method of order) {
      const look = mark(METHODS.indexOf(method)), chosen = method === state.method;
      const ys = Float64Array.from(a[method], (v) => (v === 0 ? p.y.low : v));
      c.strokeStyle = look.color; c.globalAlpha = chosen ? 1 : 0.55; c.lineWidth = chosen ? 2 : 1.25;
      c.setLineDash(look.dash); c.lineJoin = "round";
      trace(c, p, a.h, ys); c.stroke();
      c.setLineDash([]); c.globalAlpha = 1;
      const best = vee.best[method];
      if (chosen && best.error > 0) {
        c.fillStyle = look.color; c.strokeStyle = p.colors.ground; c.lineWidth = 1.5;
        traceShape(c, look.shape, p.px(best.h), p.py(Math.max(p.y.low, best.error)), 4.5); c.fill(); c.stroke();
      }
    }
    const x = p.px(state.h);
    c.strokeStyle = p.colors.accent; c.globalAlpha = 0.5; c.lineWidth = 1;
    c.beginPath(); c.moveTo(x, b.top); c.lineTo(x, b.bottom); c.stroke(); c.globalAlpha = 1;
  }

  return { draw, drawErrors };
}
