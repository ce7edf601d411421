/** One record of the history (`#/history/<id>`). */
import { call } from "../api.js";
import { setLabelOrder } from "../detect/colors.js";
import { boxLayer } from "../detect/boxlayer.js";
import { annotated } from "../detect/draw.js";
import { objectTable } from "../detect/objecttable.js";
import { deleteWithUndo } from "../history/delete.js";
import { pictureUrl, summary } from "../history/row.js";
import { go } from "../router.js";
import { session } from "../session.js";
import { correction } from "../text/correction.js";
import { bars } from "../ui/bars.js";
import { codeBlock } from "../ui/code.js";
import { fill, h } from "../ui/dom.js";
import { download, stem } from "../ui/files.js";
import { count, dateTime, duration, ms, shortVersion } from "../ui/format.js";
import { icon } from "../ui/icons.js";
import { busy, loading } from "../ui/states.js";
import { signInFirst } from "./auth.js";

/**
 * @param {HTMLElement} root
 * @param {import("../router.js").Visit} visit
 */
export async function mount(root, { params, signal }) {
  if (!session.user) {
    fill(root, signInFirst("Record", "Sign in to see your history."));
    return;
  }
  fill(root, loading());
  const [{ data: item }, model] = await Promise.all([
    call("GET", `/history/${encodeURIComponent(params.id)}`, { signal }),
    // Colours are better with the model's own order of labels, and good without.
    session.model("object-detection").catch(() => null),
  ]);
  if (model) setLabelOrder(model.labels ?? []);
  const { title } = summary(item);
  const remove = () => {
    deleteWithUndo(item, () => go(`#/history/${encodeURIComponent(item.id)}`));
    go("#/history");
  };
  fill(
    root,
    h("p.crumb", {}, h("a.row", { href: "#/history" }, icon("back", 16), "History")),
    h(
      "div.view-head",
      {},
      h("h1.clip-2", { tabindex: -1 }, title),
      h("button.btn.btn-danger", { type: "button", onclick: remove }, icon("trash", 16), "Delete"),
    ),
    h("div.two", {}, body(item), facts(item)),
    h("details.more", {}, h("summary", {}, "As JSON"), codeBlock(JSON.stringify(item, null, 2), "JSON")),
  );
}

function body(item) {
  if (item.kind === "text") return textBody(item);
  if (item.kind === "stream") return streamBody(item);
  return imageBody(item);
}

function textBody(item) {
  const rows = Object.entries(item.result.probabilities)
    .sort((one, other) => other[1] - one[1])
    .map(([label, share]) => ({ label, share }));
  return h(
    "section.card.stack",
    {},
    h("div", {}, h("p.small.muted", {}, "Category"), h("p.answer", {}, item.result.category)),
    bars(rows),
    correction(
      item.id,
      rows.map(({ label }) => label),
      item.result.category,
      item.feedback,
    ),
    h("div", {}, h("h2", {}, "Text"), h("p.quoted", {}, item.input.text)),
  );
}

function imageBody(item) {
  const { objects, image } = item.result;
  const layer = boxLayer((at) => table.select(at));
  const table = objectTable((at) => layer.select(at));
  const place = h("div.stack");
  const showOutline = () =>
    fill(
      place,
      h(
        "div.picture.picture-outline",
        { style: { aspectRatio: `${image.width} / ${image.height}` } },
        layer.element,
        objects.length === 0 && h("p.picture-busy", {}, "No objects were found."),
      ),
      h(
        "p.small.muted",
        {},
        "No copy of this picture is kept: this is where the objects were, in a frame of its shape.",
      ),
    );
  if (item.input.has_picture) fill(place, pictureOf(item, layer, showOutline));
  else showOutline();
  layer.show(objects, image);
  table.show(objects);
  return h("section.stack", {}, place, table.element);
}

/** The kept copy under its boxes, and what can be done with it. */
function pictureOf(item, layer, onMissing) {
  const { objects, image } = item.result;
  const name = item.input.name || "picture";
  const problem = h("div");
  const picture = h("img", {
    src: pictureUrl(item.id),
    alt: `The picture ${name}`,
    width: image.width,
    height: image.height,
    dataset: { picture: "" },
    onerror: onMissing,
  });
  const save = h(
    "button.btn.btn-small",
    {
      type: "button",
      onclick: () =>
        busy(save, problem, async () => {
          const size = { width: picture.naturalWidth, height: picture.naturalHeight };
          download(await annotated(picture, size, objects, image), `${stem(name)}_detected.png`);
        }),
    },
    icon("image", 15),
    "Save PNG",
  );
  return [
    h("div.picture", {}, picture, layer.element),
    h(
      "div.row-between",
      {},
      h(
        "p.small.muted",
        {},
        objects.length ? "A smaller copy of the picture is kept." : "No objects were found in this picture.",
      ),
      save,
    ),
    problem,
  ];
}

function streamBody(item) {
  const counts = Object.entries(item.label_counts).sort((one, other) => other[1] - one[1]);
  const most = Math.max(1, ...counts.map(([, number]) => number));
  return h(
    "section.card.stack.counts",
    {},
    h("h2", {}, "Objects by label, over all frames"),
    counts.length
      ? bars(
          counts.map(([label, number]) => ({ label, share: number / most, words: number.toLocaleString() })),
          { topFirst: false },
        )
      : h("p.muted", {}, "Nothing was found in this stream."),
  );
}

function facts(item) {
  const rows = [
    ["When", dateTime(item.created_at)],
    ["Model", item.model],
    ["Version", h("span.mono", { title: item.version }, shortVersion(item.version))],
    item.kind === "image" && ["File", item.input.name || "–"],
    item.kind === "image" && ["Size", `${item.result.image.width} × ${item.result.image.height}`],
    item.kind === "image" && ["Found", count(item.result.objects.length, "object")],
    item.kind === "stream" && ["Lasted", duration(item.duration_s)],
    item.kind === "stream" && [
      "Frames",
      `${item.frames_received} received, ${item.frames_processed} answered, ${item.frames_dropped} dropped`,
    ],
    [item.kind === "stream" ? "Mean latency" : "Latency", ms(item.latency_ms)],
    ["Record", h("span.mono", {}, item.id)],
  ].filter(Boolean);
  return h(
    "aside.card",
    { "aria-label": "Facts" },
    h(
      "dl.facts",
      {},
      rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
    ),
  );
}
