/** Records detections as JSON Lines: one line per answer. */
import { bytes } from "../ui/format.js";

/** A recording longer than this is stopped, so that a page left open does not eat the machine's memory. */
const MOST_CHARACTERS = 100_000_000;

export class Recorder {
  /** @type {string[]} */
  #lines = [];
  #characters = 0;
  recording = false;

  start() {
    this.#lines = [];
    this.#characters = 0;
    this.recording = true;
  }

  /**
   * @param {import("./stream.js").StreamAnswer} answer
   * @param {{takenAt: string, source: string}} about takenAt is when the picture was taken, ISO 8601
   * @returns {boolean} false when the recording is full and has stopped
   */
  add(answer, about) {
    if (!this.recording) return true;
    const line = JSON.stringify({ time: about.takenAt, source: about.source, ...answer });
    this.#lines.push(line);
    this.#characters += line.length + 1;
    if (this.#characters > MOST_CHARACTERS) this.recording = false;
    return this.recording;
  }

  get count() {
    return this.#lines.length;
  }

  get size() {
    return bytes(this.#characters);
  }

  /** @returns {Blob} */
  stop() {
    this.recording = false;
    return new Blob(
      this.#lines.map((line) => `${line}\n`),
      { type: "application/x-ndjson" },
    );
  }
}
