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
  const closed = () => {
    removeEventListener("hashchange", close);
    dialog.remove();
  };
  // A question of one view does not outlive it: the browser's back button leaves both.
  const close = () => dialog.close();
  const dialog = h("dialog.dialog", { "aria-labelledby": id, onclose: closed });
  fill(
    dialog,
    h(
      "div.stack",
      {},
      h("h2", { id }, title),
      build(close),
    ),
  );
  document.body.append(dialog);
  addEventListener("hashchange", close);
  dialog.showModal();
  return dialog;
}
