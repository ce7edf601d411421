/** What can be chosen beside the live picture, and what is seen in it. */
import { colorOf } from "../detect/colors.js";
import { labelFilter, thresholdSlider } from "../detect/controls.js";
import { countByLabel } from "../detect/draw.js";
import { fill, h, uid } from "../ui/dom.js";
import { segmented } from "../ui/fields.js";
import { icon } from "../ui/icons.js";
import { canBeWritten } from "./pad.js";
import { LEVELS } from "./pacing.js";

/** Counts change many times a second: read out when they rest. */
const READ_OUT_EVERY_MS = 5000;

/**
 * @typedef {object} LiveOptions
 * @property {"camera"|"screen"|"file"|"pad"} source
 * @property {"exact"|"live"} mode
 * @property {number} threshold
 * @property {string[]} labels none means all
 * @property {number|null} side longest side of the frames, null to adapt
 * @property {string|null} [camera]
 */

/**
 * @param {{labels: string[], options: LiveOptions, onChange: (change: Partial<LiveOptions>) => void,
 *          onFile: (file: File) => void}} setup
 */
export function livePanel({ labels, options, onChange, onFile }) {
  const cameraId = uid("camera");
  const cameras = h("select.input", {
    id: cameraId,
    onchange: () => onChange({ camera: cameras.value || null }),
  });
  const cameraField = h("div.field", {}, h("label", { for: cameraId }, "Camera"), cameras);
  const file = h("input.visually-hidden", {
    type: "file",
    accept: "video/*",
    tabindex: -1,
    "aria-label": "Video file",
    onchange: () => {
      if (file.files[0]) onFile(file.files[0]);
      file.value = "";
    },
  });
  const fileField = h(
    "div",
    {},
    file,
    h("button.btn", { type: "button", onclick: () => file.click() }, icon("film", 16), "Choose a video"),
  );
  const modeHint = h("p.field-hint");
  const modeField = h(
    "div.field",
    {},
    h("span.field-label", {}, "Boxes over"),
    segmented(
      "Boxes over",
      [
        { value: "exact", words: "Exact frame" },
        { value: "live", words: "Live picture" },
      ],
      options.mode,
      (mode) => choose({ mode: /** @type {LiveOptions["mode"]} */ (mode) }),
    ),
    modeHint,
  );
  const sourceChoice = segmented(
    "Source",
    [
      { value: "camera", words: [icon("camera", 16), "Camera"] },
      { value: "screen", words: [icon("screen", 16), "Screen"] },
      { value: "file", words: [icon("film", 16), "Video"] },
      ...(canBeWritten(labels) ? [{ value: "pad", words: [icon("pen", 16), "Draw"] }] : []),
    ],
    options.source,
    (source) => choose({ source: /** @type {LiveOptions["source"]} */ (source) }),
  );
  sourceChoice.classList.add("sources");
  const sizeId = uid("size");
  const size = h(
    "select.input",
    { id: sizeId, onchange: () => onChange({ side: size.value ? Number(size.value) : null }) },
    h("option", { value: "" }, "Adapt to the connection"),
    LEVELS.map(({ side }) => h("option", { value: side }, `${side} pixels`)),
  );
  size.value = options.side ?? "";
  const sizeNow = h("p.field-hint.num");
  const seen = h("ul.seen");
  const readOut = h("p.visually-hidden", { role: "status" });
  let lastRead = 0;
  /** @type {string|null} */
  let lastWords = null;

  function choose(change) {
    onChange(change);
    showSource();
  }
  /** @param {LiveOptions["source"]} source chosen elsewhere than here */
  function pickSource(source) {
    for (const input of sourceChoice.querySelectorAll("input")) input.checked = input.value === source;
    choose({ source });
  }
  function showSource() {
    cameraField.hidden = options.source !== "camera";
    fileField.hidden = options.source !== "file";
    // A drawing hand needs its line at once, so there the picture is always the live one.
    modeField.hidden = options.source === "pad";
    modeHint.textContent =
      options.mode === "exact"
        ? "Each answer is drawn over the very frame it belongs to."
        : "Boxes are drawn over the live picture and follow it a moment later.";
  }

  /**
   * @param {MediaDeviceInfo[]} devices
   * @param {string|null} selected
   */
  function showCameras(devices, selected) {
    const named = devices.filter(({ deviceId }) => deviceId);
    fill(
      cameras,
      h("option", { value: "" }, "The browser's choice"),
      named.map(({ deviceId, label }, at) => h("option", { value: deviceId }, label || `Camera ${at + 1}`)),
    );
    cameras.value = named.some(({ deviceId }) => deviceId === selected) ? selected : "";
  }

  /** @param {import("../detect/draw.js").Detection[]|null} objects null when nothing runs */
  function showObjects(objects) {
    const counts = countByLabel(objects ?? []);
    const words = counts.map(([label, number]) => `${number} ${label}`).join(", ") || "nothing";
    if (objects === null || words !== lastWords) {
      fill(
        seen,
        objects === null
          ? h("li.muted.small", {}, "Counts per label appear here.")
          : counts.length === 0
            ? h("li.muted.small", {}, "Nothing above the threshold.")
            : counts.map(([label, number]) =>
                h(
                  "li",
                  {},
                  h("span.swatch", { style: { background: colorOf(label).fill } }),
                  h("span.grow", {}, label),
                  h("strong.num", {}, number),
                ),
              ),
      );
    }
    if (objects !== null && words !== lastWords && performance.now() - lastRead > READ_OUT_EVERY_MS) {
      lastRead = performance.now();
      readOut.textContent = `In the picture: ${words}.`;
    }
    lastWords = objects === null ? null : words;
  }

  /**
   * @param {{side: number, quality: number}|null} level
   * @param {HTMLVideoElement} video
   */
  function showSize(level, video) {
    if (!level || !video.videoWidth) return;
    const scale = Math.min(1, level.side / Math.max(video.videoWidth, video.videoHeight));
    sizeNow.textContent = `Now ${Math.round(video.videoWidth * scale)} × ${Math.round(video.videoHeight * scale)}, JPEG quality ${Math.round(level.quality * 100)} %.`;
  }

  const element = h(
    "aside.live-panel",
    { "aria-label": "Settings" },
    h(
      "div.card.card-tight.stack",
      {},
      sourceChoice,
      cameraField,
      fileField,
      modeField,
      thresholdSlider(options.threshold, (threshold) => onChange({ threshold })),
      h(
        "div.field",
        {},
        h("span.field-label", {}, "Labels"),
        labelFilter(labels, options.labels, (chosen) => onChange({ labels: chosen })),
      ),
      h("div.field", {}, h("label", { for: sizeId }, "Frame size"), size, sizeNow),
    ),
    h("div.card.card-tight.stack-sm", {}, h("h2", {}, "In the picture"), seen, readOut),
  );
  showSource();
  showObjects(null);
  return { element, showCameras, showObjects, showSize, pickSource, pickFile: () => file.click() };
}
