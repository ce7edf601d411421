/** One record in the list. */
import { colorOf } from "../detect/colors.js";
import { countByLabel } from "../detect/draw.js";
import { h } from "../ui/dom.js";
import { ago, count, dateTime, duration, ms, percent } from "../ui/format.js";
import { icon } from "../ui/icons.js";

const SIGNS = { text: "text", image: "image", stream: "live" };

/** Letters of a text that stand before the words that were searched for. */
const LEAD = 24;

/**
 * @param {any} item of `GET /history`
 * @param {string} words that were searched for; empty when none were
 * @param {() => void} onDelete
 */
export function recordRow(item, words, onDelete) {
  const { title, chips } = summary(item);
  const note = item.feedback && feedbackNote(item.feedback, words);
  return h(
    "li.record",
    { dataset: { record: item.id } },
    h("span.record-icon", {}, sign(item)),
    h(
      "div.record-body",
      {},
      h(
        // Room for the words that were searched for, on a phone too.
        words ? "a.record-title.clip-2" : "a.record-title.clip",
        { href: `#/history/${encodeURIComponent(item.id)}` },
        marked(item.kind === "text" ? excerpt(title, words) : title, words),
      ),
      h("div.row.record-chips", {}, chips),
      h(
        "p.small.muted.num",
        {},
        h("time", { datetime: item.created_at, title: dateTime(item.created_at) }, ago(item.created_at)),
        ` · ${item.model}`,
        item.latency_ms !== null && ` · ${ms(item.latency_ms)}`,
        note && [" · ", marked(note, words)],
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
 * Where the kept copy of a record's picture is.
 *
 * @param {string} id
 */
export function pictureUrl(id) {
  return `/history/${encodeURIComponent(id)}/image`;
}

/** A thumbnail of the picture where one is kept, else the kind's icon. */
function sign(item) {
  const symbol = icon(SIGNS[item.kind] ?? "info", 20);
  if (!item.input?.has_picture) return symbol;
  const picture = h("img.record-thumb", {
    loading: "lazy",
    src: `${pictureUrl(item.id)}?size=thumbnail`,
    // The title beside it says the same.
    alt: "",
    width: 48,
    height: 48,
    onerror: () => picture.replaceWith(symbol),
  });
  return picture;
}

function feedbackNote({ label, comment }, words) {
  const note = `corrected to ${label}`;
  return words && find(comment ?? "", words) >= 0 ? `${note}: ${excerpt(comment, words)}` : note;
}

/** The place of words in a text without regard to case, -1 when they are not there. */
function find(text, words) {
  return text.toLowerCase().indexOf(words.trim().toLowerCase());
}

/** The part of a long text in which the words stand. */
function excerpt(text, words) {
  const at = words.trim() ? find(text, words) : 0;
  return at > 2 * LEAD ? `…${text.slice(at - LEAD)}` : text;
}

/** A text with the words marked where they stand first. */
function marked(text, words) {
  const at = words.trim() ? find(text, words) : -1;
  if (at < 0) return text;
  const end = at + words.trim().length;
  return [text.slice(0, at), h("mark", {}, text.slice(at, end)), text.slice(end)];
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
