/** Line icons on a 24 x 24 grid, drawn for this page. */
import { svg } from "./dom.js";

const PATHS = {
  live: [
    "M4 8V6a2 2 0 0 1 2-2h2",
    "M16 4h2a2 2 0 0 1 2 2v2",
    "M20 16v2a2 2 0 0 1-2 2h-2",
    "M8 20H6a2 2 0 0 1-2-2v-2",
    "M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z",
  ],
  image: [
    "M5 4h14a1 1 0 0 1 1 1v14a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1z",
    "m4 16 5-5 4 4 2-2 5 5",
    "M15.5 8.5h.01",
  ],
  text: ["M5 6h14", "M5 12h14", "M5 18h8"],
  history: ["M4 12a8 8 0 1 0 2.6-5.9L4 8.5", "M4 4v4.5h4.5", "M12 8v4l3 2"],
  models: ["m12 3 8 4.5v9L12 21l-8-4.5v-9z", "m4 7.5 8 4.5 8-4.5", "M12 12v9"],
  account: ["M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8z", "M5 20c.8-3.2 3.5-5 7-5s6.2 1.8 7 5"],
  sun: [
    "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z",
    "M12 2v2",
    "M12 20v2",
    "M2 12h2",
    "M20 12h2",
    "m5 5 1.5 1.5",
    "m17.5 17.5 1.5 1.5",
    "m5 19 1.5-1.5",
    "m17.5 6.5 1.5-1.5",
  ],
  moon: ["M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z"],
  auto: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "M12 3v18", "M12 8h7.5", "M12 12h9", "M12 16h7.5"],
  play: ["M7 5v14l11-7z"],
  stop: ["M6 6h12v12H6z"],
  camera: [
    "M3 8a1 1 0 0 1 1-1h3l2-3h6l2 3h3a1 1 0 0 1 1 1v10a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1z",
    "M12 9.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7z",
  ],
  screen: ["M4 5h16a1 1 0 0 1 1 1v10a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V6a1 1 0 0 1 1-1z", "M9 21h6", "M12 17v4"],
  film: [
    "M5 4h14a1 1 0 0 1 1 1v14a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1z",
    "M8 4v16",
    "M16 4v16",
    "M4 9h4",
    "M4 15h4",
    "M16 9h4",
    "M16 15h4",
  ],
  pen: ["M4 20l1-4L16.5 4.5a1.4 1.4 0 0 1 2 0l1 1a1.4 1.4 0 0 1 0 2L8 19z", "m14.5 6.5 3 3"],
  record: ["M12 6a6 6 0 1 0 0 12 6 6 0 0 0 0-12z"],
  download: ["M12 4v11", "m7 11 5 5 5-5", "M5 20h14"],
  upload: ["M12 16V5", "m7 9 5-5 5 5", "M5 20h14"],
  copy: [
    "M9 9h10a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1H9a1 1 0 0 1-1-1V10a1 1 0 0 1 1-1z",
    "M16 9V5a1 1 0 0 0-1-1H5a1 1 0 0 0-1 1v10a1 1 0 0 0 1 1h3",
  ],
  trash: ["M5 7h14", "M10 7V4h4v3", "M7 7l1 13h8l1-13", "M10 11v5", "M14 11v5"],
  close: ["M6 6l12 12", "M18 6 6 18"],
  check: ["m5 12 5 5 9-10"],
  warn: ["M12 4 2.5 20h19z", "M12 10v4.5", "M12 17.5h.01"],
  info: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "M12 11v5", "M12 8h.01"],
  search: ["M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14z", "m20 20-4-4"],
  filter: ["M4 6h16", "M7 12h10", "M10 18h4"],
  back: ["M19 12H5", "m11 6-6 6 6 6"],
  key: ["M8 9a4 4 0 1 0 0 8 4 4 0 0 0 0-8z", "m11 11 8-8", "m16 6 3 3", "m14 8 2 2"],
  expand: ["M4 9V4h5", "M20 9V4h-5", "M4 15v5h5", "M20 15v5h-5"],
  shield: ["M12 3 5 6v5c0 4.5 3 8 7 10 4-2 7-5.5 7-10V6z", "m9 12 2 2 4-4"],
};

/**
 * An icon, hidden from assistive technology: the control that holds it carries the name.
 *
 * @param {keyof typeof PATHS} name
 * @param {number} [size] in CSS pixels
 * @returns {SVGElement}
 */
export function icon(name, size = 18) {
  return svg(
    "svg",
    {
      width: size,
      height: size,
      viewBox: "0 0 24 24",
      fill: "none",
      stroke: "currentColor",
      "stroke-width": 2,
      "stroke-linecap": "round",
      "stroke-linejoin": "round",
      "aria-hidden": "true",
    },
    PATHS[name].map((d) => svg("path", { d })),
  );
}
