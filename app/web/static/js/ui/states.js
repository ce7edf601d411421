/** Loading, empty and failed: each drawn once, the same everywhere. */
import { ApiError } from "../api.js";
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";

/**
 * The sentence and the request id of a failure.
 *
 * @param {unknown} error
 * @returns {any[]}
 */
export function errorWords(error) {
  if (error instanceof ApiError) {
    return [
      error.message,
      error.requestId && [" ", h("code", { title: "Request id, for the server's log" }, error.requestId)],
    ];
  }
  return [error instanceof Error ? error.message : String(error)];
}

/**
 * A failure in one line, as an alert.
 *
 * @param {unknown} error
 * @param {() => void} [onRetry]
 */
export function errorBanner(error, onRetry) {
  return h(
    "div.banner.banner-error",
    { role: "alert" },
    icon("warn"),
    h("div.banner-body", {}, errorWords(error)),
    onRetry && h("button.btn.btn-small", { type: "button", onclick: onRetry }, "Try again"),
  );
}

/**
 * A failure in place of a whole part of the page.
 *
 * @param {unknown} error
 * @param {() => void} [onRetry]
 */
export function errorState(error, onRetry) {
  return h(
    "div.state",
    { role: "alert" },
    icon("warn", 28),
    h("p", {}, errorWords(error)),
    onRetry && h("button.btn", { type: "button", onclick: onRetry }, "Try again"),
  );
}

/**
 * Nothing here yet, and what to do about it.
 *
 * @param {{icon?: any, title: string, text: string, actions?: any[]}} words
 */
export function emptyState({ icon: name, title, text, actions = [] }) {
  return h(
    "div.state",
    {},
    name && icon(name, 32),
    h("h2", {}, title),
    h("p", {}, text),
    actions.length > 0 && h("div.row", {}, actions),
  );
}

/**
 * @param {string} words
 */
export function loading(words = "Loading…") {
  return h("div.state", { role: "status" }, h("span.spinner"), h("p", {}, words));
}

/**
 * A loud word about a stand-in model; nothing when there is none.
 *
 * @param {{notice?: string|null}|null} model
 */
export function modelNotice(model) {
  if (!model?.notice) return null;
  return h(
    "div.banner.banner-warn",
    { role: "note" },
    icon("warn"),
    h("div.banner-body", {}, noticeWords(model.notice)),
  );
}

/**
 * The same where the model is used: what it can do in one line, and on request why it is not another.
 *
 * @param {{notice?: string|null, name: string, description: string}|null} model
 */
export function briefNotice(model) {
  if (!model?.notice) return null;
  return h(
    "details.banner.banner-warn.banner-brief",
    {},
    h(
      "summary",
      {},
      icon("warn"),
      h("span", {}, `${model.name} stands in for a larger model. ${model.description} `, h("u", {}, "Why?")),
    ),
    h("p", {}, noticeWords(model.notice)),
  );
}

/** Commands in a notice stand between backticks. @param {string} notice */
function noticeWords(notice) {
  return notice.split("`").map((part, at) => (at % 2 ? h("code", {}, part) : part));
}

/**
 * Run work behind a button: it is disabled and says so meanwhile, and a failure is shown in `place`.
 *
 * @param {HTMLButtonElement} button
 * @param {HTMLElement} place
 * @param {() => Promise<void>} work
 */
export async function busy(button, place, work) {
  if (button.getAttribute("aria-disabled") === "true") return;
  const words = [...button.childNodes];
  // Not `disabled`: the button would lose the keyboard's focus.
  button.setAttribute("aria-disabled", "true");
  fill(button, h("span.spinner"), button.textContent);
  fill(place);
  try {
    await work();
  } catch (error) {
    fill(place, errorBanner(error));
  } finally {
    button.removeAttribute("aria-disabled");
    fill(button, words);
  }
}
