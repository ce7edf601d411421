/** Deleting the account with all it owns. */
import { ApiError, call } from "../api.js";
import { go } from "../router.js";
import { session } from "../session.js";
import { openDialog } from "../ui/dialog.js";
import { h } from "../ui/dom.js";
import { passwordField } from "../ui/fields.js";
import { busy } from "../ui/states.js";
import { toast } from "../ui/toast.js";

/** The card with the button. */
export function deleteCard() {
  return h(
    "section.card.stack",
    {},
    h("h2", {}, "Delete"),
    h(
      "p.small.muted",
      {},
      "Deletes your account with its history, feedback, sessions and keys. This cannot be undone.",
    ),
    h("div", {}, h("button.btn.btn-danger", { type: "button", onclick: ask }, "Delete my account")),
  );
}

function ask() {
  openDialog("Delete your account?", (close) => {
    const password = passwordField("Your password, to be sure that it is you", {
      name: "current_password",
      autocomplete: "current-password",
      required: true,
      maxlength: 1024,
    });
    const problem = h("div");
    const button = h("button.btn.btn-danger", { type: "submit" }, "Delete it all");
    async function remove() {
      password.showError(null);
      try {
        await call("DELETE", "/me", { json: { current_password: password.input.value } });
      } catch (error) {
        if (!(error instanceof ApiError) || error.code !== "wrong_password") throw error;
        password.showError(error.message);
        password.input.focus();
        return;
      }
      close();
      session.expired();
      go("#/");
      toast("Your account is deleted.");
    }
    return [
      h("p", {}, "Everything that belongs to it goes too, at once and for good."),
      h(
        "form.stack",
        {
          onsubmit: (event) => {
            event.preventDefault();
            busy(button, problem, remove);
          },
        },
        password.element,
        problem,
        h("div.row", {}, button, h("button.btn", { type: "button", onclick: close }, "Keep it")),
      ),
    ];
  });
}
