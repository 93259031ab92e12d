// @ts-check
// What a network looks like: its decision over the plane, the picture that each unit makes, the lines between units.

import { rgb } from "./contours.js";
import { css, fitCanvas, isDark, mark } from "./marks.js";

const offscreen = () => document.createElement("canvas");

/** A canvas of the size of an array, lowest row last as screens have it. */
function bitmap(canvas, width, height, pixel) {
  canvas.width = width;
  canvas.height = height;
  const c = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = c.createImageData(width, height);
  const data = image.data;
  for (let row = 0; row < height; row++) {
    const from = (height - 1 - row) * width;
    for (let k = 0; k < width; k++) pixel(from + k, data, 4 * (row * width + k));
  }
  c.putImageData(image, 0, 0);
  return canvas;
}

const FULL = 65535; // how a probability of 1 travels

/** The decision: each class's colour, the fainter the less sure. array: uint16 (classes, h, w). */
export function decision(array, canvas = offscreen()) {
  const [classes, height, width] = array.shape, size = width * height;
  const ground = rgb(css("--raised")), strong = isDark() ? 0.62 : 0.5;
  const colors = Array.from({ length: classes }, (_, k) => rgb(mark(k).color));
  return bitmap(canvas, width, height, (i, data, at) => {
    let r = 0, g = 0, b = 0, top = 0, sum = 0;
    for (let k = 0; k < classes; k++) {
      const p = array[k * size + i], q = p * p; // squared: what is likely is seen, what is not does not grey it
      sum += q;
      r += q * colors[k][0]; g += q * colors[k][1]; b += q * colors[k][2];
      if (p > top) top = p;
    }
    const sure = Math.max(0, (top / FULL - 1 / classes) / (1 - 1 / classes));
    const a = strong * (0.28 + 0.72 * sure), n = sum || 1;
    data[at] = ground[0] + a * (r / n - ground[0]);
    data[at + 1] = ground[1] + a * (g / n - ground[1]);
    data[at + 2] = ground[2] + a * (b / n - ground[2]);
    data[at + 3] = 255;
  });
}

/** Where one class gives way to another: segments [x1, y1, x2, y2] in pixels of the array, y upward. */
export function borders(array) {
  const [classes, height, width] = array.shape, size = width * height, out = [];
  for (let k = 0; k < (classes === 2 ? 1 : classes); k++) {
    const lead = new Float32Array(size); // of this class over the best other one
    for (let i = 0; i < size; i++) {
      let other = 0;
      for (let j = 0; j < classes; j++) if (j !== k && array[j * size + i] > other) other = array[j * size + i];
      lead[i] = array[k * size + i] - other + 0.5;
    }
    for (let y = 0; y < height - 1; y++) {
      for (let x = 0; x < width - 1; x++) {
        const i = y * width + x, a = lead[i], b = lead[i + 1], c = lead[i + width + 1], d = lead[i + width];
        const code = (a > 0 ? 1 : 0) | (b > 0 ? 2 : 0) | (c > 0 ? 4 : 0) | (d > 0 ? 8 : 0);
        if (code === 0 || code === 15) continue;
        const p = [];
        if ((a > 0) !== (b > 0)) p.push([x + a / (a - b), y]);
        if ((b > 0) !== (c > 0)) p.push([x + 1, y + b / (b - c)]);
        if ((d > 0) !== (c > 0)) p.push([x + d / (d - c), y + 1]);
        if ((a > 0) !== (d > 0)) p.push([x, y + a / (a - d)]);
        for (let s = 0; s + 1 < p.length; s += 2) out.push([p[s][0], p[s][1], p[s + 1][0], p[s + 1][1]]);
      }
    }
  }
  return out;
}

/** Colours of a unit's output: orange below 0, blue above, the ground at 0. */
export function diverging() {
  const ground = rgb(css("--raised")), low = rgb(mark(1).color), high = rgb(mark(0).color);
  const table = new Uint8ClampedArray(256 * 3);
  for (let v = 0; v < 256; v++) {
    const u = (v - 128) / 127, to = u < 0 ? low : high, a = Math.min(1, Math.abs(u)) ** 0.8;
    for (let i = 0; i < 3; i++) table[3 * v + i] = ground[i] + a * (to[i] - ground[i]);
  }
  return table;
}

