/** The picture with its boxes: over the very frame they belong to ("exact") or over the live picture ("live"). */
import { annotated, chosen, drawDetections } from "../detect/draw.js";
import { h } from "../ui/dom.js";

/** Boxes older than this no longer belong to a live picture. */
const STALE_MS = 2000;

/**
 * @typedef {object} Shown
 * @property {import("./stream.js").StreamAnswer} answer
 * @property {import("./pump.js").Frame} frame
 * @property {number} at when the answer came
 */

export class Stage {
  /** @type {Shown|null} */
  #shown = null;
  /** @type {"exact"|"live"} */
  mode = "exact";
  choice = { threshold: 0.5, labels: /** @type {string[]} */ ([]) };
  #redraw = 0;

  /** @param {AbortSignal} signal ends the drawing */
  constructor(signal) {
    this.video = h("video", { muted: true, playsinline: true, "aria-label": "Picture of the source" });
    // The attribute alone does not mute a video made by a script.
    this.video.muted = true;
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.element = h("div.stage", { dataset: { state: "idle" } }, this.video, this.canvas);
    const sizes = new ResizeObserver(() => this.draw());
    sizes.observe(this.element);
    this.video.addEventListener("resize", () => this.#fit());
    this.video.addEventListener("loadedmetadata", () => this.#fit());
    const clock = setInterval(() => this.#clearStale(), 500);
    signal.addEventListener("abort", () => {
      sizes.disconnect();
      clearInterval(clock);
      cancelAnimationFrame(this.#redraw);
    });
  }

  /**
   * Show an answer over its frame.
   *
   * @param {import("./stream.js").StreamAnswer} answer
   * @param {import("./pump.js").Frame} frame
   * @returns {import("./pump.js").Frame|undefined} the frame shown before, whose canvas is free again
   */
  show(answer, frame) {
    const before = this.#shown?.frame;
    this.#shown = { answer, frame, at: performance.now() };
    this.draw();
    return before;
  }

  /** Nothing is shown any more. */
  clear() {
    this.#shown = null;
    this.draw();
  }

  /** The detections on show, after threshold and filter. */
  get visible() {
    return this.#shown ? chosen(this.#shown.answer.objects, this.choice) : [];
  }

  /** Draw at the next repaint; calls in between are one. */
  draw() {
    cancelAnimationFrame(this.#redraw);
    this.#redraw = requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    const { canvas, element } = this;
    const density = devicePixelRatio || 1;
    const [width, height] = [element.clientWidth, element.clientHeight];
    if (canvas.width !== Math.round(width * density) || canvas.height !== Math.round(height * density)) {
      canvas.width = Math.round(width * density);
      canvas.height = Math.round(height * density);
    }
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!this.#shown) return;
    const { answer, frame } = this.#shown;
    const { seen } = frame;
    const scale = Math.min(width / seen.width, height / seen.height);
    const inner = { width: seen.width * scale, height: seen.height * scale };
    context.translate((width - inner.width) / 2, (height - inner.height) / 2);
    if (this.mode === "exact" && frame.canvas) {
      context.imageSmoothingQuality = "high";
      context.drawImage(frame.canvas, 0, 0, inner.width, inner.height);
    }
    drawDetections(context, chosen(answer.objects, this.choice), { scaleX: scale, scaleY: scale, ...inner });
  }

  /**
   * The picture as it is on show, with its boxes.
   *
   * @returns {Promise<Blob>} PNG
   */
  snapshot() {
    if (!this.#shown) {
      const size = { width: this.video.videoWidth, height: this.video.videoHeight };
      return annotated(this.video, size, []);
    }
    const { frame } = this.#shown;
    const { canvas, seen } = frame;
    if (this.mode === "exact" && canvas) {
      return annotated(canvas, { width: canvas.width, height: canvas.height }, this.visible, seen);
    }
    return annotated(
      this.video,
      { width: this.video.videoWidth, height: this.video.videoHeight },
      this.visible,
      seen,
    );
  }

  #fit() {
    if (!this.video.videoWidth) return;
    this.element.style.aspectRatio = `${this.video.videoWidth} / ${this.video.videoHeight}`;
    this.draw();
  }

  #clearStale() {
    if (
      this.#shown &&
      this.mode === "live" &&
      performance.now() - this.#shown.at > STALE_MS &&
      !this.video.paused
    )
      this.clear();
  }
}
