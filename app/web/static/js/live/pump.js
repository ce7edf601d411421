/** Takes frames from a playing video and sends them, as many as credit and pace allow, always the newest. */
import { Pacer } from "./pacing.js";

/** @typedef {{canvas: HTMLCanvasElement, takenAt: number, sentAt: number, encodeMs: number, bytes: number}} Frame */

export class FramePump {
  #running = false;
  #fresh = false;
  #busy = false;
  #lastSentAt = -Infinity;
  #timer = 0;
  /** @type {HTMLCanvasElement[]} */
  #free = [];
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
    this.#tick();
  }

  stop() {
    this.#running = false;
    clearTimeout(this.#timer);
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
    if (frame && this.#free.length < 4 && !this.#free.includes(frame.canvas)) this.#free.push(frame.canvas);
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
    const { videoWidth, videoHeight } = this.video;
    const scale = Math.min(1, side / Math.max(videoWidth, videoHeight));
    const canvas = this.#free.pop() ?? document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(videoWidth * scale));
    canvas.height = Math.max(1, Math.round(videoHeight * scale));
    const takenAt = performance.now();
    /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false })).drawImage(
      this.video,
      0,
      0,
      canvas.width,
      canvas.height,
    );
    const picture = await new Promise((resolve) => {
      canvas.toBlob(resolve, "image/jpeg", quality);
    });
    this.#busy = false;
    const sentAt = performance.now();
    /** @type {Frame} */
    const frame = { canvas, takenAt, sentAt, encodeMs: sentAt - takenAt, bytes: picture?.size ?? 0 };
    if (this.#running && picture && this.stream.send(picture, frame)) this.#lastSentAt = takenAt;
    else this.recycle(frame);
    this.#tick();
  }
}
