/** What each close code of the stream means for the person, and whether trying again can help. */

/**
 * @typedef {object} Closing
 * @property {string} words
 * @property {boolean} retry
 * @property {number} [waitMs] least wait before the next attempt
 */

/** @type {Record<number, Closing>} */
const CODES = {
  1000: { words: "The stream ended.", retry: false },
  1001: { words: "The server is going away.", retry: true },
  1003: {
    words:
      "The server did not understand what this page sent. Reload the page; it may be older than the server.",
    retry: false,
  },
  1005: { words: "The connection ended without a reason.", retry: true },
  1006: { words: "The connection was lost.", retry: true },
  1008: {
    words: "The server did not allow the stream. Your session may have ended; sign in again.",
    retry: false,
  },
  1009: { words: "A frame was larger than the server accepts. Frames are now smaller.", retry: true },
  1011: { words: "The server had a fault of its own.", retry: true, waitMs: 2000 },
  1012: { words: "The server restarts.", retry: true },
  1013: { words: "The server has no room for another stream right now.", retry: true, waitMs: 5000 },
};

/**
 * @param {number} code
 * @param {string} [reason] sent by the server
 * @returns {Closing}
 */
export function explain(code, reason = "") {
  const closing = CODES[code] ?? { words: `The connection ended (code ${code}).`, retry: true };
  return reason ? { ...closing, words: `${closing.words} (${reason})` } : closing;
}
