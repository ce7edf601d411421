/** Text classification: one text (`#/text?q=…`), or a file of many. */
import { call, isAbort } from "../api.js";
import { textSnippets } from "../detect/snippets.js";
import { keepQuery } from "../router.js";
import { session } from "../session.js";
import { correction } from "../text/correction.js";
import { batchCard } from "../text/batchcard.js";
import { bars } from "../ui/bars.js";
import { codeTabs } from "../ui/code.js";
import { fill, h, uid } from "../ui/dom.js";
import { ms, shortVersion } from "../ui/format.js";
import { busy, modelNotice } from "../ui/states.js";
import { signInFirst } from "./auth.js";

/** A longer text makes an address that servers and chat programs refuse. */
const LONGEST_SHARED = 1500;

const EXAMPLES = [
  "My PowerBook does not wake from sleep since I added memory and a new SCSI drive.",
  "Is a 56-bit key still safe, or should the cipher use three keys?",
  "What did the early church teach about the resurrection?",
];

/**
 * @param {HTMLElement} root
 * @param {import("../router.js").Visit} visit
 */
export async function mount(root, { query, signal }) {
  if (!session.mayPredict) {
    fill(root, signInFirst("Classify text", "Sign in to sort texts into categories."));
    return;
  }
  const model = await session.model("text-classification");
  if (signal.aborted) return;
  const id = uid("text");
  const problem = h("div");
  const result = h("div", { role: "region", "aria-label": "Result", "aria-live": "polite" }, placeholder());
  const area = h("textarea.input", {
    id,
    value: query.get("q") ?? "",
    placeholder: "Type or paste a text…",
    onkeydown: onKey,
    oninput: () => showLength(),
  });
  const length = h("span.small.muted.num");
  const button = h("button.btn.btn-primary", { type: "submit" }, "Classify");

  function onKey(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  }
  function showLength() {
    length.textContent = `${area.value.length.toLocaleString()} characters`;
  }
  async function classify() {
    const text = area.value;
    if (!text.trim()) {
      area.focus();
      throw new Error("There is no text to classify yet.");
    }
    keepQuery({ q: text.length <= LONGEST_SHARED ? text : null });
    try {
      const { data, timing } = await call("POST", "/prediction", { json: { text }, signal });
      fill(result, answer(text, data, timing));
      // Where the columns lie below each other, it would come out of sight.
      result.scrollIntoView({ block: "nearest" });
    } catch (error) {
      if (!isAbort(error)) throw error;
    }
  }

  const form = h(
    "form.card.stack",
    {
      onsubmit: (event) => {
        event.preventDefault();
        busy(button, problem, classify);
      },
    },
    h("div.field", {}, h("label", { for: id }, "Text"), area),
    problem,
    h(
      "div.row-between",
      {},
      length,
      h(
        "div.row",
        {},
        h("span.small.muted.keys", {}, h("kbd", {}, "Ctrl"), " ", h("kbd", {}, "Enter")),
        button,
      ),
    ),
    h(
      "div.stack-sm",
      {},
      h("span.small.muted", {}, "Or try one of these:"),
      h(
        "ul.examples",
        {},
        EXAMPLES.map((text) =>
          h("li", {}, h("button.example", { type: "button", onclick: () => use(text) }, text)),
        ),
      ),
    ),
  );
  function use(text) {
    area.value = text;
    showLength();
    form.requestSubmit();
  }
  showLength();
  fill(
    root,
    h(
      "div.view-head",
      {},
      h(
        "div",
        {},
        h("h1", { tabindex: -1 }, "Classify text"),
        h(
          "p",
          {},
          model
            ? ["Model ", h("a", { href: "#/models" }, model.name), ": ", model.labels.join(", "), "."]
            : "",
        ),
      ),
    ),
    modelNotice(model),
    h("div.two", {}, form, result),
    batchCard({ signal }),
  );
  if (query.get("q")) form.requestSubmit();
}

function placeholder() {
  return h(
    "div.state",
    {},
    h("h2", {}, "The category appears here"),
    h("p", {}, "With the probability of each, so that you see how sure the model is."),
  );
}

/** The card of one answer. */
function answer(text, data, timing) {
  const rows = Object.entries(data.probabilities)
    .sort((one, other) => other[1] - one[1])
    .map(([label, share]) => ({ label, share }));
  return h(
    "section.card.stack",
    {},
    h("div", {}, h("p.small.muted", {}, "Category"), h("p.answer", {}, data.category)),
    bars(rows),
    h(
      "p.row.small.muted",
      {},
      h("span.badge", { title: data.version }, `${data.model} ${shortVersion(data.version)}`),
      data.cached && h("span.badge.badge-accent", {}, "from the cache"),
      timing.total !== undefined && h("span.num", {}, `${ms(timing.total)} on the server`),
    ),
    data.id &&
      session.user &&
      correction(
        data.id,
        rows.map(({ label }) => label),
        data.category,
        null,
      ),
    h("details.more", {}, h("summary", {}, "Call it from code"), codeTabs(textSnippets(text))),
  );
}
