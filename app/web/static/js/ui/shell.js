/** What stays while views change: navigation, account button, server state. */
import { session } from "../session.js";
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { themeButton } from "./theme.js";

const ENTRIES = /** @type {const} */ ([
  ["live", "Live", "live"],
  ["upload", "Upload", "image"],
  ["text", "Text", "text"],
  ["history", "History", "history"],
  ["models", "Models", "models"],
]);

const HEALTH_EVERY_MS = 30_000;

/** Build the frame of the page once. */
export function buildShell() {
  const nav = /** @type {HTMLElement} */ (document.getElementById("nav"));
  fill(
    nav,
    h(
      "ul",
      {},
      ENTRIES.map(([name, words, sign]) =>
        h("li", {}, h("a", { href: `#/${name}`, dataset: { nav: name } }, icon(sign, 20), words)),
      ),
    ),
  );
  const account = h("span");
  fill(/** @type {HTMLElement} */ (document.getElementById("header-end")), themeButton(), account);
  const showAccount = () => {
    const { user } = session;
    fill(
      account,
      user
        ? h(
            "a.btn.btn-quiet.account-link",
            {
              href: "#/account",
              "aria-label": `Account of ${user.email}`,
              title: user.email,
              dataset: { nav: "account" },
            },
            icon("account", 20),
            h("span.account-email", {}, user.email),
          )
        : h("a.btn", { href: "#/signin" }, "Sign in"),
    );
  };
  session.addEventListener("change", showAccount);
  showAccount();
  document.querySelector(".skip-link")?.addEventListener("click", (event) => {
    // The hash belongs to the router.
    event.preventDefault();
    document.getElementById("main")?.focus();
  });
  watchHealth();
}

/**
 * Mark the entry of the navigation that the view belongs to.
 *
 * @param {string} name
 */
export function markNav(name) {
  for (const link of document.querySelectorAll("[data-nav]")) {
    if (/** @type {HTMLElement} */ (link).dataset.nav === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function watchHealth() {
  const place = /** @type {HTMLElement} */ (document.getElementById("footer-state"));
  const show = (state, words) => fill(place, h("span.row", {}, h("span.dot", { dataset: { state } }), words));
  const ask = async () => {
    if (document.hidden) return;
    try {
      const response = await fetch("/health/ready");
      const health = await response.json();
      if (response.ok) show("ok", "Server ready");
      else show("warn", `Server not ready: ${health.detail ?? health.status ?? "starting"}`);
    } catch {
      show("bad", "Server cannot be reached");
    }
  };
  ask();
  setInterval(ask, HEALTH_EVERY_MS);
  document.addEventListener("visibilitychange", ask);
}
