/** The state of the stream in words, with a count-down to the next attempt. */
import { fill, h } from "../ui/dom.js";

const PILL = {
  idle: ["", "Not started"],
  connecting: ["warn", "Connecting…"],
  open: ["ok", "Live"],
  late: ["warn", "No answer yet"],
  waiting: ["bad", "Reconnecting"],
  closed: ["", "Stopped"],
};

/**
 * @param {{onRetry: () => void, signal: AbortSignal}} options
 * @returns {{pill: HTMLElement, message: HTMLElement, show: (status: any) => void, say: (words: any) => void}}
 */
export function streamStatus({ onRetry, signal }) {
  const pill = h("span.badge.live-pill", { role: "status", dataset: { stream: "idle" } });
  const message = h("div.live-message", { role: "alert", hidden: true });
  const left = h("span.num");
  let timer = 0;
  signal.addEventListener("abort", () => clearInterval(timer));

  /** @param {import("./stream.js").StreamStatus|{state: "idle"}} status */
  function show(status) {
    const [state, words] = PILL[status.state];
    pill.dataset.stream = status.state;
    fill(pill, h("span.dot", { dataset: { state } }), words);
    clearInterval(timer);
    const said = "words" in status ? status.words : null;
    message.hidden = !said;
    if (!said) return;
    if (status.state === "waiting") {
      const until = Date.now() + (status.retryInMs ?? 0);
      const tick = () => {
        left.textContent = ` Trying again in ${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s. `;
      };
      tick();
      timer = setInterval(tick, 500);
      // The count is not part of the alert: it would be read out every second.
      fill(
        message,
        said,
        h("span", { "aria-live": "off" }, left),
        h("button.btn.btn-small", { type: "button", onclick: onRetry }, "Try now"),
      );
    } else fill(message, said);
  }

  function say(words) {
    message.hidden = !words;
    fill(message, words);
  }
  show({ state: "idle" });
  return { pill, message, show, say };
}
