/** All accounts, for administrators (`#/users?q=…`). */
import { call, isAbort } from "../api.js";
import { askFor } from "../account/useractions.js";
import { keepQuery } from "../router.js";
import { session } from "../session.js";
import { fill, h, uid } from "../ui/dom.js";
import { ago, dateTime } from "../ui/format.js";
import { icon } from "../ui/icons.js";
import { emptyState, errorBanner } from "../ui/states.js";
import { signInFirst } from "./auth.js";

const PAGE = 50;
const SEARCH_WAIT_MS = 300;
// Roles are named, as a phone's layout takes the table's own from the elements.
const COLUMNS = ["Email", "State", "Records", "Last seen", "Since", "Actions"];

/**
 * @param {HTMLElement} root
 * @param {import("../router.js").Visit} visit
 */
export function mount(root, { query, signal }) {
  if (!session.user) {
    fill(root, signInFirst("Users", "Sign in as an administrator to see the accounts."));
    return;
  }
  if (!session.user.is_admin) {
    fill(
      root,
      h("div.view-head", {}, h("h1", { tabindex: -1 }, "Users")),
      emptyState({
        icon: "shield",
        title: "For administrators",
        text: "Your account may not see the other accounts. Ask an administrator.",
      }),
    );
    return;
  }
  new UsersView(root, query, signal);
}

class UsersView {
  /** @type {string|null} */
  #cursor = null;
  #timer = 0;
  /** Aborted when the search changes while a page is on its way. */
  #reading = new AbortController();

  constructor(root, query, signal) {
    this.words = query.get("q") ?? "";
    this.body = h("tbody", { role: "rowgroup" });
    this.table = h(
      "div.table-wrap.card.card-tight",
      { hidden: true },
      h(
        "table.table.users",
        { role: "table" },
        h("caption.visually-hidden", {}, "Accounts, newest first"),
        h(
          "thead",
          { role: "rowgroup" },
          h(
            "tr",
            { role: "row" },
            COLUMNS.map((name) => h("th", { scope: "col", role: "columnheader" }, name)),
          ),
        ),
        this.body,
      ),
    );
    this.end = h("div.records-end");
    const id = uid("q");
    this.input = h("input.input", {
      id,
      type: "search",
      value: this.words,
      maxlength: 320,
      placeholder: "Part of an email",
      autocomplete: "off",
      oninput: () => this.search(this.input.value),
    });
    fill(
      root,
      h("p.crumb", {}, h("a.row", { href: "#/account" }, icon("back", 16), "Account")),
      h(
        "div.view-head",
        {},
        h(
          "div",
          {},
          h("h1", { tabindex: -1 }, "Users"),
          h("p", {}, "Everybody with an account here, newest first."),
        ),
      ),
      h(
        "form.card.card-tight.users-search",
        { role: "search", "aria-label": "Accounts", onsubmit: (event) => event.preventDefault() },
        h("div.field", {}, h("label", { for: id }, "Search"), this.input),
      ),
      this.table,
      this.end,
    );
    signal.addEventListener("abort", () => {
      clearTimeout(this.#timer);
      this.#reading.abort();
    });
    this.restart();
  }

  search(words) {
    this.words = words;
    keepQuery({ q: words });
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.restart(), SEARCH_WAIT_MS);
  }

  restart() {
    this.#reading.abort();
    this.#reading = new AbortController();
    this.#cursor = null;
    this.more(true);
  }

  async more(isFirst = false) {
    const { signal } = this.#reading;
    fill(this.end, h("p.row.muted", { role: "status" }, h("span.spinner"), "Loading…"));
    try {
      const { data } = await call("GET", "/admin/users", {
        query: { q: this.words.trim(), limit: PAGE, cursor: this.#cursor },
        signal,
      });
      if (isFirst) fill(this.body);
      this.#cursor = data.next_cursor;
      const rows = data.items.map((user) => this.#row(user));
      this.body.append(...rows);
      this.table.hidden = !this.body.children.length;
      fill(
        this.end,
        this.#cursor && h("button.btn", { type: "button", onclick: () => this.more() }, "Load more"),
        this.table.hidden &&
          emptyState({ icon: "search", title: "Nobody matches", text: "No account has this in its email." }),
      );
      // The button that was pressed has gone; what it brought comes next.
      if (!isFirst) rows[0]?.querySelector("button")?.focus();
    } catch (error) {
      if (isAbort(error)) return;
      fill(
        this.end,
        errorBanner(error, () => this.more(isFirst)),
      );
    }
  }

  #row(user) {
    const isMe = user.id === session.user?.id;
    const row = h("tr.user", { role: "row", dataset: { user: user.id } });
    const cell = (name, ...content) => h("td", { role: "cell", dataset: { name } }, content);
    const changed = (now, action) => {
      const fresh = this.#row(now);
      row.replaceWith(fresh);
      fresh.querySelector(`[data-action=${action}]`)?.focus();
    };
    const gone = () => {
      const next = row.nextElementSibling ?? row.previousElementSibling;
      row.remove();
      (next?.querySelector("button") ?? this.input).focus();
      if (!this.body.children.length) this.restart();
    };
    const action = (name, words, look = "") =>
      h(
        `button.btn.btn-small${look}`,
        {
          type: "button",
          "aria-label": `${words}: ${user.email}`,
          dataset: { action: name },
          onclick: () => askFor(name, user, { changed: (now) => changed(now, name), gone }),
        },
        words,
      );
    fill(
      row,
      cell("Email", h("strong.user-email", {}, user.email)),
      cell(
        "State",
        h(
          "span.row",
          {},
          isMe && h("span.badge", {}, "You"),
          user.is_admin && h("span.badge.badge-accent", {}, "Administrator"),
          user.is_active
            ? !user.is_admin && !isMe && h("span.badge.badge-ok", {}, "Active")
            : h("span.badge.badge-danger", { title: dateTime(user.disabled_at) }, "Disabled"),
        ),
      ),
      cell("Records", h("span.num", {}, user.records.toLocaleString())),
      cell("Last seen", user.last_seen_at ? time(user.last_seen_at) : "–"),
      cell("Since", time(user.created_at)),
      cell(
        "Actions",
        isMe
          ? h("span.small.muted", {}, "Another administrator can change it.")
          : h(
              "span.row.user-actions",
              {},
              user.is_active ? action("active", "Disable") : action("active", "Enable"),
              user.is_admin ? action("admin", "Withdraw rights") : action("admin", "Make admin"),
              action("delete", "Delete", ".btn-danger"),
            ),
      ),
    );
    return row;
  }
}

function time(moment) {
  return h("time", { datetime: moment, title: dateTime(moment) }, ago(moment));
}
