/** One picture with its boxes, its table of objects, and what can be done with them. */
import { annotated, chosen } from "../detect/draw.js";
import { boxLayer } from "../detect/boxlayer.js";
import { objectTable } from "../detect/objecttable.js";
import { detectionSnippets } from "../detect/snippets.js";
import { codeTabs } from "../ui/code.js";
import { fill, h } from "../ui/dom.js";
import { copy, download, stem } from "../ui/files.js";
import { bytes, count, ms } from "../ui/format.js";
import { icon } from "../ui/icons.js";
import { errorBanner } from "../ui/states.js";
import { toast } from "../ui/toast.js";

/**
 * @param {import("../views/upload.js").Picture} picture
 * @param {{threshold: number, labels: string[]}} choice
 * @param {() => void} onRetry
 * @returns {{element: HTMLElement, choose: (choice: {threshold: number, labels: string[]}) => void}}
 */
export function pictureDetails(picture, choice, onRetry) {
  const image = h("img", {
    src: picture.url,
    alt: `Your picture ${picture.file.name}`,
    dataset: { picture: "" },
  });
  const layer = boxLayer((at) => table.select(at));
  const frame = h(
    "div.picture",
    { "aria-busy": String(picture.state === "working") },
    image,
    layer.element,
    picture.state !== "done" &&
      picture.state !== "failed" &&
      h(
        "div.picture-busy",
        { role: "status" },
        h("span.spinner"),
        picture.state === "waiting" ? "Waiting…" : "Looking…",
      ),
  );
  const table = objectTable((at) => layer.select(at));
  const summary = h("p.small", { role: "status" });
  const code = h("div");
  let objects = /** @type {import("../detect/draw.js").Detection[]} */ ([]);
  image.addEventListener("error", () => {
    frame.classList.add("picture-broken");
    image.replaceWith(h("p.picture-none", {}, icon("image", 28), "The browser cannot show this file."));
  });

  function choose(now) {
    if (!picture.answer) return;
    objects = chosen(picture.answer.objects, now);
    layer.show(objects, picture.answer.image);
    table.show(objects);
    const hidden = picture.answer.objects.length - objects.length;
    summary.textContent = `${count(objects.length, "object")}${hidden > 0 ? `, ${hidden} more hidden by threshold or labels` : ""}.`;
    fill(code, codeTabs(detectionSnippets(picture.file.name, now)));
  }
  const asJson = () => JSON.stringify({ ...picture.answer, objects }, null, 2);
  const savePicture = async () => {
    try {
      const size = { width: image.naturalWidth, height: image.naturalHeight };
      download(
        await annotated(image, size, objects, picture.answer.image),
        `${stem(picture.file.name)}_detected.png`,
      );
    } catch (error) {
      toast(error.message);
    }
  };
  const { answer, timing } = picture;
  const element = h(
    "section.stack",
    { "aria-label": picture.file.name },
    frame,
    picture.state === "failed" && errorBanner(picture.error, onRetry),
    answer && [
      h(
        "div.row-between",
        {},
        h(
          "div",
          {},
          summary,
          h(
            "p.small.muted.num",
            {},
            [
              picture.file.name,
              `${answer.image.width} × ${answer.image.height}`,
              bytes(picture.file.size),
              timing.total !== undefined && `${ms(timing.total)} on the server`,
            ]
              .filter(Boolean)
              .join(" · "),
          ),
        ),
        h(
          "div.row",
          {},
          h("button.btn.btn-small", { type: "button", onclick: savePicture }, icon("image", 15), "Save PNG"),
          h(
            "button.btn.btn-small",
            {
              type: "button",
              onclick: () =>
                download(asJson(), `${stem(picture.file.name)}_detected.json`, "application/json"),
            },
            icon("download", 15),
            "Save JSON",
          ),
          h(
            "button.btn.btn-small",
            { type: "button", onclick: () => copy(asJson(), "JSON") },
            icon("copy", 15),
            "Copy JSON",
          ),
        ),
      ),
      table.element,
      timing.inference !== undefined &&
        h(
          "p.small.muted.num",
          {},
          `Decode ${ms(timing.decode)}, queue ${ms(timing.queue)}, inference ${ms(timing.inference)}.`,
        ),
      h("details.more", {}, h("summary", {}, "Call it from code"), code),
    ],
  );
  choose(choice);
  return { element, choose };
}
