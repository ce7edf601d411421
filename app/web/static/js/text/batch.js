/** Classifying many texts, some hundreds at a time. */
import { call, patiently } from "../api.js";

/** The server takes 256 texts a call; fewer show progress sooner. */
const TEXTS_A_CALL = 64;
const CHARACTERS_A_CALL = 500_000;

/**
 * Texts in the order of the file, in groups that fit a call.
 *
 * @param {string[]} texts
 * @returns {string[][]}
 */
export function group(texts) {
  /** @type {string[][]} */
  const groups = [];
  let characters = Infinity;
  for (const text of texts) {
    const last = groups.at(-1);
    if (!last || last.length >= TEXTS_A_CALL || characters + text.length > CHARACTERS_A_CALL) {
      groups.push([text]);
      characters = text.length;
    } else {
      last.push(text);
      characters += text.length;
    }
  }
  return groups;
}

/**
 * @param {string[]} texts
 * @param {(answers: any[]) => void} onAnswers called after each call with the answers to its texts
 * @param {AbortSignal} signal
 */
export async function classifyAll(texts, onAnswers, signal) {
  for (const part of group(texts)) {
    const { data } = await patiently(
      () => call("POST", "/predictions/batch", { json: { texts: part }, signal }),
      signal,
    );
    onAnswers(data);
  }
}
