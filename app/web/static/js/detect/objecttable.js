/** The table of objects: one tab stop, arrow keys move, the box in the picture follows. */
import { fill, h } from "../ui/dom.js";
import { percent } from "../ui/format.js";
import { colorOf } from "./colors.js";

/** @param {(at: number|null) => void} onSelect called with the row that is pointed at or has the focus */
export function objectTable(onSelect) {
  const body = h("tbody", {
    onkeydown: (event) => {
      const to = { ArrowDown: current + 1, ArrowUp: current - 1, Home: 0, End: rows.length - 1 }[event.key];
      if (to === undefined || !rows[to]) return;
      event.preventDefault();
      rows[to].focus();
    },
    onfocusout: (event) => {
      if (!body.contains(event.relatedTarget)) mark(null, true);
    },
  });
  const table = h(
    "table.table.objects",
    {},
    h("caption.visually-hidden", {}, "Objects found; move with the arrow keys to see each in the picture"),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, "Label"),
        h("th.end", { scope: "col" }, "Score"),
        h("th.end", { scope: "col" }, "Box (x1, y1, x2, y2)"),
      ),
    ),
    body,
  );
  const element = h("div.table-wrap.objects-wrap", {}, table);
  /** @type {HTMLElement[]} */
  let rows = [];
  let current = 0;

  function mark(at, tell) {
    rows.forEach((row, other) => {
      row.classList.toggle("row-selected", other === at);
      row.tabIndex = other === (at ?? current) ? 0 : -1;
    });
    if (at !== null) current = at;
    if (tell) onSelect(at);
  }

  /** @param {import("./draw.js").Detection[]} objects */
  function show(objects) {
    current = 0;
    rows = objects.map(({ label, score, box }, at) =>
      h(
        "tr",
        {
          tabindex: at === 0 ? 0 : -1,
          onfocus: () => mark(at, true),
          onpointerenter: () => mark(at, true),
          onpointerleave: () => mark(null, true),
        },
        h(
          "td",
          {},
          h("span.row", {}, h("span.swatch", { style: { background: colorOf(label).fill } }), label),
        ),
        h("td.end", {}, percent(score)),
        h("td.end.mono", {}, box.map((value) => Math.round(value)).join(", ")),
      ),
    );
    fill(body, rows);
    element.hidden = rows.length === 0;
  }
  return {
    element,
    show,
    /** @param {number|null} at mark a row whose box is pointed at */
    select(at) {
      mark(at, true);
      rows[at ?? -1]?.scrollIntoView({ block: "nearest" });
    },
  };
}
