/** The models this server serves. */
import { detectionSnippets, streamSnippet, textSnippets } from "../detect/snippets.js";
import { usefulLabels } from "../detect/controls.js";
import { session } from "../session.js";
import { codeTabs } from "../ui/code.js";
import { fill, h } from "../ui/dom.js";
import { count } from "../ui/format.js";
import { icon } from "../ui/icons.js";
import { loading, modelNotice } from "../ui/states.js";
import { signInFirst } from "./auth.js";

const STATES = { ready: "badge-ok", loading: "badge-warn", warming: "badge-warn", failed: "badge-danger" };
const LABELS_SHOWN = 24;

/**
 * @param {HTMLElement} root
 * @param {import("../router.js").Visit} visit
 */
export async function mount(root, { signal }) {
  if (!session.mayPredict) {
    fill(root, signInFirst("Models", "Sign in to see what this server serves."));
    return;
  }
  fill(root, loading());
  const models = await session.models({ fresh: true });
  if (signal.aborted) return;
  fill(
    root,
    h(
      "div.view-head",
      {},
      h(
        "div",
        {},
        h("h1", { tabindex: -1 }, "Models"),
        h("p", {}, "What this server serves, how good each is, and how to call it."),
      ),
    ),
    h(
      "div.models",
      {},
      models.map((model) => card(model)),
    ),
  );
}

function card(model) {
  const labels = usefulLabels(model);
  const isDetector = model.task === "object-detection";
  return h(
    "article.card.stack.model",
    {},
    h(
      "div.row-between",
      {},
      h("div", {}, h("h2", {}, model.name), h("p.small.muted", {}, model.task.replaceAll("-", " "))),
      h(
        "div.row",
        {},
        h(`span.badge.${STATES[model.state] ?? "badge-warn"}`, {}, model.state),
        h("span.badge", {}, model.device),
      ),
    ),
    modelNotice(model),
    model.description && h("p", {}, model.description),
    quality(model.quality ?? {}),
    h(
      "div",
      {},
      h("h3", {}, `${labels.length} labels`),
      h(
        "div.row.label-list",
        {},
        labels.slice(0, LABELS_SHOWN).map((label) => h("span.badge", {}, label)),
      ),
      labels.length > LABELS_SHOWN &&
        h(
          "details.more",
          {},
          h("summary", {}, `${labels.length - LABELS_SHOWN} more`),
          h(
            "div.row.label-list",
            {},
            labels.slice(LABELS_SHOWN).map((label) => h("span.badge", {}, label)),
          ),
        ),
    ),
    h(
      "dl.facts",
      {},
      fact("Version", h("span.mono", {}, model.version)),
      fact("Computed by", model.backend),
      fact("Trained on", model.training_data),
      fact(
        "Made with",
        Object.entries(model.libraries ?? {})
          .map(([name, version]) => `${name} ${version}`)
          .join(", "),
      ),
      fact("License", model.license),
    ),
    h(
      "div.row",
      {},
      isDetector
        ? [
            h("a.btn", { href: "#/live" }, icon("live", 16), "Live detection"),
            h("a.btn", { href: "#/upload" }, icon("image", 16), "Upload a picture"),
          ]
        : h("a.btn", { href: "#/text" }, icon("text", 16), "Classify a text"),
    ),
    h(
      "details.more",
      {},
      h("summary", {}, "Call it from code"),
      codeTabs(
        isDetector
          ? {
              ...detectionSnippets("picture.jpg", { threshold: 0.5, labels: [] }),
              "WebSocket (Python)": streamSnippet(),
            }
          : textSnippets("computer cpu memory ram"),
      ),
      h(
        "p.small.muted",
        {},
        "Make an API key under ",
        h("a", { href: "#/account" }, "Account"),
        ". All calls are described at ",
        h("a", { href: "/docs" }, "/docs"),
        ".",
      ),
    ),
  );
}

function fact(name, value) {
  return value ? [h("dt", {}, name), h("dd", {}, value)] : null;
}

/** Figures stand out, the one that the metric names first; what they were measured on is told in words. */
function quality({ metric, value, size, ...rest }) {
  const others = Object.entries(rest);
  const figures = [
    value !== undefined && [metric ?? "quality", value],
    ...others.filter(([, each]) => typeof each === "number"),
  ].filter(Boolean);
  const words = [
    size !== undefined && ["measured on", count(size, "example")],
    ...others.filter(([, each]) => typeof each === "string"),
  ].filter(Boolean);
  if (!figures.length) return null;
  return h(
    "section.quality",
    {},
    h("h3", {}, "Measured quality"),
    h(
      "dl.figures",
      {},
      figures.map(([name, each]) =>
        h(
          "div.figure",
          {},
          h("dt", {}, name.replace(/^value_/, "").replaceAll("_", " ")),
          h("dd.num", {}, Number(each.toFixed(4)).toLocaleString(undefined, { maximumFractionDigits: 4 })),
        ),
      ),
    ),
    words.length > 0 &&
      h(
        "dl.facts",
        {},
        words.map(([name, each]) => fact(name.replaceAll("_", " "), each)),
      ),
  );
}
