/** Short messages at the bottom of the page, read out by screen readers. */
import { h } from "./dom.js";

/**
 * Say something for a while.
 *
 * @param {string} words
 * @param {{action?: string, onAction?: () => void, onEnd?: () => void, seconds?: number}} [options] onEnd is called
 *        when the time is over and the action was not taken
 * @returns {{close: () => void, finish: () => void}} close without an effect, or finish at once as if the time were over
 */
export function toast(words, { action, onAction, onEnd, seconds = 5 } = {}) {
  const host = /** @type {HTMLElement} */ (document.getElementById("toasts"));
  let timer = 0;
  const close = () => {
    clearTimeout(timer);
    element.remove();
  };
  const finish = () => {
    if (!element.isConnected) return;
    close();
    onEnd?.();
  };
  const element = h(
    "div.toast",
    {},
    h("span", {}, words),
    action &&
      h(
        "button",
        {
          type: "button",
          onclick: () => {
            close();
            onAction?.();
          },
        },
        action,
      ),
  );
  host.append(element);
  timer = setTimeout(finish, seconds * 1000);
  return { close, finish };
}
