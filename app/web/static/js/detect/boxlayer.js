/** Boxes over a picture as elements placed in per cent, so that they can be pointed at and stay sharp at every size. */
import { fill, h } from "../ui/dom.js";
import { colorOf } from "./colors.js";

/**
 * The layer is hidden from assistive technology: the table of objects says the same in words and takes the keyboard.
 *
 * @param {(at: number|null) => void} onPoint called with the place of the box under the pointer
 */
export function boxLayer(onPoint) {
  const element = h("div.box-layer", { "aria-hidden": "true" });
  /** @type {HTMLElement[]} */
  let boxes = [];

  /**
   * @param {import("./draw.js").Detection[]} objects
   * @param {{width: number, height: number}} size of the picture
   */
  function show(objects, size) {
    const share = (part, whole) => `${(100 * part) / whole}%`;
    boxes = objects.map(({ box: [x, y, right, bottom], label, score }, at) => {
      const color = colorOf(label);
      return h(
        "div.box",
        {
          dataset: { label },
          onpointerenter: () => onPoint(at),
          onpointerleave: () => onPoint(null),
          onclick: () => onPoint(at),
          style: {
            left: share(x, size.width),
            top: share(y, size.height),
            width: share(right - x, size.width),
            height: share(bottom - y, size.height),
            borderColor: color.fill,
            // The best and the small lie on top of the others.
            zIndex: String(objects.length - at),
          },
        },
        h(
          `span.box-tag${y < size.height * 0.08 ? ".box-tag-inside" : ""}${x > size.width * 0.75 ? ".box-tag-end" : ""}`,
          { style: { background: color.fill, color: color.text } },
          `${label} ${Math.round(score * 100)}%`,
        ),
      );
    });
    fill(element, boxes);
    select(null);
  }

  /** @param {number|null} at */
  function select(at) {
    element.classList.toggle("has-selection", at !== null);
    boxes.forEach((box, other) => box.classList.toggle("box-selected", other === at));
  }
  return { element, show, select };
}
