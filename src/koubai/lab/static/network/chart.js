// @ts-check
// The training so far: loss, accuracy, or the gradient of each layer, epoch by epoch.

import { mark } from "../marks.js";
import { makePlane, trace, write } from "../plane.js";
import { choice, el, section } from "../widgets.js";

/**
 * @param {{lab: any, state: any, set: (values: any) => void, history: any}} options history: arrays by the epoch
 */
export function createChart({ lab, state, set, history }) {
  const t = lab.t;
  const chart = makePlane({ draw: drawChart, label: "network.chart", xName: () => t("network.epoch"), pad: [12, 70, 30, 52], className: "calm" });
  const charts = choice({
    label: "network.chart", value: state.chart,
    options: ["loss", "accuracy", "gradient"].map((c) => ({ value: c, label: `network.chart_${c}` })), onChange: (c) => set({ chart: c }),
  });
  const made = section("network.curves", el("div", { class: "chart" }, chart.element));
  made.end.append(charts.element);
  let chartEnds = [];
  chart.afterDraw = drawEnds;

  function drawChart(c, p) {
    const n = history.loss.length;
    const series = [];
    if (state.chart === "gradient") {
      history.names.forEach((name, k) => series.push({ ys: history.grad.map((row) => row[k]), look: mark(k), name: t("network.layer_short", { n: k + 1 }) }));
    } else {
      const [own, other] = state.chart === "loss" ? ["loss", "validation"] : ["accuracy", "validation_accuracy"];
      series.push({ ys: history[own], look: mark(0), name: t("network.trained") });
      if (history[other].some(Number.isFinite)) series.push({ ys: history[other], look: mark(1), name: t("network.held") });
    }
    const ends = [];
    for (const s of series) {
      const stride = Math.max(1, Math.floor(n / 700));
      const xs = [], ys = [];
      for (let i = 0; i < n; i += stride) { xs.push(i + 1); ys.push(s.ys[i]); }
      if (n && (n - 1) % stride) { xs.push(n); ys.push(s.ys[n - 1]); }
      c.strokeStyle = s.look.color; c.lineJoin = "round";
      let shown = ys.map((v) => (p.y.log && v <= 0 ? p.y.low : v));
      if (state.chart === "gradient" && shown.length > 12) { // of one batch an epoch: the trend in front of the noise
        c.lineWidth = 1; c.globalAlpha = 0.28;
        trace(c, p, xs, shown); c.stroke();
        c.globalAlpha = 1;
        shown = smooth(shown);
      }
      c.lineWidth = 1.75; c.setLineDash(s.look.dash);
      trace(c, p, xs, shown);
      c.stroke();
      c.setLineDash([]);
      if (n && Number.isFinite(s.ys[n - 1])) ends.push({ y: p.py(shown[shown.length - 1]), look: s.look, name: s.name });
    }
    chartEnds = ends;
  }
  /** A running mean of the logarithms. */
  function smooth(ys) {
    const reach = Math.max(2, Math.round(ys.length / 24));
    const logs = ys.map((v) => Math.log(Math.max(v, 1e-30)));
    return logs.map((_, i) => {
      let sum = 0, count = 0;
      for (let k = Math.max(0, i - reach); k <= Math.min(ys.length - 1, i + reach); k++) { sum += logs[k]; count++; }
      return Math.exp(sum / count);
    });
  }
  /** The names at the right, apart from one another. */
  function drawEnds(c, p) {
    const b = p.box;
    const sorted = [...chartEnds].sort((a, d) => a.y - d.y);
    let last = -Infinity;
    for (const e of sorted) {
      const y = Math.max(b.top + 5, Math.min(b.bottom - 5, Math.max(e.y, last + 14)));
      write(c, p, e.name, b.right + 6, y, { color: e.look.color, bold: true });
      last = y;
    }
  }
  /** The window of the chart follows what is in it. */
  function fitChart() {
    const n = Math.max(10, history.loss.length, Math.min(state.limit, history.loss.length * 1.2));
    const log = state.chart !== "accuracy";
    let low = Infinity, high = -Infinity;
    const see = (v) => { if (Number.isFinite(v) && (!log || v > 0)) { if (v < low) low = v; if (v > high) high = v; } };
    if (state.chart === "loss") { history.loss.forEach(see); history.validation.forEach(see); }
    else if (state.chart === "gradient") for (const row of history.grad) row.forEach(see);
    if (state.chart === "accuracy") { low = 0; high = 1; }
    if (!(high > 0)) { low = 0.1; high = 1; }
    chart.x.low = 0;
    chart.x.high = n;
    chart.y.log = log;
    chart.y.low = log ? Math.min(low / 1.3, high / 3) : 0;
    chart.y.high = log ? high * 1.3 : 1.02;
  }

  return {
    element: made.element,
    /** Show what the history holds now. */
    update() { charts.set(state.chart); fitChart(); chart.redraw(); },
    onTheme: chart.onTheme, destroy: chart.destroy,
  };
}
