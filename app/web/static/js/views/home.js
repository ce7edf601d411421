/** The start page: sign up or in; for the signed in, where to go. */
import { session } from "../session.js";
import { fill, h } from "../ui/dom.js";
import { icon } from "../ui/icons.js";
import { illustration } from "../ui/illustration.js";
import { errorBanner, modelNotice } from "../ui/states.js";
import { authCard } from "./auth.js";

const DOORS = /** @type {const} */ ([
  [
    "live",
    "live",
    "Live detection",
    "Point a camera, a shared screen or a video at the detector and see boxes within a moment.",
  ],
  [
    "upload",
    "image",
    "Pictures",
    "Drop pictures, inspect every object, take the result as picture, JSON or code.",
  ],
  ["text", "text", "Text", "Sort one text or a whole file into categories, with probabilities."],
]);

/** @param {HTMLElement} root */
export function mount(root) {
  fill(root, session.user ? welcome() : front());
  showModels(/** @type {HTMLElement} */ (root.querySelector("[data-models]")));
}

function front() {
  return h(
    "div.front",
    {},
    h(
      "div.front-words",
      {},
      h("h1.front-title", { tabindex: -1 }, "See what your models see."),
      h(
        "p.front-lead",
        {},
        "Lookout serves object detection and text classification from your own machine. Your camera, pictures and texts go to this server and nowhere else.",
      ),
      illustration(),
    ),
    h(
      "div.front-form",
      {},
      authCard(session.registrationOpen, "/live", "h2"),
      session.anonymous &&
        h(
          "p.small.muted",
          {},
          "You can also ",
          h("a", { href: "#/live" }, "try it without an account"),
          "; nothing is kept then.",
        ),
    ),
    doors(),
    h("div", { dataset: { models: "" } }),
  );
}

function doors() {
  return h(
    "ul.doors",
    {},
    DOORS.map(([path, sign, title, text]) => h("li", {}, door(path, sign, title, text))),
  );
}

function welcome() {
  return [
    h(
      "div.view-head",
      {},
      h(
        "div",
        {},
        h("h1", { tabindex: -1 }, "What shall we look at?"),
        h(
          "p",
          {},
          "Everything you run is kept in ",
          h("a", { href: "#/history" }, "your history"),
          ", for you alone.",
        ),
      ),
    ),
    doors(),
    h("div", { dataset: { models: "" } }),
  ];
}

function door(path, sign, title, text) {
  return h(
    "a.door",
    { href: `#/${path}` },
    h("span.door-icon", {}, icon(sign, 22)),
    h("span", {}, h("strong", {}, title), h("span.small.muted", {}, text)),
  );
}

async function showModels(place) {
  if (!session.mayPredict) return;
  try {
    const models = await session.models();
    fill(
      place,
      models.map((model) => modelNotice(model)),
      h(
        "p.small.muted.front-models",
        {},
        "Serving ",
        models.map((model, at) => [
          at > 0 && ", ",
          h("a", { href: "#/models" }, model.name),
          ` (${model.task.replaceAll("-", " ")}, ${model.labels?.length ?? 0} labels)`,
        ]),
        ".",
      ),
    );
  } catch (error) {
    fill(
      place,
      errorBanner(error, () => showModels(place)),
    );
  }
}
