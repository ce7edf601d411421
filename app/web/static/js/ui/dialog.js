/** Modal questions, as the browser's own dialog element: focus stays inside and Escape closes. */
import { fill, h, uid } from "./dom.js";

/**
 * Open a dialog.
 *
 * @param {string} title
 * @param {(close: () => void) => any[]} build gives its content
 */
export function openDialog(title, build) {
  const id = uid("dialog");
  const dialog = h("dialog.dialog", { "aria-labelledby": id, onclose: () => dialog.remove() });
  fill(
    dialog,
    h(
      "div.stack",
      {},
      h("h2", { id }, title),
      build(() => dialog.close()),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
