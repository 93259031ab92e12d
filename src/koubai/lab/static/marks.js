// @ts-check
// How things that are compared are told apart: Okabe & Ito's colours, a dash and an end-mark for each slot.

// "Color Universal Design", 2008. On white its orange, sky blue and yellow are darkened until they stand out from it
// (3 : 1); on black its blue and vermilion are lightened, and black is white.
const LIGHT = ["#0072B2", "#D55E00", "#009E73", "#C46A9C", "#C28500", "#3D97CC", "#1A1A1A", "#9C8F00"];
const DARK = ["#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#FF8A4A", "#F0E442", "#F4F6F7", "#3F8FD0"];
const DASHES = [[], [9, 4], [2, 4], [10, 4, 2, 4], [14, 4], [5, 4], [12, 3, 2, 3, 2, 3], [1, 3]];
const SHAPES = ["circle", "square", "diamond", "up", "down", "plus", "cross", "star"];

const media = window.matchMedia("(prefers-color-scheme: dark)");

let root = document.documentElement;

/** Take the light or dark, and the colours, of this element: where the lab is one thing on a page of others. */
export function setRoot(element) { root = element; }

/** Whether the page is dark now. */
export function isDark() {
  const set = root.dataset.theme;
  return set ? set === "dark" : media.matches;
}

/** Hear when the browser changes between light and dark. */
export const onScheme = (listener) => media.addEventListener("change", listener);

/**
 * The look of slot `i`: colour, dash (for setLineDash), shape of the mark, casing around both.
 * No two of the first 64 look alike.
 */
export function mark(i, dark = isDark()) {
  const again = Math.floor(i / 8);
  return {
    color: (dark ? DARK : LIGHT)[i % 8],
    dash: DASHES[(i + again) % 8],
    shape: SHAPES[i % 8],
    casing: dark ? "rgba(8,12,15,0.85)" : "rgba(255,255,255,0.9)",
    edge: dark ? "rgba(8,12,15,0.9)" : "rgba(20,24,28,0.75)",
  };
}

const properties = new Map();
let propertiesOf = "";

/** The value of a custom property of the stylesheet, "--ink" say; kept, since a canvas asks for it at each drawing. */
export function css(name) {
  const scheme = String(isDark());
  if (scheme !== propertiesOf) { properties.clear(); propertiesOf = scheme; }
  let value = properties.get(name);
  if (!value) {
    value = getComputedStyle(root).getPropertyValue(name).trim();
    properties.set(name, value);
  }
  return value;
}

/** Give a canvas the pixels of a size in CSS, at most so many for one; the context then draws in CSS pixels. */
export function fitCanvas(canvas, c, width, height, most) {
  const ratio = Math.min(most, window.devicePixelRatio || 1);
  const w = Math.max(1, Math.round(width * ratio)), h = Math.max(1, Math.round(height * ratio));
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  return ratio;
}

/** Trace the shape of a mark, radius r, on a canvas: fill and stroke are the caller's. */
export function traceShape(c, shape, x, y, r) {
  c.beginPath();
  const p = (points) => {
    points.forEach(([dx, dy], i) => (i ? c.lineTo(x + dx * r, y + dy * r) : c.moveTo(x + dx * r, y + dy * r)));
    c.closePath();
  };
  const a = 0.36;
  switch (shape) {
    case "square": p([[-.86, -.86], [.86, -.86], [.86, .86], [-.86, .86]]); break;
    case "diamond": p([[0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]]); break;
    case "up": p([[0, -1.15], [1.1, .85], [-1.1, .85]]); break;
    case "down": p([[0, 1.15], [1.1, -.85], [-1.1, -.85]]); break;
    case "plus":
      p([[-a, -1.1], [a, -1.1], [a, -a], [1.1, -a], [1.1, a], [a, a], [a, 1.1], [-a, 1.1], [-a, a], [-1.1, a], [-1.1, -a], [-a, -a]]);
      break;
    case "cross": {
      const k = Math.SQRT1_2;
      p([[-a, -1.1], [a, -1.1], [a, -a], [1.1, -a], [1.1, a], [a, a], [a, 1.1], [-a, 1.1], [-a, a], [-1.1, a], [-1.1, -a], [-a, -a]]
        .map(([dx, dy]) => [(dx - dy) * k, (dx + dy) * k]));
      break;
    }
    case "star":
      p(Array.from({ length: 10 }, (_, i) => {
        const s = i % 2 ? 0.52 : 1.25;
        return [Math.sin(i * Math.PI / 5) * s, -Math.cos(i * Math.PI / 5) * s];
      }));
      break;
    default: c.arc(x, y, r, 0, 2 * Math.PI);
  }
}

/** A small canvas with the line and mark of slot i, for legends and lists; decorative, so hidden from screen readers. */
export function swatch(i, { width = 30, height = 14 } = {}) {
  const canvas = document.createElement("canvas");
  canvas.className = "swatch";
  canvas.setAttribute("aria-hidden", "true");
  canvas.width = width * 2;
  canvas.height = height * 2;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const draw = () => {
    const c = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const m = mark(i);
    c.setTransform(2, 0, 0, 2, 0, 0);
    c.clearRect(0, 0, width, height);
    c.strokeStyle = c.fillStyle = m.color;
    c.lineWidth = 2.25;
    c.setLineDash(m.dash);
    c.beginPath();
    c.moveTo(0, height / 2);
    c.lineTo(width - 6, height / 2);
    c.stroke();
    c.setLineDash([]);
    traceShape(c, m.shape, width - 6, height / 2, 4);
    c.fill();
    c.strokeStyle = m.edge;
    c.lineWidth = 0.75;
    c.stroke();
  };
  draw();
  /** @type {any} */ (canvas).redraw = draw;
  return canvas;
}
