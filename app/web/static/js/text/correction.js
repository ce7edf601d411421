/** "Not right?": one click says what a prediction should have been, another takes it back. */
import { call } from "../api.js";
import { fill, h } from "../ui/dom.js";
import { icon } from "../ui/icons.js";
import { errorBanner } from "../ui/states.js";

/**
 * @param {string} id of the record
 * @param {string[]} labels that it could have been
 * @param {string} predicted
 * @param {{label: string}|null} feedback already given
 */
export function correction(id, labels, predicted, feedback) {
  const place = h("div.correction.stack-sm");
  const problem = h("div");
  let given = feedback?.label ?? null;
  let working = false;

  async function say(label) {
    if (working || label === given) return;
    working = true;
    fill(problem);
    try {
      const path = `/history/${encodeURIComponent(id)}/feedback`;
      if (label === null) await call("DELETE", path);
      else await call(given === null ? "POST" : "PATCH", path, { json: { label } });
      given = label;
    } catch (error) {
      fill(problem, errorBanner(error));
    } finally {
      working = false;
      show(true);
    }
  }

  function show(refocus = false) {
    fill(
      place,
      h(
        "p.small",
        { role: "status" },
        given === null
          ? "Is that right? Your word is kept with the record."
          : given === predicted
            ? "You confirmed this category."
            : ["You corrected this to ", h("strong", {}, given), "."],
      ),
      h(
        "div.row",
        {},
        labels.map((label) =>
          h(
            "button.btn.btn-small",
            { type: "button", "aria-pressed": String(label === given), onclick: () => say(label) },
            label === given && icon("check", 14),
            label,
          ),
        ),
        given !== null &&
          h("button.btn.btn-small.btn-quiet", { type: "button", onclick: () => say(null) }, "Take it back"),
      ),
      problem,
    );
    if (refocus)
      /** @type {HTMLElement|null} */ (
        place.querySelector("[aria-pressed=true]") ?? place.querySelector("button")
      )?.focus();
  }
  show();
  return place;
}
