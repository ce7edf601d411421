/**
 * How large, how fine and how often frames are sent, from what the answers measured.
 *
 * Two things make an answer late, and each has its own remedy:
 * - the way there (encoding, network, decoding) grows with the frame, so frames become smaller and coarser;
 * - waiting in the server's queue means that frames come faster than they are worked on, so they are sent less often.
 * The model's own time depends on neither and is only what the rate is set by.
 */

/** Longest side in pixels and JPEG quality, from least to most. */
export const LEVELS = /** @type {const} */ ([
  { side: 256, quality: 0.5 },
  { side: 320, quality: 0.55 },
  { side: 416, quality: 0.6 },
  { side: 512, quality: 0.65 },
  { side: 640, quality: 0.7 },
  { side: 800, quality: 0.75 },
  { side: 1024, quality: 0.8 },
]);

const START = 4;
const SHORTEST_MS = 1000 / 30;
const SHORTEST_FACTOR = 0.7;
const LONGEST_FACTOR = 1.5;
/** The way there may take this long even on a fast server, and this share of the model's time on a slow one. */
const WAY_BUDGET_MS = 80;
const WAY_SHARE = 0.5;
/** Below this level the model sees less than it could: worth it only on a way that is slow indeed. */
const LEAST_GOOD = 2;
const SLOW_WAY_MS = 300;
const SMOOTHING = 0.25;
const PATIENCE_DOWN = 3;
const PATIENCE_UP = 20;

/** @typedef {{roundTripMs: number, encodeMs: number, timing: {decode_ms: number, queue_ms: number, inference_ms: number}}} Measured */

export class Pacer {
  #level = START;
  #fixed = false;
  #way = NaN;
  #queue = NaN;
  #inference = NaN;
  #late = 0;
  #early = 0;
  /** Interval as a multiple of the model's time. */
  #factor = 1;

  /** @returns {{side: number, quality: number}} */
  get size() {
    return LEVELS[this.#level];
  }

  /** Least time between the sending of two frames. */
  get intervalMs() {
    return Math.max(SHORTEST_MS, (this.#inference || 0) * this.#factor);
  }

  /**
   * Hold one size, or adapt again with null.
   *
   * @param {number|null} side
   */
  fix(side) {
    this.#fixed = side !== null;
    this.#level =
      side === null
        ? START
        : Math.max(
            0,
            LEVELS.findIndex((level) => level.side === side),
          );
  }

  /** The server found a frame too large. */
  shrink() {
    this.#level = Math.max(0, this.#level - 2);
  }

  /** @param {Measured} measured */
  learn({ roundTripMs, encodeMs, timing }) {
    const way = Math.max(0, encodeMs + roundTripMs - timing.queue_ms - timing.inference_ms);
    this.#way = smooth(this.#way, way);
    this.#queue = smooth(this.#queue, timing.queue_ms);
    this.#inference = smooth(this.#inference, timing.inference_ms);
    this.#adaptRate();
    if (!this.#fixed) this.#adaptSize();
  }

  #adaptRate() {
    // Half of the model's time in the queue is too much, a tenth leaves room; 5 ms are noise.
    if (this.#queue > 0.5 * this.#inference + 5) this.#factor = Math.min(LONGEST_FACTOR, this.#factor * 1.05);
    else if (this.#queue < 0.1 * this.#inference + 5)
      this.#factor = Math.max(SHORTEST_FACTOR, this.#factor * 0.97);
  }

  #adaptSize() {
    const budget = Math.max(WAY_BUDGET_MS, this.#inference * WAY_SHARE);
    const limit = this.#level > LEAST_GOOD ? budget : Math.max(budget, SLOW_WAY_MS);
    this.#late = this.#way > limit ? this.#late + 1 : 0;
    this.#early = this.#way < budget * 0.5 ? this.#early + 1 : 0;
    if (this.#late >= PATIENCE_DOWN) this.#step(-1);
    else if (this.#early >= PATIENCE_UP) this.#step(1);
  }

  #step(by) {
    this.#level = Math.max(0, Math.min(LEVELS.length - 1, this.#level + by));
    this.#late = 0;
    this.#early = 0;
    this.#way = NaN;
  }
}

function smooth(old, now) {
  return Number.isNaN(old) ? now : old + SMOOTHING * (now - old);
}
