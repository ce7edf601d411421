/** Horizontal bars of shares, such as the probabilities of a category. */
import { h } from "./dom.js";
import { percent } from "./format.js";

/**
 * @param {Array<{label: string, share: number, words?: string, end?: any}>} rows share of 1; words replace the percentage;
 *        end is put after the figure
 * @param {{topFirst?: boolean}} [options] topFirst marks the first row as the answer
 */
export function bars(rows, { topFirst = true } = {}) {
  return h(
    "ul.bars",
    {},
    rows.map(({ label, share, words, end }, at) =>
      h(
        `li${topFirst && at === 0 ? ".bar-top" : ""}`,
        {},
        h(
          "div.bar-head",
          {},
          h("span", {}, label),
          h("span.row", {}, h("span.num", {}, words ?? percent(share)), end),
        ),
        h(
          "div.bar-track",
          { "aria-hidden": "true" },
          h("div.bar-fill", { style: { width: `${Math.max(0, Math.min(1, share)) * 100}%` } }),
        ),
      ),
    ),
  );
}
