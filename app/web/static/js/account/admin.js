/** For administrators: the state of the server and its cache, and the way to the accounts. */
import { call } from "../api.js";
import { fill, h } from "../ui/dom.js";
import { busy, errorBanner } from "../ui/states.js";
import { toast } from "../ui/toast.js";

/** The card with the server's state. */
export function adminCard() {
  const state = h("div", {}, h("div.skeleton"));
  const problem = h("div");
  const clear = h(
    "button.btn",
    {
      type: "button",
      onclick: () =>
        busy(clear, problem, async () => {
          await call("DELETE", "/cache");
          toast("The prediction cache is empty.");
        }),
    },
    "Empty the prediction cache",
  );
  show(state);
  return h(
    "section.card.stack",
    {},
    h("h2", {}, "Server"),
    state,
    problem,
    h(
      "div.row",
      {},
      h("a.btn.btn-primary", { href: "#/users" }, "Users"),
      clear,
      h("a.btn", { href: "/metrics" }, "Metrics"),
    ),
  );
}

async function show(place) {
  try {
    const response = await fetch("/health/ready");
    const health = await response.json();
    const rows = Object.entries(health).flatMap(([name, value]) =>
      value !== null && typeof value === "object" ? Object.entries(value) : [[name, value]],
    );
    fill(
      place,
      h(
        "p.row",
        {},
        h("span.dot", { dataset: { state: response.ok ? "ok" : "warn" } }),
        response.ok ? "Ready" : "Not ready",
      ),
      h(
        "dl.facts",
        {},
        rows.map(([name, value]) => [
          h("dt", {}, name.replaceAll("_", " ")),
          h("dd", {}, typeof value === "object" ? JSON.stringify(value) : String(value)),
        ]),
      ),
    );
  } catch {
    fill(
      place,
      errorBanner(new Error("The state of the server cannot be read."), () => show(place)),
    );
  }
}
