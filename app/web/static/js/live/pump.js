/** Takes frames from a playing video and sends them, as many as credit and pace allow, always the newest. */
import { Pacer } from "./pacing.js";

/** Longest side of the pictures that are kept to draw boxes on. */
const SHARPEST = 1600;
/**
 * A picture that stands still is sent again this often: a shared window that nothing moves in has no new pictures, and
 * a page in the background is told of none.
 */
const STILL_MS = 1000;

/**
 * @typedef {object} Frame
 * @property {{width: number, height: number}} seen size in which the detector saw it
 * @property {HTMLCanvasElement|null} canvas the picture, sharper than what was sent, where it was to be kept
 * @property {number} takenAt
 * @property {number} sentAt
 * @property {number} encodeMs
 */

export class FramePump {
  #running = false;
  #fresh = false;
  #busy = false;
  #lastSentAt = -Infinity;
  #timer = 0;
  #stillTimer = 0;
  /** @type {HTMLCanvasElement[]} */
  #free = [];
  #sending = document.createElement("canvas");
  /** Whether the very picture is kept until its answer comes. */
  keepsPictures = true;
  pacer = new Pacer();

  /**
   * @param {HTMLVideoElement} video
   * @param {import("./stream.js").DetectionStream} stream
   */
  constructor(video, stream) {
    this.video = video;
    this.stream = stream;
  }

  start() {
    if (this.#running) return;
    this.#running = true;
    this.#watch();
    this.#stillTimer = setInterval(() => this.#sendStill(), STILL_MS);
    this.#tick();
  }

  stop() {
    this.#running = false;
    clearTimeout(this.#timer);
    clearInterval(this.#stillTimer);
  }

  /** Something changed that may let a frame go: an answer came, the connection opened. */
  nudge() {
    if (this.#running) this.#tick();
  }

  /**
   * Give a frame's canvas back once nobody draws from it.
   *
   * @param {Frame|undefined} frame
   */
  recycle(frame) {
    const canvas = frame?.canvas;
    if (canvas && this.#free.length < 4 && !this.#free.includes(canvas)) this.#free.push(canvas);
  }

  /** The browser tells of each new picture where it can, so that none is sent twice and a paused video sends none. */
  #watch() {
    if (!this.#running) return;
    if (!this.video.requestVideoFrameCallback) {
      this.#fresh = true;
      requestAnimationFrame(() => this.#watch());
      return;
    }
    this.video.requestVideoFrameCallback(() => {
      this.#fresh = true;
      this.#tick();
      this.#watch();
    });
  }

  #sendStill() {
    if (this.video.paused || performance.now() - this.#lastSentAt < STILL_MS) return;
    this.#fresh = true;
    this.#tick();
  }

  #tick() {
    clearTimeout(this.#timer);
    if (!this.#running || this.#busy || !this.#fresh || !this.stream.ready || !this.video.videoWidth) {
      if (this.#running && !this.video.requestVideoFrameCallback)
        this.#timer = setTimeout(() => this.#tick(), 15);
      return;
    }
    const wait = this.#lastSentAt + this.pacer.intervalMs - performance.now();
    if (wait > 2) this.#timer = setTimeout(() => this.#tick(), wait);
    else this.#send();
  }

  async #send() {
    this.#busy = true;
    this.#fresh = false;
    const { side, quality } = this.pacer.size;
    const takenAt = performance.now();
    const canvas = this.keepsPictures
      ? this.#draw(this.#free.pop() ?? document.createElement("canvas"), SHARPEST)
      : null;
    const sending = this.#draw(this.#sending, side);
    const seen = { width: sending.width, height: sending.height };
    const picture = await new Promise((resolve) => {
      sending.toBlob(resolve, "image/jpeg", quality);
    });
    this.#busy = false;
    const sentAt = performance.now();
    /** @type {Frame} */
    const frame = { seen, canvas, takenAt, sentAt, encodeMs: sentAt - takenAt };
    if (this.#running && picture && this.stream.send(picture, frame)) this.#lastSentAt = takenAt;
    else this.recycle(frame);
    this.#tick();
  }

  /** The video's present picture, no larger than `side`. */
  #draw(canvas, side) {
    const { videoWidth, videoHeight } = this.video;
    const scale = Math.min(1, side / Math.max(videoWidth, videoHeight));
    canvas.width = Math.max(1, Math.round(videoWidth * scale));
    canvas.height = Math.max(1, Math.round(videoHeight * scale));
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
    context.drawImage(this.video, 0, 0, canvas.width, canvas.height);
    return canvas;
  }
}
