/** The strip of figures under the live picture, with a chart of the last minute. */
import { h, svg } from "../ui/dom.js";
import { ms } from "../ui/format.js";

const PARTS = /** @type {const} */ (["inference", "queue", "decode", "network"]);
const WORDS = { inference: "Inference", queue: "Queue", decode: "Decode", network: "Network" };
const WIDTH = 600;
const HEIGHT = 90;

/**
 * @returns {{element: HTMLElement, update: (stats: import("./stats.js").StreamStats, now: number) => void}}
 */
export function statsStrip() {
  const figures = {
    perSecond: figure("Answers per second", "fps"),
    p50: figure("Latency, median", "p50"),
    p95: figure("Latency, 95th percentile", "p95"),
    age: figure("Frame age", "age"),
    dropped: figure("Dropped frames", "dropped"),
  };
  const split = Object.fromEntries(PARTS.map((part) => [part, h("span.num")]));
  const paths = Object.fromEntries(PARTS.map((part) => [part, svg("path", { class: `fill-${part}` })]));
  const chart = svg(
    "svg",
    {
      class: "chart live-chart",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    },
    PARTS.map((part) => paths[part]),
  );
  const scale = h("span.live-chart-top.num", { "aria-hidden": "true" });
  const element = h(
    "section.live-strip",
    { "aria-label": "Measured" },
    h(
      "dl.figures",
      {},
      Object.values(figures).map(({ element: each }) => each),
    ),
    h(
      "div.live-latency",
      {},
      h(
        "div.row-between",
        {},
        h(
          "ul.legend",
          {},
          PARTS.map((part) => h("li", {}, h(`span.key.fill-${part}`), WORDS[part], split[part])),
        ),
        h("span.small.muted", {}, "last minute"),
      ),
      h("div.live-chart-box", {}, chart, scale),
    ),
  );

  function update(stats, now) {
    const summary = stats.summary(now);
    figures.perSecond.show(summary.perSecond.toFixed(1));
    figures.p50.show(ms(summary.p50));
    figures.p95.show(ms(summary.p95));
    figures.age.show(ms(summary.ageMs));
    figures.dropped.show(summary.dropped.toLocaleString());
    for (const part of PARTS) split[part].textContent = ms(summary[`${part}Ms`]);
    draw(stats.perSecond(now));
  }

  function draw(seconds) {
    const sums = seconds.map((second) => (second ? PARTS.reduce((sum, part) => sum + second[part], 0) : 0));
    const most = niceCeiling(Math.max(...sums, 10));
    scale.textContent = ms(most);
    const step = WIDTH / seconds.length;
    const base = new Float64Array(seconds.length);
    for (const part of PARTS) {
      let d = "";
      seconds.forEach((second, at) => {
        if (!second) return;
        const low = HEIGHT - (base[at] / most) * HEIGHT;
        base[at] += second[part];
        const high = HEIGHT - (base[at] / most) * HEIGHT;
        d += `M${(at * step).toFixed(1)} ${low.toFixed(1)}V${high.toFixed(1)}h${(step * 0.86).toFixed(1)}V${low.toFixed(1)}z`;
      });
      paths[part].setAttribute("d", d);
    }
  }
  return { element, update };
}

function figure(name, key) {
  const value = h("dd.num", { dataset: { figure: key } }, "–");
  return {
    element: h("div.figure", {}, h("dt", {}, name), value),
    show: (words) => {
      value.textContent = words;
    },
  };
}

function niceCeiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((ceiling) => ceiling >= value) ?? value;
}
