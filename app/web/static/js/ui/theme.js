/** The theme button: system, light or dark; theme-boot.js applies the choice before the first paint. */
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";

const NEXT = { system: "light", light: "dark", dark: "system" };
const ICONS = { system: "auto", light: "sun", dark: "moon" };
const KEY = "lookout.theme";

function current() {
  const theme = document.documentElement.dataset.theme;
  return theme === "light" || theme === "dark" ? theme : "system";
}

function choose(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    if (theme === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme);
  } catch {
    // Not remembered, but applied.
  }
}

/** A button that goes round the three themes. */
export function themeButton() {
  const button = h("button.btn.btn-quiet.btn-icon", {
    type: "button",
    onclick: () => {
      choose(NEXT[current()]);
      show();
    },
  });
  const show = () => {
    const theme = current();
    const words = `Theme: ${theme}. Change to ${NEXT[theme]}.`;
    button.setAttribute("aria-label", words);
    button.title = words;
    fill(button, icon(ICONS[theme]));
  };
  show();
  return button;
}
