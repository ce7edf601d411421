/** A small chart of upright bars, with a title on each and the numbers in a table for screen readers. */
import { h, svg } from "./dom.js";

const WIDTH = 360;
const HEIGHT = 120;
const BASE = 18;

/**
 * @param {Array<{name: string, value: number}>} rows from left to right
 * @param {string} title
 */
export function barChart(rows, title) {
  const most = Math.max(1, ...rows.map(({ value }) => value));
  const step = WIDTH / rows.length;
  const full = HEIGHT - BASE - 12;
  const chart = svg(
    "svg",
    { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" },
    svg("line", { class: "axis", x1: 0, x2: WIDTH, y1: HEIGHT - BASE, y2: HEIGHT - BASE }),
    rows.map(({ name, value }, at) => {
      const height = value === 0 ? 0 : Math.max(2, (value / most) * full);
      return svg(
        "rect",
        {
          class: "bar",
          x: at * step + step * 0.12,
          y: HEIGHT - BASE - height,
          width: step * 0.76,
          height,
          rx: Math.min(3, step * 0.2),
        },
        svg("title", {}, `${name}: ${value.toLocaleString()}`),
      );
    }),
    svg("text", { x: 0, y: HEIGHT - 4 }, rows[0]?.name ?? ""),
    svg("text", { x: WIDTH, y: HEIGHT - 4, "text-anchor": "end" }, rows.at(-1)?.name ?? ""),
    svg("text", { x: 0, y: 9 }, most.toLocaleString()),
  );
  const table = h(
    "table.visually-hidden",
    {},
    h("caption", {}, title),
    h(
      "tbody",
      {},
      rows
        .filter(({ value }) => value > 0)
        .map(({ name, value }) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value))),
    ),
  );
  return h("div", {}, chart, table);
}
