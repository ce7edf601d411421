/** Sessions, bearer tokens and API keys: listed, made, revoked. */
import { call } from "../api.js";
import { session } from "../session.js";
import { codeBlock } from "../ui/code.js";
import { openDialog } from "../ui/dialog.js";
import { fill, h, uid } from "../ui/dom.js";
import { field, showFieldErrors } from "../ui/fields.js";
import { ago, dateTime } from "../ui/format.js";
import { icon } from "../ui/icons.js";
import { busy, errorBanner } from "../ui/states.js";

const KINDS = { session: "Browser session", bearer: "Bearer token", api_key: "API key" };
const LIVES = /** @type {const} */ ([
  ["", "Does not expire"],
  ["30", "30 days"],
  ["90", "90 days"],
  ["365", "A year"],
]);

/** The card with the list. */
export function keysCard() {
  const list = h("div", {}, h("div.skeleton"));
  const load = async () => {
    try {
      const { data } = await call("GET", "/me/tokens");
      fill(
        list,
        h(
          "ul.tokens",
          {},
          data.map((token) => row(token, load)),
        ),
      );
    } catch (error) {
      fill(list, errorBanner(error, load));
    }
  };
  load();
  return h(
    "section.card.stack.card-wide",
    {},
    h(
      "div.row-between",
      {},
      h(
        "div",
        {},
        h("h2", {}, "Sessions and API keys"),
        h("p.small.muted", {}, "Everything that can act in your name right now."),
      ),
      h(
        "button.btn.btn-primary",
        { type: "button", onclick: () => newKey(load) },
        icon("key", 16),
        "New API key",
      ),
    ),
    list,
  );
}

function row(token, reload) {
  const problem = h("div");
  const name = token.kind === "api_key" ? token.name : browserName(token.name);
  const revoke = h(
    "button.btn.btn-small.btn-danger",
    {
      type: "button",
      "aria-label": `${token.kind === "api_key" ? "Revoke" : "End"} ${name}`,
      onclick: () =>
        busy(revoke, problem, async () => {
          await call("DELETE", `/me/tokens/${encodeURIComponent(token.id)}`);
          if (token.current) session.expired();
          else await reload();
        }),
    },
    token.kind === "api_key" ? "Revoke" : "End",
  );
  return h(
    "li.token",
    {},
    h(
      "div.grow",
      {},
      h(
        "p.row",
        {},
        h("strong.clip", { title: token.name }, name),
        h("span.badge", {}, KINDS[token.kind] ?? token.kind),
        token.current && h("span.badge.badge-ok", {}, "This one"),
      ),
      h(
        "p.small.muted",
        {},
        `Made ${ago(token.created_at)}`,
        token.last_used_at ? `, used ${ago(token.last_used_at)}` : ", not used yet",
        token.expires_at ? `, until ${dateTime(token.expires_at)}` : ", does not expire",
      ),
      problem,
    ),
    revoke,
  );
}

function newKey(reload) {
  openDialog("New API key", (close) => {
    const name = field("Name", {
      name: "name",
      required: true,
      maxlength: 100,
      placeholder: "Which program is it for?",
      autocomplete: "off",
    });
    const id = uid("life");
    const life = h(
      "select.input",
      { id },
      LIVES.map(([days, words]) => h("option", { value: days }, words)),
    );
    const problem = h("div");
    const button = h("button.btn.btn-primary", { type: "submit" }, "Make the key");
    const form = h(
      "form.stack",
      {
        onsubmit: (event) => {
          event.preventDefault();
          busy(button, problem, make);
        },
      },
      name.element,
      h("div.field", {}, h("label", { for: id }, "Valid for"), life),
      problem,
      h("div.row", {}, button, h("button.btn", { type: "button", onclick: close }, "Cancel")),
    );

    async function make() {
      const expires = life.value
        ? new Date(Date.now() + Number(life.value) * 86_400_000).toISOString()
        : null;
      try {
        const { data } = await call("POST", "/me/api-keys", {
          json: { name: name.input.value, expires_at: expires },
        });
        const done = h("button.btn.btn-primary", { type: "button", onclick: close }, "I have kept it");
        fill(
          form,
          h(
            "div.banner.banner-warn",
            { role: "status" },
            icon("key"),
            h("div.banner-body", {}, "Copy the key now. It is shown this one time and cannot be read again."),
          ),
          codeBlock(data.key, "API key"),
          h("p.small.muted", {}, "Send it as the header ", h("code", {}, "X-API-Key"), "."),
          h("div", {}, done),
        );
        form.querySelector("button")?.focus();
        await reload();
      } catch (error) {
        if (!showFieldErrors({ name }, error.fields ?? {})) throw error;
      }
    }
    return [form];
  });
}

/** A browser in words a person knows; the whole string stays in the title. */
function browserName(agent) {
  const browser = /(Edg|OPR|Firefox|Chrome|Safari)\/(\d+)/.exec(agent.replace(/Chrome(?=.*(Edg|OPR)\/)/, ""));
  if (!browser) return agent;
  const names = { Edg: "Edge", OPR: "Opera" };
  const system = /Windows|Android|iPhone|iPad|Mac OS X|Linux/.exec(agent)?.[0];
  return `${names[browser[1]] ?? browser[1]} ${browser[2]}${system ? ` on ${system.replace("Mac OS X", "macOS")}` : ""}`;
}
