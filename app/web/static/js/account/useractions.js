/** What an administrator does with another's account, each after a question. */
import { call } from "../api.js";
import { openDialog } from "../ui/dialog.js";
import { h } from "../ui/dom.js";
import { count } from "../ui/format.js";
import { busy } from "../ui/states.js";
import { toast } from "../ui/toast.js";

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {string} text
 * @property {string} answer the words on the button
 * @property {string} done what is said afterwards
 * @property {Record<string, boolean>|null} change of the account; null deletes it
 */

/**
 * @param {"active"|"admin"|"delete"} action
 * @param {any} user of `GET /admin/users`
 * @returns {Question}
 */
function question(action, user) {
  if (action === "delete") {
    return {
      title: "Delete this account?",
      text: `With it go its sessions, its keys and its history (${count(user.records, "record")}). This cannot be undone.`,
      answer: "Delete it all",
      done: "Account deleted.",
      change: null,
    };
  }
  if (action === "admin") {
    return user.is_admin
      ? {
          title: "Withdraw administration?",
          text: "The account stays as it is, and may no longer manage the service.",
          answer: "Withdraw",
          done: "No longer an administrator.",
          change: { is_admin: false },
        }
      : {
          title: "Make this an administrator's account?",
          text: "Administrators see all accounts, disable and delete them, and make others administrators.",
          answer: "Make administrator",
          done: "An administrator now.",
          change: { is_admin: true },
        };
  }
  return user.is_active
    ? {
        title: "Disable this account?",
        text: "Its sessions and bearer tokens end now, its API keys are refused, and nobody can sign in to it. Its history stays.",
        answer: "Disable",
        done: "Account disabled.",
        change: { is_active: false },
      }
    : {
        title: "Enable this account?",
        text: "Its owner can sign in again, and its API keys work again.",
        answer: "Enable",
        done: "Account enabled.",
        change: { is_active: true },
      };
}

/**
 * Ask whether it is meant, and do it.
 *
 * @param {"active"|"admin"|"delete"} action
 * @param {any} user
 * @param {{changed: (user: any) => void, gone: () => void}} then
 */
export function askFor(action, user, { changed, gone }) {
  const { title, text, answer, done, change } = question(action, user);
  openDialog(title, (close) => {
    const problem = h("div");
    const path = `/admin/users/${encodeURIComponent(user.id)}`;
    const yes = h(
      `button.btn.${change === null || change.is_active === false ? "btn-danger" : "btn-primary"}`,
      {
        type: "button",
        onclick: () =>
          busy(yes, problem, async () => {
            const { data } = await call(change ? "PATCH" : "DELETE", path, change ? { json: change } : {});
            close();
            toast(`${user.email}: ${done}`);
            if (change) changed(data);
            else gone();
          }),
      },
      answer,
    );
    return [
      h("p.user-email", {}, h("strong", {}, user.email)),
      h("p", {}, text),
      problem,
      h("div.row", {}, yes, h("button.btn", { type: "button", onclick: close }, "Cancel")),
    ];
  });
}