/** The picture of a unit from bytes, 128 for 0, beginning at `from`. */
export function unitPicture(array, from, width, height, canvas = offscreen(), table = diverging()) {
  return bitmap(canvas, width, height, (i, data, at) => {
    const v = 3 * array[from + i];
    data[at] = table[v]; data[at + 1] = table[v + 1]; data[at + 2] = table[v + 2]; data[at + 3] = 255;
  });
}

/**
 * The diagram: a column for the inputs, each hidden layer and the outputs; a button over each unit.
 * onPick(layer, number) when a unit is chosen; name(layer, number) says what it is.
 */
export function makeDiagram({ onPick, name, head, element }) {
  const canvas = document.createElement("canvas");
  canvas.setAttribute("aria-hidden", "true");
  element.append(canvas);
  const c = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const own = { arrays: /** @type {any} */ (null), shape: /** @type {number[]} */ ([]), chosen: /** @type {any} */ (null), inputs: ["x", "y"] };
  /** @type {Map<string, HTMLButtonElement>} */
  let buttons = new Map();
  let built = "", wanted = 0, cells = /** @type {any[][]} */ ([]);
  const pictures = new Map();
  let table = new Uint8ClampedArray();

  /** Where each unit is: cells[column][unit] = {x, y, size}. */
  function arrange(width, height) {
    const columns = [own.inputs.length, ...own.shape], top = 20, room = height - top - 6;
    const across = width / columns.length;
    cells = columns.map((n, k) => {
      let best = { size: 0, cols: 1, rows: n, even: 0 };
      for (let cols = 1; cols <= n; cols++) {
        const rows = Math.ceil(n / cols);
        if (cols > 1 && (cols > rows || n <= 6)) break; // a layer stands
        const size = Math.min(38, room / rows - 3, (across - 18) / cols - 3);
        const even = size * (1 - 0.15 * (rows * cols - n) / cols); // a last row that is short looks like a mistake
        if (even > best.even + 0.5) best = { size, cols, rows, even };
      }
      const size = Math.max(4, Math.floor(best.size)), pitch = size + 3;
      const left = across * (k + 0.5) - best.cols * pitch / 2, up = top + (room - best.rows * pitch) / 2;
      return Array.from({ length: n }, (_, i) => ({
        x: left + (i % best.cols) * pitch + 1.5, y: up + Math.floor(i / best.cols) * pitch + 1.5, size,
      }));
    });
  }
  function build() {
    const key = JSON.stringify(own.shape);
    if (key === built) return;
    built = key;
    for (const b of buttons.values()) b.remove();
    buttons = new Map();
    own.shape.forEach((n, layer) => {
      for (let i = 0; i < n; i++) {
        const b = document.createElement("button");
        b.type = "button";
        b.className = "unit";
        b.addEventListener("click", () => onPick(layer, i));
        buttons.set(`${layer}.${i}`, b);
        element.append(b);
      }
    });
  }
  function label() {
    for (const [key, b] of buttons) {
      const [layer, i] = key.split(".").map(Number);
      b.setAttribute("aria-label", name(layer, i));
      b.title = name(layer, i);
      const on = own.chosen && own.chosen[0] === layer && own.chosen[1] === i;
      b.setAttribute("aria-pressed", String(Boolean(on)));
      b.classList.toggle("on", Boolean(on));
    }
  }
  function paint() {
    wanted = 0;
    const width = element.clientWidth, height = element.clientHeight;
    if (!width || !height) return;
    fitCanvas(canvas, c, width, height, 3);
    c.clearRect(0, 0, width, height);
    build();
    arrange(width, height);
    table = diverging();
    lines();
    c.font = `11.5px ${css("--sans")}`;
    c.textAlign = "center";
    c.textBaseline = "top";
    c.fillStyle = css("--faint");
    cells.forEach((column, k) => {
      const middle = width / cells.length * (k + 0.5);
      c.fillStyle = css("--soft");
      c.fillText(head(k - 1), middle, 3, width / cells.length - 4);
      column.forEach((at, i) => {
        if (k === 0) inputCell(at, i);
        else unitCell(k - 1, i, at);
      });
    });
    for (const [key, b] of buttons) {
      const [layer, i] = key.split(".").map(Number), at = cells[layer + 1]?.[i];
      if (!at) continue;
      Object.assign(b.style, { left: `${at.x}px`, top: `${at.y}px`, width: `${at.size}px`, height: `${at.size}px` });
    }
    label();
  }
  function lines() {
    const blue = mark(0).color, orange = mark(1).color;
    for (let k = 0; k + 1 < cells.length; k++) {
      const w = own.arrays?.[`weights.${k}`], from = cells[k], to = cells[k + 1];
      if (from.length * to.length > 640) continue; // they would hide one another
      let most = 1e-12;
      if (w) for (const v of w) if (Math.abs(v) > most) most = Math.abs(v);
      for (let i = 0; i < from.length; i++) {
        for (let j = 0; j < to.length; j++) {
          const v = w && w.length === from.length * to.length ? w[i * to.length + j] / most : 0;
          c.strokeStyle = v < 0 ? orange : blue;
          c.globalAlpha = 0.1 + 0.7 * Math.abs(v);
          c.lineWidth = 0.5 + 2.5 * Math.abs(v);
          const x1 = from[i].x + from[i].size, y1 = from[i].y + from[i].size / 2, x2 = to[j].x, y2 = to[j].y + to[j].size / 2;
          const bend = (x2 - x1) * 0.45;
          c.beginPath(); c.moveTo(x1, y1); c.bezierCurveTo(x1 + bend, y1, x2 - bend, y2, x2, y2); c.stroke();
        }
      }
    }
    c.globalAlpha = 1;
  }
  function frame(at) {
    c.strokeStyle = css("--line");
    c.lineWidth = 1;
    c.strokeRect(at.x - 0.5, at.y - 0.5, at.size + 1, at.size + 1);
  }
  function inputCell(at, i) {
    const g = i === 0 ? c.createLinearGradient(at.x, 0, at.x + at.size, 0) : c.createLinearGradient(0, at.y + at.size, 0, at.y);
    g.addColorStop(0, mark(1).color); g.addColorStop(0.5, css("--raised")); g.addColorStop(1, mark(0).color);
    c.fillStyle = g;
    c.fillRect(at.x, at.y, at.size, at.size);
    frame(at);
    c.fillStyle = css("--ink");
    c.textBaseline = "middle";
    c.fillText(own.inputs[i].slice(0, 8), at.x + at.size / 2, at.y + at.size / 2 + 0.5, at.size - 4);
    c.textBaseline = "top";
    c.fillStyle = css("--faint");
  }
  function unitCell(layer, i, at) {
    const array = own.arrays?.[`units.${layer}`];
    c.fillStyle = css("--raised");
    c.fillRect(at.x, at.y, at.size, at.size);
    if (array && i < array.shape[0]) {
      const [, h, w] = array.shape, key = `${layer}.${i}`;
      if (!pictures.has(key)) pictures.set(key, offscreen());
      c.imageSmoothingEnabled = true;
      c.drawImage(unitPicture(array, i * h * w, w, h, pictures.get(key), table), at.x, at.y, at.size, at.size);
    }
    frame(at);
  }
  const redraw = () => { if (!wanted) wanted = requestAnimationFrame(paint); };
  const watch = new ResizeObserver(redraw);
  watch.observe(element);
  return {
    element, redraw,
    /** Show these: shape, the units of each layer; arrays with units.L and weights.L. */
    show(values) { Object.assign(own, values); redraw(); },
    destroy() { watch.disconnect(); cancelAnimationFrame(wanted); },
  };
}
