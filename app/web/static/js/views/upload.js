/** Detection in pictures that are dropped, pasted or chosen (`#/upload?threshold=0.5&labels=cat`). */
import { call, isAbort, patiently } from "../api.js";
import { setLabelOrder } from "../detect/colors.js";
import { labelFilter, thresholdSlider, usefulLabels } from "../detect/controls.js";
import { recall, remember } from "../prefs.js";
import { keepQuery } from "../router.js";
import { session } from "../session.js";
import { fill, h } from "../ui/dom.js";
import { count } from "../ui/format.js";
import { icon } from "../ui/icons.js";
import { emptyState, briefNotice } from "../ui/states.js";
import { pictureDetails } from "../upload/details.js";
import { signInFirst } from "./auth.js";

const AT_ONCE = 2;
const RERUN_WAIT_MS = 400;

/**
 * @typedef {object} Picture
 * @property {File} file
 * @property {string} url of the file, for the page
 * @property {"waiting"|"working"|"done"|"failed"} state
 * @property {any} answer
 * @property {Record<string, number>} timing
 * @property {unknown} error
 * @property {number} askedAt threshold that the answer was asked for with
 */

/**
 * @param {HTMLElement} root
 * @param {import("../router.js").Visit} visit
 */
export async function mount(root, { query, signal }) {
  if (!session.mayPredict) {
    fill(root, signInFirst("Detect in pictures", "Sign in to find objects in your pictures."));
    return;
  }
  const model = await session.model("object-detection");
  if (signal.aborted) return;
  setLabelOrder(model?.labels ?? []);
  new UploadView(root, model, query, signal);
}

class UploadView {
  /** @type {Picture[]} */
  #pictures = [];
  /** @type {Picture|null} */
  #selected = null;
  #working = 0;
  #rerunTimer = 0;

  constructor(root, model, query, signal) {
    this.signal = signal;
    const threshold = Number(query.get("threshold") ?? recall("upload", { threshold: 0.5 }).threshold);
    const labels = usefulLabels(model);
    this.choice = {
      threshold: threshold >= 0.05 && threshold <= 0.95 ? threshold : 0.5,
      labels: (query.get("labels") ?? "").split(",").filter((label) => labels.includes(label)),
    };
    this.input = h("input.visually-hidden", {
      type: "file",
      accept: "image/jpeg,image/png,image/webp",
      multiple: true,
      tabindex: -1,
      "aria-label": "Pictures",
      onchange: () => {
        this.add(this.input.files);
        this.input.value = "";
      },
    });
    this.list = h("ul.thumbs", { "aria-label": "Chosen pictures" });
    this.details = h("div.upload-details");
    const pick = () => this.input.click();
    this.drop = h(
      "div.drop",
      {},
      icon("upload", 24),
      h("p", {}, h("strong", {}, "Drop pictures here"), ", paste them, or"),
      h("button.btn.btn-primary", { type: "button", onclick: pick }, "Choose pictures"),
      h(
        "p.small.muted",
        {},
        `JPEG, PNG or WebP. ${whatIsKept()}`,
      ),
      this.input,
    );
    this.controls = h(
      "div.card.card-tight.upload-controls",
      {},
      thresholdSlider(this.choice.threshold, (value) => this.change({ threshold: value })),
      h(
        "div.field",
        {},
        h("span.field-label", {}, "Labels"),
        labelFilter(labels, this.choice.labels, (chosen) => this.change({ labels: chosen })),
      ),
    );
    fill(
      root,
      h("div.view-head", {}, h("h1", { tabindex: -1 }, "Detect in pictures")),
      briefNotice(model),
      h("div.upload", {}, h("div.stack", {}, this.drop, this.controls, this.list), this.details),
    );
    this.#listen();
    this.show();
    signal.addEventListener("abort", () => this.#pictures.forEach(({ url }) => URL.revokeObjectURL(url)));
  }

  #listen() {
    const { signal } = this;
    let depth = 0;
    const mark = (by) => {
      depth = Math.max(0, depth + by);
      this.drop.classList.toggle("dragging", depth > 0);
    };
    addEventListener("dragenter", () => mark(1), { signal });
    addEventListener("dragleave", () => mark(-1), { signal });
    addEventListener("dragover", (event) => event.preventDefault(), { signal });
    addEventListener(
      "drop",
      (event) => {
        event.preventDefault();
        mark(-depth);
        this.add(event.dataTransfer?.files ?? []);
      },
      { signal },
    );
    addEventListener(
      "paste",
      (event) => this.add(/** @type {ClipboardEvent} */ (event).clipboardData?.files ?? []),
      { signal },
    );
  }

