/** The picture on the start page: a quiet scene as a detector sees it, drawn with the boxes of the real views. */
import { svg } from "./dom.js";

/** Boxes: label, score in per cent, colour class, x, y, width, height. */
const BOXES = /** @type {const} */ ([
  ["cat", 97, "one", 66, 62, 142, 186],
  ["laptop", 94, "two", 252, 120, 168, 128],
  ["cup", 88, "three", 448, 172, 78, 76],
]);

/** Decoration: it tells a screen reader nothing that the words do not. */
export function illustration() {
  return svg(
    "svg",
    { class: "illustration", viewBox: "0 0 580 300", "aria-hidden": "true" },
    svg("rect", { class: "art-wall", width: 580, height: 300, rx: 18 }),
    svg("rect", { class: "art-window", x: 330, y: 26, width: 190, height: 74, rx: 6 }),
    svg("path", { class: "art-frame", d: "M425 26v74M330 63h190" }),
    svg("path", { class: "art-table", d: "M0 246h580v36a18 18 0 0 1-18 18H18a18 18 0 0 1-18-18z" }),
    cat(),
    laptop(),
    cup(),
    BOXES.map((each) => box(...each)),
    svg("path", {
      class: "art-corner",
      d: "M24 52V36a12 12 0 0 1 12-12h16M528 24h16a12 12 0 0 1 12 12v16M556 248v16a12 12 0 0 1-12 12h-16M52 276H36a12 12 0 0 1-12-12v-16",
    }),
  );
}

function cat() {
  return svg(
    "g",
    { class: "art-cat" },
    svg("path", {
      d: "M92 246c-12-44 2-88 34-104l4-2c-16-10-24-26-22-44l2-28 22 18a46 46 0 0 1 22 0l22-18 2 28c2 18-6 34-22 44 34 16 44 62 34 106z",
    }),
    svg("path", { class: "art-tail", d: "M186 236c20-6 22-30 10-44" }),
    svg("circle", { class: "art-eye", cx: 130, cy: 106, r: 4 }),
    svg("circle", { class: "art-eye", cx: 156, cy: 106, r: 4 }),
    svg("path", { class: "art-nose", d: "m139 116 4 4 4-4z" }),
  );
}

function laptop() {
  return [
    svg("rect", { class: "art-lid", x: 272, y: 130, width: 128, height: 96, rx: 8 }),
    svg("rect", { class: "art-screen", x: 280, y: 138, width: 112, height: 78, rx: 3 }),
    svg("path", { class: "art-code", d: "M290 154h40M290 168h64M300 182h52M290 196h30" }),
    svg("path", { class: "art-lid", d: "M256 230h160l-6 12a8 8 0 0 1-8 4H270a8 8 0 0 1-8-4z" }),
  ];
}

function cup() {
  return [
    svg("path", { class: "art-steam", d: "M472 190c-6-8 6-12 0-20M488 190c-6-8 6-12 0-20" }),
    svg("path", { class: "art-cup", d: "M456 196h46v34a16 16 0 0 1-16 16h-14a16 16 0 0 1-16-16z" }),
    svg("path", { class: "art-handle", d: "M502 204h6a9 9 0 0 1 0 24h-6" }),
  ];
}

function box(label, score, color, x, y, width, height) {
  const words = `${label} ${score}%`;
  const tagWidth = words.length * 8.6 + 14;
  return svg(
    "g",
    { class: `art-box art-${color}` },
    svg("rect", { class: "art-line", x, y, width, height }),
    svg("rect", { class: "art-tag", x: x - 1, y: y - 21, width: tagWidth, height: 21, rx: 3 }),
    svg("text", { x: x + 6, y: y - 6 }, words),
  );
}
