/** Threshold and label filter, the same for live pictures and uploads. */
import { fill, h, uid } from "../ui/dom.js";
import { icon } from "../ui/icons.js";
import { colorOf } from "./colors.js";

/**
 * A slider from 5 to 95 per cent.
 *
 * @param {number} value of 1
 * @param {(value: number) => void} onInput called on every move
 */
export function thresholdSlider(value, onInput) {
  const id = uid("threshold");
  const shown = h("output.num", { for: id });
  const show = (now) => {
    shown.textContent = `${Math.round(now * 100)} %`;
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  const input = h("input", {
    type: "range",
    id,
    min: 0.05,
    max: 0.95,
    step: 0.01,
    oninput: () => {
      show(Number(input.value));
      onInput(Number(input.value));
    },
  });
  input.value = String(value);
  show(value);
  return h(
    "div.field",
    {},
    h("div.row-between", {}, h("label.field-label", { for: id }, "Threshold"), shown),
    input,
  );
}

/**
 * A button that opens a searchable list of labels; none chosen means all.
 *
 * @param {string[]} labels
 * @param {string[]} selected
 * @param {(selected: string[]) => void} onChange
 */
export function labelFilter(labels, selected, onChange) {
  const chosen = new Set(selected.filter((label) => labels.includes(label)));
  const listId = uid("labels");
  const list = h("ul");
  const search = h("input.input", {
    type: "search",
    placeholder: "Find a label",
    "aria-label": "Find a label",
    oninput: () => show(),
  });
  const clear = h(
    "button.btn.btn-small",
    { type: "button", onclick: () => choose(() => chosen.clear()) },
    "Show all labels",
  );
  const panel = h(
    "div.popover.stack-sm",
    { id: listId, hidden: true, role: "group", "aria-label": "Labels shown" },
    labels.length > 12 && search,
    list,
    clear,
  );
  const button = h("button.btn.grow", {
    type: "button",
    "aria-expanded": "false",
    "aria-controls": listId,
    onclick: () => open(panel.hidden),
  });
  const host = h(
    "div.popover-host",
    {
      onkeydown: (event) => {
        if (event.key === "Escape" && !panel.hidden) {
          event.stopPropagation();
          open(false);
          button.focus();
        }
      },
      onfocusout: (event) => {
        if (event.relatedTarget && !host.contains(event.relatedTarget)) open(false);
      },
    },
    h("div.row", {}, button),
    panel,
  );

  function open(isOpen) {
    panel.hidden = !isOpen;
    button.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) {
      show();
      document.addEventListener("pointerdown", outside);
    } else document.removeEventListener("pointerdown", outside);
  }
  function outside(event) {
    if (!host.contains(event.target)) open(false);
  }
  function choose(change) {
    change();
    caption();
    show();
    onChange([...chosen]);
  }
  function caption() {
    const words =
      chosen.size === 0 ? "All labels" : chosen.size <= 2 ? [...chosen].join(", ") : `${chosen.size} labels`;
    fill(button, icon("filter", 16), words);
  }
  function show() {
    const wanted = search.value.trim().toLowerCase();
    fill(
      list,
      labels
        .filter((label) => label.toLowerCase().includes(wanted))
        .map((label) =>
          h(
            "li",
            {},
            h(
              "label.check",
              {},
              h("input", {
                type: "checkbox",
                checked: chosen.has(label),
                onchange: (event) => toggle(event.currentTarget.checked, label),
              }),
              h("span.swatch", { style: { background: colorOf(label).fill } }),
              label,
            ),
          ),
        ),
    );
    clear.hidden = chosen.size === 0;
  }
  function toggle(on, label) {
    if (on) chosen.add(label);
    else chosen.delete(label);
    // The list is not drawn anew: the box that was just clicked keeps the focus.
    caption();
    clear.hidden = chosen.size === 0;
    onChange([...chosen]);
  }
  caption();
  return host;
}

/** Labels that a person can meet: a COCO checkpoint has "N/A" at its unused places. @param {{labels?: string[]}|null} model */
export function usefulLabels(model) {
  return (model?.labels ?? []).filter((label) => label !== "N/A" && !/^LABEL_\d+$/.test(label));
}
