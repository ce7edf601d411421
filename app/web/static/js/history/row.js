/** One record in the list. */
import { colorOf } from "../detect/colors.js";
import { countByLabel } from "../detect/draw.js";
import { h } from "../ui/dom.js";
import { ago, count, dateTime, duration, ms, percent } from "../ui/format.js";
import { icon } from "../ui/icons.js";

const SIGNS = { text: "text", image: "image", stream: "live" };

/**
 * @param {any} item of `GET /history`
 * @param {() => void} onDelete
 */
export function recordRow(item, onDelete) {
  const { title, chips } = summary(item);
  return h(
    "li.record",
    { dataset: { record: item.id } },
    h("span.record-icon", {}, icon(SIGNS[item.kind] ?? "info", 20)),
    h(
      "div.record-body",
      {},
      h("a.record-title.clip", { href: `#/history/${encodeURIComponent(item.id)}` }, title),
      h("div.row.record-chips", {}, chips),
      h(
        "p.small.muted.num",
        {},
        h("time", { datetime: item.created_at, title: dateTime(item.created_at) }, ago(item.created_at)),
        ` · ${item.model}`,
        item.latency_ms !== null && ` · ${ms(item.latency_ms)}`,
        item.feedback && ` · corrected to ${item.feedback.label}`,
      ),
    ),
    h(
      "button.btn.btn-quiet.btn-icon",
      { type: "button", "aria-label": `Delete: ${title}`, title: "Delete", onclick: onDelete },
      icon("trash", 17),
    ),
  );
}

/**
 * A record in words.
 *
 * @param {any} item
 * @returns {{title: string, chips: any[]}}
 */
export function summary(item) {
  if (item.kind === "text") {
    const { category, probabilities } = item.result;
    return {
      title: item.input.text.trim() || "(blank)",
      chips: [h("span.badge.badge-accent", {}, `${category} ${percent(probabilities[category])}`)],
    };
  }
  if (item.kind === "stream") {
    return {
      title: `Stream of ${duration(item.duration_s)}, ${count(item.frames_processed, "frame")} answered`,
      chips: labelChips(Object.entries(item.label_counts).sort((one, other) => other[1] - one[1])),
    };
  }
  return {
    title: item.input.name || "Picture",
    chips: labelChips(countByLabel(item.result.objects)),
  };
}

function labelChips(counts) {
  if (!counts.length) return [h("span.badge", {}, "No objects")];
  const shown = counts
    .slice(0, 5)
    .map(([label, number]) =>
      h(
        "span.badge",
        {},
        h("span.swatch", { style: { background: colorOf(label).fill } }),
        label,
        number > 1 && ` × ${number.toLocaleString()}`,
      ),
    );
  return counts.length > 5 ? [...shown, h("span.badge", {}, `and ${counts.length - 5} more`)] : shown;
}
