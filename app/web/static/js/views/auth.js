/** Sign in, and create an account (`#/signin`, `#/signup`; `?next=/live` says where to go afterwards). */
import { ApiError } from "../api.js";
import { go } from "../router.js";
import { session } from "../session.js";
import { fill, h } from "../ui/dom.js";
import { field, passwordField, showFieldErrors } from "../ui/fields.js";
import { busy } from "../ui/states.js";

/**
 * @param {HTMLElement} root
 * @param {import("../router.js").Visit} visit
 */
export function mount(root, { query }) {
  const next = query.get("next") ?? "/";
  fill(root, h("div.auth", {}, authCard(location.hash.startsWith("#/signup"), next)));
}

/**
 * The card with one of the two forms.
 *
 * @param {boolean} isNew create an account instead of signing in
 * @param {string} next path of the page to go to afterwards
 * @param {"h1"|"h2"} [heading]
 */
export function authCard(isNew, next, heading = "h1") {
  const email = field("Email", {
    type: "email",
    name: "email",
    autocomplete: "username",
    required: true,
    maxlength: 254,
    spellcheck: "false",
    autocapitalize: "none",
  });
  const password = passwordField("Password", {
    name: "password",
    autocomplete: isNew ? "new-password" : "current-password",
    required: true,
    minlength: isNew ? 8 : null,
    maxlength: 1024,
    hint: isNew ? "At least 8 characters. Long is better than complicated." : null,
  });
  const problem = h("div");
  const button = h("button.btn.btn-primary", { type: "submit" }, isNew ? "Create account" : "Sign in");
  const fields = { email, password, username: email };

  async function submit() {
    showFieldErrors(fields, {});
    try {
      const act = isNew ? session.signUp : session.signIn;
      await act.call(session, email.input.value.trim(), password.input.value);
      go(`#${next.startsWith("/") ? next : "/"}`);
    } catch (error) {
      if (error instanceof ApiError && showFieldErrors(fields, error.fields)) return;
      throw error;
    }
  }

  const other = `${isNew ? "#/signin" : "#/signup"}${next === "/" ? "" : `?next=${encodeURIComponent(next)}`}`;
  return h(
    "section.card.auth-card",
    {},
    h(heading, { tabindex: -1 }, isNew ? "Create an account" : "Sign in"),
    h(
      "form.stack",
      {
        onsubmit: (event) => {
          event.preventDefault();
          busy(button, problem, submit);
        },
      },
      email.element,
      password.element,
      problem,
      button,
    ),
    (isNew || session.registrationOpen) &&
      h(
        "p.small.muted",
        {},
        isNew ? "Already have an account? " : "New here? ",
        h("a", { href: other }, isNew ? "Sign in" : "Create an account"),
      ),
  );
}

/**
 * What a view shows to a visitor who must sign in first.
 *
 * @param {string} title
 * @param {string} why
 */
export function signInFirst(title, why) {
  const next = location.hash.slice(1) || "/";
  return [
    h("div.view-head", {}, h("div", {}, h("h1", { tabindex: -1 }, title), h("p", {}, why))),
    h("div.auth", {}, authCard(false, next, "h2")),
  ];
}