  /** @param {Iterable<File>} files */
  add(files) {
    const added = [...files].map((file) => ({
      file,
      url: URL.createObjectURL(file),
      state: /** @type {const} */ ("waiting"),
      answer: null,
      timing: {},
      error: null,
      askedAt: 1,
    }));
    if (!added.length) return;
    this.#pictures.unshift(...added);
    this.#selected = added[0];
    this.show();
    this.#work();
  }

  change(change) {
    Object.assign(this.choice, change);
    keepQuery(this.choice);
    remember("upload", { threshold: this.choice.threshold });
    this.shown?.choose(this.choice);
    clearTimeout(this.#rerunTimer);
    this.#rerunTimer = setTimeout(() => this.#rerun(), RERUN_WAIT_MS);
  }

  /** Below the threshold that an answer was asked with, there may be objects that we have not been told of. */
  #rerun() {
    for (const picture of this.#pictures) {
      if (picture.state === "done" && this.choice.threshold < picture.askedAt) picture.state = "waiting";
    }
    this.#work();
  }

  #work() {
    while (this.#working < AT_ONCE) {
      // The selected one first: somebody is looking at it.
      const waiting = this.#pictures.filter(({ state }) => state === "waiting");
      const picture = waiting.find((each) => each === this.#selected) ?? waiting.at(0);
      if (!picture) return;
      this.#working += 1;
      this.#detect(picture).finally(() => {
        this.#working -= 1;
        if (!this.signal.aborted) this.#work();
      });
    }
  }

  /** @param {Picture} picture */
  async #detect(picture) {
    const again = picture.answer !== null;
    picture.state = "working";
    this.show(picture);
    const body = new FormData();
    body.append("image", picture.file, picture.file.name);
    const { threshold } = this.choice;
    try {
      const { data, timing } = await patiently(
        // A second look at the same picture is not another record.
        () =>
          call("POST", "/object-detection", {
            query: { threshold },
            body,
            signal: this.signal,
            headers: again ? { "X-No-Store": "1" } : {},
          }),
        this.signal,
      );
      Object.assign(picture, {
        state: "done",
        answer: again ? { ...data, id: picture.answer.id } : data,
        timing,
        error: null,
        askedAt: threshold,
      });
    } catch (error) {
      if (isAbort(error)) return;
      Object.assign(picture, { state: "failed", error });
    }
    this.show(picture);
  }

  /** @param {Picture} [changed] only this one changed */
  show(changed) {
    if (this.signal.aborted) return;
    this.#showList();
    if (changed && changed !== this.#selected) return;
    if (!this.#selected) {
      fill(
        this.details,
        emptyState({
          icon: "image",
          title: "No pictures yet",
          text: "Boxes, labels and scores of every object appear here, with the code to do the same from your own program.",
        }),
      );
      return;
    }
    const picture = this.#selected;
    this.shown = pictureDetails(picture, this.choice, () => {
      picture.state = "waiting";
      this.#work();
    });
    fill(this.details, this.shown.element);
  }

  #showList() {
    this.list.hidden = this.#pictures.length < 2;
    const focused = this.list.contains(document.activeElement)
      ? [...this.list.querySelectorAll("button")].indexOf(document.activeElement)
      : -1;
    fill(
      this.list,
      this.#pictures.map((picture) => {
        const words = {
          waiting: "waiting",
          working: "working",
          failed: "failed",
          done: picture.answer ? count(picture.answer.objects.length, "object") : "",
        }[picture.state];
        return h(
          "li",
          {},
          h(
            "button.thumb",
            {
              type: "button",
              "aria-current": picture === this.#selected ? "true" : null,
              onclick: () => {
                this.#selected = picture;
                this.show();
              },
            },
            h("img", { src: picture.url, alt: "", loading: "lazy" }),
            h(
              "span.thumb-words",
              {},
              h("span.clip", {}, picture.file.name),
              h("span.small.muted", {}, words),
            ),
            picture.state === "working" && h("span.spinner", { "aria-hidden": "true" }),
          ),
        );
      }),
    );
    if (focused >= 0) this.list.querySelectorAll("button")[focused]?.focus();
  }
}

function whatIsKept() {
  if (!session.user) return "They are looked at and not kept.";
  return session.keepsImages
    ? "A smaller copy and the objects found go to your history."
    : "They are looked at and not kept; the objects found go to your history.";
}
