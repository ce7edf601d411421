/** Labelled form fields with their hints and errors tied to them. */
import { fill, h, uid } from "./dom.js";

/**
 * @typedef {object} Field
 * @property {HTMLElement} element
 * @property {HTMLInputElement} input
 * @property {(sentence: string|null) => void} showError
 */

/**
 * @param {string} label
 * @param {Record<string, any>} attributes of the input; `hint` is a sentence below it
 * @returns {Field}
 */
export function field(label, { hint = null, ...attributes }) {
  const id = uid("field");
  const input = h("input.input", { id, ...attributes });
  return assemble(label, input, input, hint);
}

/**
 * A password with a button that shows it.
 *
 * @param {string} label
 * @param {Record<string, any>} attributes
 * @returns {Field}
 */
export function passwordField(label, { hint = null, ...attributes }) {
  const id = uid("field");
  const input = h("input.input", { id, type: "password", ...attributes });
  const show = h(
    "button.btn",
    {
      type: "button",
      "aria-pressed": "false",
      "aria-label": `Show ${label.toLowerCase()}`,
      onclick: () => {
        const visible = input.type === "password";
        input.type = visible ? "text" : "password";
        show.setAttribute("aria-pressed", String(visible));
        fill(show, visible ? "Hide" : "Show");
      },
    },
    "Show",
  );
  return assemble(label, input, h("div.input-with-button", {}, input, show), hint);
}

function assemble(label, input, control, hint) {
  const hintId = uid("hint");
  const errorId = uid("error");
  const error = h("p.field-error", { id: errorId, hidden: true });
  input.setAttribute("aria-describedby", `${hint ? `${hintId} ` : ""}${errorId}`);
  const element = h(
    "div.field",
    {},
    h("label", { for: input.id }, label),
    control,
    hint && h("p.field-hint", { id: hintId }, hint),
    error,
  );
  return {
    element,
    input,
    showError(sentence) {
      error.hidden = !sentence;
      fill(error, sentence);
      if (sentence) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    },
  };
}

/**
 * Put the sentences of a 422 beside their fields and the focus on the first of them.
 *
 * @param {Record<string, Field>} fields
 * @param {Record<string, string>} errors
 * @returns {boolean} whether every error found its field
 */
export function showFieldErrors(fields, errors) {
  for (const { showError } of Object.values(fields)) showError(null);
  let all = Object.keys(errors).length > 0;
  let first = true;
  for (const [name, sentence] of Object.entries(errors)) {
    if (!fields[name]) {
      all = false;
      continue;
    }
    fields[name].showError(sentence);
    if (first) fields[name].input.focus();
    first = false;
  }
  return all;
}

/**
 * A choice of a few, drawn as a segmented control (radio buttons underneath).
 *
 * @param {string} label read by screen readers
 * @param {Array<{value: string, words: any, disabled?: boolean}>} options
 * @param {string} value
 * @param {(value: string) => void} onChange
 */
export function segmented(label, options, value, onChange) {
  const name = uid("choice");
  return h(
    "div.segmented",
    { role: "radiogroup", "aria-label": label },
    options.map((option) =>
      h(
        "label",
        {},
        h("input", {
          type: "radio",
          name,
          value: option.value,
          checked: option.value === value,
          disabled: option.disabled,
          onchange: () => onChange(option.value),
        }),
        h("span", {}, option.words),
      ),
    ),
  );
}
