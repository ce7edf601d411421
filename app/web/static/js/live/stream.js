/** One detection stream over the WebSocket: numbers frames as the server does, counts credit, reconnects. */
import { explain } from "./closecodes.js";

/** Frames sent and not yet accounted for: one that the server works on and one that waits there. */
export const CREDIT = 2;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const SILENCE_MS = 20_000;
/** Without an answer for this long, and thrice as long as the one before took, the person is told. */
const LATE_MS = 3_000;
const CONNECT_MS = 10_000;

/**
 * @typedef {object} StreamAnswer
 * @property {import("../detect/draw.js").Detection[]} objects
 * @property {number} frame
 * @property {number} dropped
 * @property {{width: number, height: number}} image
 * @property {{decode_ms: number, queue_ms: number, inference_ms: number}} timing
 * @property {{code: string, detail: string}} [error]
 */

/**
 * @typedef {{state: "connecting"|"open"|"late"|"waiting"|"closed", words?: string, retryInMs?: number, code?: number}} StreamStatus
 */

export class DetectionStream {
  /** @type {WebSocket|null} */
  #socket = null;
  /** @type {Map<number, any>} what the sender remembers of each frame in flight */
  #inFlight = new Map();
  #sent = 0;
  #attempts = 0;
  #timer = 0;
  #silence = 0;
  #late = 0;
  #silentSince = 0;
  #lateAfterMs = LATE_MS;
  /** Whether the person was told that answers are late. */
  #isLate = false;
  #wanted = false;
  /** @type {Record<string, any>} */
  #settings = {};
  /** Most frames in flight; fewer on a slow server. */
  credit = CREDIT;

  /**
   * @param {string} url
   * @param {{onAnswer: (answer: StreamAnswer, remembered: any) => void, onStatus: (status: StreamStatus) => void,
   *          onLost?: (remembered: any[]) => void, allowed?: () => Promise<boolean>}} listeners onLost gets what was
   *          remembered of frames that will have no answer; allowed is asked when a connection fails before it opened
   */
  constructor(url, { onAnswer, onStatus, onLost = () => {}, allowed = async () => true }) {
    this.url = url;
    this.onAnswer = onAnswer;
    this.onStatus = onStatus;
    this.onLost = onLost;
    this.allowed = allowed;
    this.retryNow = this.retryNow.bind(this);
  }

  open() {
    this.#wanted = true;
    addEventListener("online", this.retryNow);
    this.#connect();
  }

  /** Whether a frame may be sent now. */
  get ready() {
    const socket = this.#socket;
    return (
      socket?.readyState === WebSocket.OPEN &&
      this.#inFlight.size < this.credit &&
      socket.bufferedAmount === 0
    );
  }

  /**
   * Send a frame; the answer comes with what was to be remembered.
   *
   * @param {Blob} picture
   * @param {any} remembered
   * @returns {boolean} whether it was sent
   */
  send(picture, remembered) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#sent += 1;
    this.#inFlight.set(this.#sent, remembered);
    this.#socket.send(picture);
    if (!this.#silence) this.#listenForSilence();
    return true;
  }

  /**
   * Change the settings from the next frame on; also told to the server after a reconnection.
   *
   * @param {Record<string, any>} settings
   */
  set(settings) {
    this.#settings = { ...this.#settings, ...settings };
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(settings));
  }

  /** Try to connect at once instead of waiting. */
  retryNow() {
    if (!this.#wanted || !this.#timer) return;
    this.#connect();
  }

  close() {
    this.#wanted = false;
    removeEventListener("online", this.retryNow);
    clearTimeout(this.#timer);
    this.#timer = 0;
    const socket = this.#socket;
    this.#forget();
    socket?.close(1000);
    this.onStatus({ state: "closed" });
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#forget();
    this.onStatus({ state: "connecting" });
    const socket = new WebSocket(this.url);
    let opened = false;
    this.#socket = socket;
    // A server that hangs takes connections and says nothing.
    const hangs = `no connection within ${CONNECT_MS / 1000} seconds`;
    this.#silence = setTimeout(() => this.#giveUp(hangs), CONNECT_MS);
    socket.onopen = () => {
      if (this.#socket !== socket) return;
      opened = true;
      this.#hear();
      socket.send(JSON.stringify(this.#settings));
      this.onStatus({ state: "open" });
    };
    socket.onmessage = ({ data }) => {
      if (this.#socket === socket) this.#receive(JSON.parse(data));
    };
    socket.onclose = ({ code, reason }) => {
      if (this.#socket === socket) this.#closed(code, reason, opened);
    };
  }

  /** @param {StreamAnswer} answer */
  #receive(answer) {
    this.#attempts = 0;
    const wasLate = this.#isLate;
    this.#lateAfterMs = Math.max(LATE_MS, 3 * (performance.now() - this.#silentSince));
    this.#hear();
    if (wasLate) this.onStatus({ state: "open" });
    const remembered = this.#inFlight.get(answer.frame);
    // The server keeps the newest: earlier frames that had no answer were dropped there.
    const lost = [];
    for (const [frame, other] of this.#inFlight) {
      if (frame > answer.frame) break;
      this.#inFlight.delete(frame);
      if (frame < answer.frame) lost.push(other);
    }
    if (lost.length) this.onLost(lost);
    if (this.#inFlight.size) this.#listenForSilence();
    this.onAnswer(answer, remembered);
  }

  async #closed(code, reason, opened) {
    this.#forget();
    const closing = explain(code, reason);
    // A refused handshake shows in a browser as a lost connection: ask whether we are still signed in.
    const allowed = opened || code !== 1006 || (await this.allowed());
    if (!this.#wanted) return;
    if (!allowed || !closing.retry) {
      this.close();
      this.onStatus({
        state: "closed",
        code: allowed ? code : 1008,
        words: allowed ? closing.words : explain(1008).words,
      });
      return;
    }
    const back = Math.min(FIRST_WAIT_MS * 2 ** this.#attempts, LONGEST_WAIT_MS);
    // Spread, so that the clients of a restarted server do not all come at once.
    const wait = Math.max(closing.waitMs ?? 0, back * (0.75 + Math.random() / 2));
    this.#attempts += 1;
    this.#timer = setTimeout(() => this.#connect(), wait);
    this.onStatus({ state: "waiting", code, words: closing.words, retryInMs: wait });
  }

  #listenForSilence() {
    this.#hear();
    this.#silentSince = performance.now();
    this.#silence = setTimeout(() => this.#giveUp(`no answer for ${SILENCE_MS / 1000} seconds`), SILENCE_MS);
    this.#late = setTimeout(() => {
      this.#isLate = true;
      this.onStatus({ state: "late", words: "The server has not answered for a while." });
    }, this.#lateAfterMs);
  }

  /** Something was heard: there is no silence. */
  #hear() {
    clearTimeout(this.#silence);
    clearTimeout(this.#late);
    this.#silence = 0;
    this.#late = 0;
    this.#isLate = false;
  }

  #giveUp(reason) {
    const socket = this.#socket;
    if (!socket) return;
    // A half-open connection tells nothing: close() would wait for an answer to its own goodbye.
    socket.close();
    this.#closed(1006, reason, true);
  }

  #forget() {
    this.#hear();
    this.#socket = null;
    this.#sent = 0;
    if (this.#inFlight.size) this.onLost([...this.#inFlight.values()]);
    this.#inFlight.clear();
  }
}
