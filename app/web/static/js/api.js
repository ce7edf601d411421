/** The one place that talks HTTP to the server. */

/**
 * A call that failed. `message` is the server's own sentence where it sent one.
 */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, code?: string, requestId?: string|null, fields?: Record<string, string>,
   *          retryAfter?: number|null}} [about] status is 0 when no answer came; fields holds one sentence per field
   *          of a validation error; retryAfter is in seconds
   */
  constructor(
    message,
    { status = 0, code = "network", requestId = null, fields = {}, retryAfter = null } = {},
  ) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.requestId = requestId;
    this.fields = fields;
    this.retryAfter = retryAfter;
  }
}

const SAFE = new Set(["GET", "HEAD", "OPTIONS"]);

/** @type {Promise<string>|null} */
let csrfOnItsWay = null;
let isCsrfOld = true;

/** The CSRF token belongs to the session: after signing in or out the next unsafe call asks for a new one. */
export function forgetCsrf() {
  isCsrfOld = true;
}

/** Have a token ready for an unsafe call that must leave at once, as the page is being closed. */
export async function prepareUnsafe() {
  try {
    await csrf();
  } catch (error) {
    // The call itself will say what is wrong.
    if (!(error instanceof ApiError)) throw error;
  }
}

/** Told of every call that was refused because nobody is signed in. */
export const refusals = new EventTarget();

/**
 * @typedef {object} Answer
 * @property {any} data the parsed JSON body, null when there is none
 * @property {Response} response
 * @property {Record<string, number>} timing milliseconds by name, from Server-Timing
 */

/**
 * Call the API with the session cookie.
 *
 * @param {string} method
 * @param {string} path
 * @param {{query?: Record<string, any>, json?: any, form?: Record<string, string>, body?: FormData,
 *          headers?: Record<string, string>, signal?: AbortSignal, keepalive?: boolean}} [options]
 *          query: lists repeat the name, empty values are left out
 * @returns {Promise<Answer>}
 * @throws {ApiError} when the server refuses or cannot be reached
 */
export async function call(method, path, options = {}) {
  try {
    return await attempt(method, path, options);
  } catch (error) {
    // A token made for another session (a second tab signed in) is renewed once.
    if (!(error instanceof ApiError) || error.status !== 403 || !error.code.includes("csrf")) throw error;
    forgetCsrf();
    return attempt(method, path, options);
  }
}

async function attempt(method, path, { query, json, form, body, headers = {}, signal, keepalive }) {
  /** @type {RequestInit & {headers: Record<string, string>}} */
  const init = {
    method,
    signal,
    keepalive,
    credentials: "same-origin",
    headers: { Accept: "application/json", ...headers },
  };
  if (!SAFE.has(method)) init.headers["X-CSRF-Token"] = await csrf(signal);
  if (json !== undefined) {
    init.headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(json);
  } else if (form) init.body = new URLSearchParams(form);
  else if (body) init.body = body;

  const response = await reach(withQuery(path, query), init);
  if (response.status === 401) refusals.dispatchEvent(new Event("unauthorized"));
  if (!response.ok) throw await refusal(response);
  const text = response.status === 204 ? "" : await response.text();
  return {
    data: text ? JSON.parse(text) : null,
    response,
    timing: serverTiming(response.headers.get("Server-Timing")),
  };
}

async function reach(url, init) {
  try {
    return await fetch(url, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached. Check that it is running, then try again.");
  }
}

/**
 * The token lies in a cookie that all tabs share, so that one tab's new token is not another's refusal.
 *
 * @param {AbortSignal} [signal]
 */
async function csrf(signal) {
  const kept = /(?:^|;\s*)(?:__Host-)?lookout_csrf=([^;]+)/.exec(document.cookie)?.[1];
  if (kept && !isCsrfOld) return kept;
  // Calls at the same moment wait for one token: a second would make the first invalid.
  csrfOnItsWay ??= newCsrf().finally(() => {
    csrfOnItsWay = null;
  });
  const token = await csrfOnItsWay;
  signal?.throwIfAborted();
  return token;
}

async function newCsrf() {
  const response = await reach("/csrf", { credentials: "same-origin" });
  if (!response.ok) throw await refusal(response);
  isCsrfOld = false;
  return (await response.json()).csrf_token;
}

/** @param {Response} response */
async function refusal(response) {
  const requestId = response.headers.get("X-Request-ID");
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  let payload = null;
  try {
    payload = await response.json();
  } catch {
    // A proxy in between may answer with a page of its own.
  }
  const about = {
    status: response.status,
    code: payload?.code ?? "",
    requestId: payload?.request_id ?? requestId,
    retryAfter,
  };
  if (Array.isArray(payload?.detail)) {
    const fields = fieldErrors(payload.detail);
    return new ApiError(Object.values(fields).join(" ") || "The input is not valid.", {
      ...about,
      fields,
      code: about.code || "validation",
    });
  }
  return new ApiError(
    payload?.detail ?? `The server answered ${response.status} ${response.statusText}.`,
    about,
  );
}

/**
 * One sentence per field from FastAPI's 422 shape.
 *
 * @param {Array<{loc: Array<string|number>, msg: string}>} detail
 */
function fieldErrors(detail) {
  /** @type {Record<string, string>} */
  const fields = {};
  for (const { loc, msg } of detail) {
    const name = String(loc.at(-1) ?? "");
    const sentence = msg.replace(/^Value error, /, "");
    fields[name] ??= /[.!?]$/.test(sentence) ? sentence : `${sentence}.`;
  }
  return fields;
}

/**
 * A path with its query string.
 *
 * @param {string} path
 * @param {Record<string, any>} [query]
 */
export function withQuery(path, query = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const item of Array.isArray(value) ? value : [value]) {
      if (item !== null && item !== undefined && item !== "") parameters.append(name, String(item));
    }
  }
  const text = parameters.toString();
  return text ? `${path}?${text}` : path;
}

/**
 * `decode;dur=3.1, queue;dur=0.2` as numbers.
 *
 * @param {string|null} header
 * @returns {Record<string, number>}
 */
export function serverTiming(header) {
  /** @type {Record<string, number>} */
  const timing = {};
  for (const part of (header ?? "").split(",")) {
    const match = /^\s*([\w-]+)\s*;.*?dur=([\d.]+)/.exec(part);
    if (match) timing[match[1]] = Number(match[2]);
  }
  return timing;
}

/**
 * Repeat a call that the server put off (429 or 503 with Retry-After), as a batch should.
 *
 * @template T
 * @param {() => Promise<T>} work
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
export async function patiently(work, signal) {
  for (let round = 0; ; round += 1) {
    try {
      return await work();
    } catch (error) {
      const putOff = error instanceof ApiError && (error.status === 429 || error.status === 503);
      if (!putOff || round >= 5) throw error;
      await sleep(Math.min(error.retryAfter ?? 2 ** round, 60) * 1000, signal);
    }
  }
}

/**
 * @param {number} milliseconds
 * @param {AbortSignal} [signal]
 */
export function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("Aborted", "AbortError"));
    });
  });
}

/** @param {unknown} error */
export function isAbort(error) {
  return error instanceof DOMException && error.name === "AbortError";
}
