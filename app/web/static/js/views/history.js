/** What was predicted, newest first (`#/history?q=…&kind=image&label=cat&model=…&from=…&to=…`). */
import { call, isAbort, withQuery } from "../api.js";
import { historyCharts } from "../history/charts.js";
import { deleteWithUndo, isPending } from "../history/delete.js";
import { recordRow } from "../history/row.js";
import { keepQuery } from "../router.js";
import { session } from "../session.js";
import { fill, h, uid } from "../ui/dom.js";
import { segmented } from "../ui/fields.js";
import { icon } from "../ui/icons.js";
import { emptyState, errorBanner } from "../ui/states.js";
import { signInFirst } from "./auth.js";

const PAGE = 30;
const FILTER_WAIT_MS = 300;
const FILTERS = ["q", "kind", "model", "label", "from", "to"];

/**
 * @param {HTMLElement} root
 * @param {import("../router.js").Visit} visit
 */
export async function mount(root, { query, signal }) {
  if (!session.user) {
    fill(root, signInFirst("History", "Sign in to see what you have predicted and detected."));
    return;
  }
  new HistoryView(root, query, signal);
}

class HistoryView {
  /** @type {string|null} */
  #cursor = null;
  #loading = false;
  #filterTimer = 0;
  /** Aborted when the filter changes while a page is on its way. */
  #reading = new AbortController();

  constructor(root, query, signal) {
    this.signal = signal;
    this.filter = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
    this.list = h("ul.records");
    this.end = h("div.records-end");
    this.charts = h("div");
    this.csv = h("a.btn", { download: "lookout-history.csv" }, icon("download", 16), "Export CSV");
    fill(
      root,
      h(
        "div.view-head",
        {},
        h(
          "div",
          {},
          h("h1", { tabindex: -1 }, "History"),
          h(
            "p",
            {},
            session.keepsImages
              ? "Kept for you alone. Of pictures a smaller copy is kept, of streams only figures."
              : "Kept for you alone. Pictures themselves are not kept, only what was found in them.",
          ),
        ),
        this.csv,
      ),
      this.#filterBar(),
      this.charts,
      this.list,
      this.end,
    );
    const watcher = new IntersectionObserver(
      ([entry]) => entry.isIntersecting && this.#cursor && this.more(),
      { rootMargin: "600px" },
    );
    watcher.observe(this.end);
    signal.addEventListener("abort", () => {
      watcher.disconnect();
      this.#reading.abort();
    });
    this.restart();
  }

  #filterBar() {
    const input = (name, label, attributes) => {
      const id = uid(name);
      return h(
        "div.field",
        {},
        h("label", { for: id }, label),
        h("input.input", {
          id,
          value: this.filter[name],
          oninput: (event) => this.narrow(name, event.currentTarget.value),
          ...attributes,
        }),
      );
    };
    const modelId = uid("model");
    const model = h(
      "select.input",
      { id: modelId, onchange: () => this.narrow("model", model.value) },
      h("option", { value: "" }, "All models"),
    );
    session.models().then(
      (models) => {
        for (const { name } of models) model.append(h("option", { value: name }, name));
        model.value = this.filter.model;
      },
      () => {
        // The list works without this filter.
      },
    );
    return h(
      "form.card.card-tight.filters",
      { "aria-label": "Filter", role: "search", onsubmit: (event) => event.preventDefault() },
      input("q", "Search", {
        type: "search",
        maxlength: 200,
        placeholder: "Words in texts, file names, labels or your feedback",
      }),
      h(
        "div.field",
        {},
        h("span.field-label", {}, "Kind"),
        segmented(
          "Kind",
          [
            { value: "", words: "All" },
            { value: "text", words: "Texts" },
            { value: "image", words: "Pictures" },
            { value: "stream", words: "Streams" },
          ],
          this.filter.kind,
          (kind) => this.narrow("kind", kind),
        ),
      ),
      input("label", "Label", { type: "search", placeholder: "such as cat" }),
      h("div.field", {}, h("label", { for: modelId }, "Model"), model),
      input("from", "From", { type: "date" }),
      input("to", "To", { type: "date" }),
    );
  }

  narrow(name, value) {
    this.filter[name] = value;
    keepQuery(this.filter);
    clearTimeout(this.#filterTimer);
    this.#filterTimer = setTimeout(() => this.restart(), FILTER_WAIT_MS);
  }

  /** The filter as the server takes it: days begin and end where the person is. */
  get query() {
    const { q, from, to, ...rest } = this.filter;
    const start = from && new Date(`${from}T00:00:00`);
    const end = to && new Date(`${to}T00:00:00`);
    if (end) end.setDate(end.getDate() + 1);
    return { q: q.trim(), ...rest, from: start ? start.toISOString() : "", to: end ? end.toISOString() : "" };
  }

  restart() {
    this.#reading.abort();
    this.#reading = new AbortController();
    this.#loading = false;
    this.#cursor = null;
    this.csv.href = withQuery("/history.csv", this.query);
    fill(
      this.list,
      [0, 1, 2].map(() => h("li.skeleton", { "aria-hidden": "true" })),
    );
    fill(this.end);
    this.more(true);
    // The figures are of everything in the span, and would stand before what was searched for.
    if (this.filter.q) fill(this.charts);
    else historyCharts(this.charts, { from: this.query.from, to: this.query.to }, this.#reading.signal);
  }

  async more(isFirst = false) {
    if (this.#loading) return;
    this.#loading = true;
    const { signal } = this.#reading;
    fill(this.end, h("p.row.muted", { role: "status" }, h("span.spinner"), "Loading…"));
    try {
      const { data } = await call("GET", "/history", {
        query: { ...this.query, limit: PAGE, cursor: this.#cursor },
        signal,
      });
      if (isFirst) fill(this.list);
      this.#cursor = data.next_cursor;
      this.list.append(...data.items.filter(({ id }) => !isPending(id)).map((item) => this.#row(item)));
      fill(
        this.end,
        this.#cursor && h("button.btn", { type: "button", onclick: () => this.more() }, "Load more"),
      );
      if (!this.list.children.length) this.#showEmpty();
    } catch (error) {
      if (isAbort(error)) return;
      if (isFirst) fill(this.list);
      fill(
        this.end,
        errorBanner(error, () => this.more(isFirst)),
      );
    }
    this.#loading = false;
  }

  #row(item) {
    const row = recordRow(item, this.filter.q, () => {
      const next = /** @type {HTMLElement|null} */ (
        (row.nextElementSibling ?? row.previousElementSibling)?.querySelector("a")
      );
      row.hidden = true;
      const isEmpty = [...this.list.children].every((child) => /** @type {HTMLElement} */ (child).hidden);
      if (isEmpty && !this.#cursor) this.#showEmpty();
      deleteWithUndo(item, () => {
        row.hidden = false;
        if (isEmpty) fill(this.end);
        row.querySelector("a")?.focus();
      });
      next?.focus();
    });
    return row;
  }

  #showEmpty() {
    const filtered = Object.values(this.filter).some(Boolean);
    fill(
      this.end,
      filtered
        ? emptyState({
            icon: "search",
            title: "Nothing matches",
            text: "No record fits this filter.",
            actions: [h("a.btn", { href: "#/history" }, "Clear the filter")],
          })
        : emptyState({
            icon: "history",
            title: "Nothing yet",
            text: "What you predict and detect appears here.",
            actions: [
              h("a.btn.btn-primary", { href: "#/live" }, "Start live detection"),
              h("a.btn", { href: "#/text" }, "Classify a text"),
            ],
          }),
    );
  }
}
