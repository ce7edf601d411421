/** Changing the password, which ends all other sessions. */
import { ApiError, call } from "../api.js";
import { session } from "../session.js";
import { fill, h } from "../ui/dom.js";
import { passwordField, showFieldErrors } from "../ui/fields.js";
import { busy } from "../ui/states.js";
import { toast } from "../ui/toast.js";

/** The card with the form. */
export function passwordCard() {
  const now = passwordField("Current password", {
    name: "current_password",
    autocomplete: "current-password",
    required: true,
    maxlength: 1024,
  });
  const next = passwordField("New password", {
    name: "new_password",
    autocomplete: "new-password",
    required: true,
    minlength: 8,
    maxlength: 1024,
    hint: "At least 8 characters.",
  });
  const problem = h("div");
  const button = h("button.btn.btn-primary", { type: "submit" }, "Change password");
  const fields = { current_password: now, new_password: next };

  async function change() {
    showFieldErrors(fields, {});
    try {
      await call("PATCH", "/me", {
        json: { current_password: now.input.value, new_password: next.input.value },
      });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const errors = error.code === "wrong_password" ? { current_password: error.message } : error.fields;
      if (showFieldErrors(fields, errors)) return;
      throw error;
    }
    now.input.value = "";
    next.input.value = "";
    fill(problem);
    toast("Password changed. All other sessions have ended.");
  }
  return h(
    "section.card.stack",
    {},
    h("h2", {}, "Password"),
    h(
      "form.stack",
      {
        onsubmit: (event) => {
          event.preventDefault();
          busy(button, problem, change);
        },
      },
      // Password managers look for the name that the password belongs to.
      h("input.visually-hidden", {
        type: "email",
        name: "username",
        autocomplete: "username",
        value: session.user?.email ?? "",
        tabindex: -1,
        readonly: true,
        "aria-hidden": "true",
      }),
      now.element,
      next.element,
      problem,
      h("div", {}, button),
    ),
  );
}
