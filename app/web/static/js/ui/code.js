/** Code to copy, in several languages. */
import { h, uid } from "./dom.js";
import { copy } from "./files.js";
import { icon } from "./icons.js";

/**
 * @param {string} code
 * @param {string} what named when copied
 */
export function codeBlock(code, what = "Code") {
  return h(
    "div.code",
    {},
    h("pre", { tabindex: 0, role: "region", "aria-label": what }, h("code", {}, code)),
    h(
      "button.btn.btn-small",
      { type: "button", onclick: () => copy(code, what) },
      icon("copy", 15),
      "Copy",
      h("span.visually-hidden", {}, ` ${what}`),
    ),
  );
}

/**
 * Tabs over code blocks, moved with the arrow keys.
 *
 * @param {Record<string, string>} samples code by language
 */
export function codeTabs(samples) {
  const names = Object.keys(samples);
  const panel = h("div", { role: "tabpanel", id: uid("panel") });
  const tabs = names.map((name, at) =>
    h(
      "button",
      {
        type: "button",
        role: "tab",
        id: uid("tab"),
        "aria-controls": panel.id,
        onclick: () => show(at),
        onkeydown: (event) => move(event, at),
      },
      name,
    ),
  );
  function show(at) {
    tabs.forEach((tab, other) => {
      tab.setAttribute("aria-selected", String(other === at));
      tab.tabIndex = other === at ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", tabs[at].id);
    panel.replaceChildren(codeBlock(samples[names[at]], names[at]));
  }
  function move(event, at) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const to = (at + step + names.length) % names.length;
    show(to);
    tabs[to].focus();
  }
  show(0);
  return h("div", {}, h("div.tabs", { role: "tablist", "aria-label": "Language" }, tabs), panel);
}
