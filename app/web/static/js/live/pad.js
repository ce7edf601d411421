/** A sheet to write on, as a source of moving pictures: live detection of handwriting without a camera. */
import { h } from "../ui/dom.js";
import { icon } from "../ui/icons.js";

/** Sheets in pixels, and where the three digits of the example lie on them: on a phone there is more room below. */
const WIDE = { width: 960, height: 540, corners: [[110, 190], [420, 130], [730, 200]] };
const SQUARE = { width: 720, height: 720, corners: [[60, 150], [300, 460], [510, 190]] };
const NARROW = "(max-width: 47.99rem)";
const PAPER = "#f4f1ea";
const INK = "#20222a";
const PEN = 20;
const FRAMES_PER_SECOND = 30;
const BETWEEN_DIGITS_MS = 450;
/** A stream skips what comes too soon after its last picture, and would miss the end of a stroke: it is told again. */
const TELL_AGAIN_MS = [100, 400];

/** Pen strokes of three digits, each within 100 x 140. */
const EXAMPLE = [
  "M14 22C32 0 84 4 80 36 77 58 48 63 38 65c36-4 56 20 44 48-14 30-62 26-74 1",
  "M8 16c28 5 56 3 84-4C74 52 56 92 44 138",
  "M58 8C16 8 4 60 14 98c14 52 66 44 75-10C96 38 78 4 48 10",
];
const SCALE = 1.5;

/** Whether what can be written on the sheet is what the model finds. @param {string[]} labels */
export function canBeWritten(labels) {
  return labels.length > 0 && labels.every((label) => /^\d$/.test(label));
}

/** @returns {import("./sources.js").Source} */
export function openPad() {
  const { width, height, corners } = matchMedia(NARROW).matches ? SQUARE : WIDE;
  const sheet = h("canvas", { width, height });
  const context = /** @type {CanvasRenderingContext2D} */ (sheet.getContext("2d", { alpha: false }));
  const hint = h("p.pad-hint", {}, "Write digits here");
  const overlay = h(
    "div.pad",
    {},
    sheet,
    hint,
    h(
      "div.pad-tools",
      {},
      h("button.btn.btn-small", { type: "button", onclick: writeExample }, icon("pen", 15), "Write for me"),
      h("button.btn.btn-small", { type: "button", onclick: clear }, icon("trash", 15), "Clear"),
    ),
  );
  /** @type {MediaStream|null} */
  let stream = null;
  /** @type {[number, number]|null} the pen's last point while it is down */
  let last = null;
  let timers = /** @type {number[]} */ ([]);
  let again = /** @type {number[]} */ ([]);

  function clear() {
    timers.forEach(clearTimeout);
    timers = [];
    context.fillStyle = PAPER;
    context.fillRect(0, 0, width, height);
    hint.hidden = false;
    tellAgain();
  }

  /** Any drawing makes a new picture of the stream, be it one that changes nothing. */
  function tellAgain() {
    again.forEach(clearTimeout);
    again = TELL_AGAIN_MS.map((wait) =>
      setTimeout(() => {
        context.fillStyle = PAPER;
        context.fillRect(0, 0, 1, 1);
      }, wait),
    );
  }

  function dip() {
    hint.hidden = true;
    context.strokeStyle = INK;
    context.lineCap = "round";
    context.lineJoin = "round";
  }

  function writeExample() {
    clear();
    const pause = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : BETWEEN_DIGITS_MS;
    timers = EXAMPLE.map((path, at) =>
      setTimeout(() => {
        dip();
        context.save();
        context.translate(corners[at][0], corners[at][1]);
        context.scale(SCALE, SCALE);
        context.lineWidth = PEN / SCALE;
        context.stroke(new Path2D(path));
        context.restore();
        tellAgain();
      }, at * pause),
    );
  }

  /** Where on the sheet: it lies in its box as large as it fits. */
  function place({ clientX, clientY }) {
    const box = sheet.getBoundingClientRect();
    const scale = Math.min(box.width / width, box.height / height);
    return /** @type {[number, number]} */ ([
      (clientX - box.left - (box.width - width * scale) / 2) / scale,
      (clientY - box.top - (box.height - height * scale) / 2) / scale,
    ]);
  }

  function draw(to) {
    dip();
    context.lineWidth = PEN;
    context.beginPath();
    context.moveTo(...(last ?? to));
    context.lineTo(...to);
    context.stroke();
    last = to;
    tellAgain();
  }

  sheet.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0) return;
    event.preventDefault();
    sheet.setPointerCapture(event.pointerId);
    last = null;
    draw(place(event));
  });
  sheet.addEventListener("pointermove", (event) => {
    if (!last || !event.isPrimary) return;
    for (const each of event.getCoalescedEvents?.() ?? [event]) draw(place(each));
  });
  for (const name of ["pointerup", "pointercancel"]) {
    sheet.addEventListener(name, () => {
      last = null;
    });
  }
  clear();

  return {
    kind: "pad",
    name: "Drawing",
    overlay,
    async attach(video) {
      video.removeAttribute("src");
      stream = sheet.captureStream(FRAMES_PER_SECOND);
      video.srcObject = stream;
      await video.play().catch((error) => {
        if (error.name !== "AbortError") throw error;
      });
    },
    stop() {
      [...timers, ...again].forEach(clearTimeout);
      stream?.getTracks().forEach((track) => track.stop());
      overlay.remove();
    },
    onEnd() {
      // It ends when it is stopped.
    },
  };
}
