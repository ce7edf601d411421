/** The account: password, sessions and keys, deletion; for administrators the server. */
import { adminCard } from "../account/admin.js";
import { deleteCard } from "../account/delete.js";
import { keysCard } from "../account/keys.js";
import { passwordCard } from "../account/password.js";
import { go } from "../router.js";
import { session } from "../session.js";
import { fill, h } from "../ui/dom.js";
import { dateTime } from "../ui/format.js";
import { busy } from "../ui/states.js";
import { signInFirst } from "./auth.js";

/** @param {HTMLElement} root */
export function mount(root) {
  const { user } = session;
  if (!user) {
    fill(root, signInFirst("Account", "Sign in to see your account."));
    return;
  }
  const problem = h("div");
  const out = h(
    "button.btn",
    {
      type: "button",
      onclick: () =>
        busy(out, problem, async () => {
          await session.signOut();
          go("#/");
        }),
    },
    "Sign out",
  );
  fill(
    root,
    h(
      "div.view-head",
      {},
      h(
        "div",
        {},
        h("h1", { tabindex: -1 }, "Account"),
        h(
          "p",
          {},
          user.email,
          user.is_admin && [" ", h("span.badge.badge-accent", {}, "Administrator")],
          h("br"),
          h("span.small", {}, `Since ${dateTime(user.created_at)}`),
        ),
      ),
      out,
    ),
    problem,
    h("div.account", {}, keysCard(), passwordCard(), user.is_admin && adminCard(), deleteCard()),
  );
}
