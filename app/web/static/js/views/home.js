/** The start page: sign up or in; for the signed in, where to go. */
import { call, isAbort } from "../api.js";
import { textSnippets } from "../detect/snippets.js";
import { summary } from "../history/row.js";
import { session } from "../session.js";
import { codeTabs } from "../ui/code.js";
import { fill, h } from "../ui/dom.js";
import { ago, dateTime } from "../ui/format.js";
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

const LATELY = 5;
const SIGNS = { text: "text", image: "image", stream: "live" };

/**
 * @param {HTMLElement} root
 * @param {import("../router.js").Visit} visit
 */
export function mount(root, { signal }) {
  fill(root, session.user ? welcome(signal) : front());
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
    programs(),
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

function welcome(signal) {
  const lately = h("div.stack-sm");
  showLately(lately, signal);
  return [
    h("div.view-head", {}, h("h1", { tabindex: -1 }, "What shall we look at?")),
    doors(),
    h(
      "div.two.welcome",
      {},
      h(
        "section.card.stack",
        {},
        h("div.row-between", {}, h("h2", {}, "Lately"), h("a.small", { href: "#/history" }, "All of your history")),
        lately,
      ),
      programs(),
    ),
    h("div", { dataset: { models: "" } }),
  ];
}

/** How a program calls the service. */
function programs() {
  return h(
    "section.card.stack.programs",
    {},
    h(
      "div.row-between",
      {},
      h("h2", {}, "From your own program"),
      h("a.small", { href: "#/account" }, "Make an API key"),
    ),
    codeTabs(textSnippets("computer cpu memory ram")),
    h(
      "p.small.muted",
      {},
      "Pictures and streams are called alike: see ",
      h("a", { href: "#/models" }, "the models"),
      " and ",
      h("a", { href: "/docs" }, "the API"),
      ".",
    ),
  );
}

/** The last few records, each a link to its own page. */
async function showLately(place, signal) {
  fill(
    place,
    [0, 1, 2].map(() => h("div.skeleton", { "aria-hidden": "true" })),
  );
  try {
    const { data } = await call("GET", "/history", { query: { limit: LATELY }, signal });
    fill(
      place,
      data.items.length
        ? h("ul.lately", {}, data.items.map(latelyRow))
        : h("p.muted", {}, "What you predict and detect appears here, for you alone."),
    );
  } catch (error) {
    if (isAbort(error)) return;
    fill(
      place,
      errorBanner(error, () => showLately(place, signal)),
    );
  }
}

function latelyRow(item) {
  const { title, chips } = summary(item);
  return h(
    "li",
    {},
    icon(SIGNS[item.kind] ?? "info", 18),
    h("a.clip", { href: `#/history/${encodeURIComponent(item.id)}` }, title),
    h("span.row.lately-chips", {}, chips.slice(0, 1)),
    h(
      "time.small.muted",
      { datetime: item.created_at, title: dateTime(item.created_at) },
      ago(item.created_at),
    ),
  );
}

function door(path, sign, title, text) {
  return h(
    "a.door",
    { href: `#/${path}` },
    h("span.door-icon", {}, icon(sign, 22)),
    h("span.grow", {}, h("strong", {}, title), h("span.small.muted", {}, text)),
    h("span.door-arrow", { "aria-hidden": "true" }, "→"),
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
