/** What the answers of the last minute measured. */

const MINUTE_MS = 60_000;
const RECENT_MS = 10_000;
const RATE_MS = 3_000;

/**
 * @typedef {object} Sample
 * @property {number} at when the answer came, `performance.now()`
 * @property {number} roundTripMs sending to answer
 * @property {number} ageMs from the moment the picture was taken to its boxes being drawn
 * @property {number} decodeMs
 * @property {number} queueMs
 * @property {number} inferenceMs
 */

export class StreamStats {
  /** @type {Sample[]} */
  #samples = [];
  answered = 0;
  dropped = 0;
  failed = 0;
  #droppedBefore = 0;
  startedAt = performance.now();

  /** @param {Sample} sample */
  add(sample) {
    this.#samples.push(sample);
    this.answered += 1;
    while (this.#samples.length && this.#samples[0].at < sample.at - MINUTE_MS - 2000) this.#samples.shift();
  }

  /**
   * The server counts the dropped frames of one connection; a new one starts at nought.
   *
   * @param {number} inThisConnection
   */
  setDropped(inThisConnection) {
    this.dropped = this.#droppedBefore + inThisConnection;
  }

  /** A connection ended. */
  newConnection() {
    this.#droppedBefore = this.dropped;
  }

  /** @param {number} now `performance.now()` */
  summary(now) {
    const recent = this.#samples.filter(({ at }) => at > now - RECENT_MS);
    const span = Math.min(RATE_MS, Math.max(500, now - this.startedAt));
    const latest = recent.slice(-8);
    return {
      perSecond: (this.#samples.filter(({ at }) => at > now - span).length * 1000) / span,
      p50: quantile(
        recent.map((sample) => sample.roundTripMs),
        0.5,
      ),
      p95: quantile(
        recent.map((sample) => sample.roundTripMs),
        0.95,
      ),
      ageMs: mean(latest.map((sample) => sample.ageMs)),
      decodeMs: mean(latest.map((sample) => sample.decodeMs)),
      queueMs: mean(latest.map((sample) => sample.queueMs)),
      inferenceMs: mean(latest.map((sample) => sample.inferenceMs)),
      networkMs: mean(latest.map(networkOf)),
      answered: this.answered,
      dropped: this.dropped,
    };
  }

  /**
   * Mean parts of the latency for each second of the last minute, oldest first; null for seconds without an answer.
   *
   * @param {number} now
   */
  perSecond(now) {
    /** @type {Sample[][]} */
    const seconds = Array.from({ length: 60 }, () => []);
    for (const sample of this.#samples) {
      const back = Math.floor((now - sample.at) / 1000);
      if (back >= 0 && back < 60) seconds[59 - back].push(sample);
    }
    return seconds.map((samples) =>
      samples.length === 0
        ? null
        : {
            network: mean(samples.map(networkOf)),
            decode: mean(samples.map((sample) => sample.decodeMs)),
            queue: mean(samples.map((sample) => sample.queueMs)),
            inference: mean(samples.map((sample) => sample.inferenceMs)),
            answers: samples.length,
          },
    );
  }
}

function networkOf({ roundTripMs, decodeMs, queueMs, inferenceMs }) {
  return Math.max(0, roundTripMs - decodeMs - queueMs - inferenceMs);
}

/**
 * Quantile with linear interpolation (type 7 of Hyndman and Fan); NaN of nothing.
 *
 * @param {number[]} values
 * @param {number} share
 */
export function quantile(values, share) {
  if (!values.length) return NaN;
  const sorted = [...values].sort((one, other) => one - other);
  const at = (sorted.length - 1) * share;
  const low = Math.floor(at);
  return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (at - low);
}

function mean(values) {
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : NaN;
}
