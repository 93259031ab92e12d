// @ts-check
// The ground under the paths: values of f on a grid become bands of colour, and contour lines between them.

/**
 * How heights are spread over the bands. Functions of a bench span many decades: heights are counted as
 * log(1 + (f − low) / scale), the scale being the tenth percentile, so that valleys keep their detail.
 * @param {Float32Array} z
 */
export function heights(z) {
  const finite = [];
  const stride = Math.max(1, Math.floor(z.length / 20000));
  let low = Infinity, high = -Infinity;
  for (let i = 0; i < z.length; i++) {
    const v = z[i];
    if (v - v !== 0) continue;
    if (v < low) low = v;
    if (v > high) high = v;
    if (i % stride === 0) finite.push(v);
  }
  if (!(high > low)) return { low, high, scale: 1, top: 1, of: () => 0.5, at: () => low };
  finite.sort((a, b) => a - b);
  const tenth = finite[Math.floor(finite.length * 0.1)] - low;
  const scale = Math.max(tenth, (high - low) * 1e-6);
  const top = Math.log1p((finite[Math.floor(finite.length * 0.995)] - low) / scale) || 1;
  return {
    low, high, scale, top,
    /** 0 at the lowest, 1 at (nearly) the highest; NaN where f is none */
    of: (v) => (v - v !== 0 ? (v > 0 ? 1 : NaN) : Math.max(0, Math.log1p(Math.max(0, v - low) / scale) / top)),
    /** the value of f at height u */
    at: (u) => low + scale * Math.expm1(u * top),
  };
}

/** "#rrggbb", or "#rgb", as three numbers. */
export function rgb(hex) {
  const n = parseInt(hex.slice(1, 7), 16);
  return hex.length === 4 ? [...hex.slice(1)].map((d) => 17 * parseInt(d, 16)) : [n >> 16, (n >> 8) & 255, n & 255];
}

/** A ramp through three colours, of `count` bands, as bytes. */
export function ramp(low, mid, high, count) {
  const stops = [rgb(low), rgb(mid), rgb(high)];
  return Array.from({ length: count }, (_, i) => {
    const p = (i / Math.max(1, count - 1)) * 2;
    const k = Math.min(1, Math.floor(p));
    return stops[k].map((a, j) => Math.round(a + (stops[k + 1][j] - a) * (p - k)));
  });
}

/**
 * Paint the bands into an image of width × height by interpolating the grid between its points; top row first.
 * @param {Float32Array} u heights, row 0 lowest, shape (h, w)
 */
export function bands(u, w, h, width, height, colors) {
  const image = new ImageData(width, height);
  const out = new Uint32Array(image.data.buffer);
  const n = colors.length;
  const table = colors.map(([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r);
  const column = new Int32Array(width), part = new Float32Array(width);
  for (let i = 0; i < width; i++) {
    const x = Math.min(w - 1.001, Math.max(0, ((i + 0.5) / width) * (w - 1)));
    column[i] = x | 0;
    part[i] = x - column[i];
  }
  for (let j = 0; j < height; j++) {
    const y = Math.min(h - 1.001, Math.max(0, (1 - (j + 0.5) / height) * (h - 1)));
    const row = (y | 0) * w, q = y - (y | 0), at = j * width;
    for (let i = 0; i < width; i++) {
      const k = row + column[i], p = part[i];
      const v = (u[k] * (1 - p) + u[k + 1] * p) * (1 - q) + (u[k + w] * (1 - p) + u[k + w + 1] * p) * q;
      out[at + i] = v === v ? table[v >= 1 ? n - 1 : (v * n) | 0] : 0;
    }
  }
  return image;
}

/** Stroke the lines u = level by marching squares; (px, py) take grid coordinates to the canvas. */
export function lines(c, u, w, h, levels, px, py) {
  c.beginPath();
  for (let j = 0; j < h - 1; j++) {
    for (let i = 0; i < w - 1; i++) {
      const k = j * w + i;
      const a = u[k], b = u[k + 1], d = u[k + w], e = u[k + w + 1];
      const low = Math.min(a, b, d, e), high = Math.max(a, b, d, e);
      if (!(high > low)) continue;
      for (let l = 0; l < levels.length; l++) {
        const s = levels[l];
        if (s < low || s >= high) continue;
        // crossings of the four sides, in order round the cell
        const p = [];
        if ((a < s) !== (b < s)) p.push(i + (s - a) / (b - a), j);
        if ((b < s) !== (e < s)) p.push(i + 1, j + (s - b) / (e - b));
        if ((d < s) !== (e < s)) p.push(i + (s - d) / (e - d), j + 1);
        if ((a < s) !== (d < s)) p.push(i, j + (s - a) / (d - a));
        for (let m = 0; m + 3 < p.length; m += 4) {
          c.moveTo(px(p[m]), py(p[m + 1]));
          c.lineTo(px(p[m + 2]), py(p[m + 3]));
        }
      }
    }
  }
  c.stroke();
}
