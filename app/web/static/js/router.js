/** Routes in the address's hash (`#/history?label=cat`), so that every view has an address that can be shared. */
import { fill, h } from "./ui/dom.js";
import { errorState } from "./ui/states.js";

/**
 * @typedef {object} Visit
 * @property {Record<string, string>} params parts of the path, such as `id`
 * @property {URLSearchParams} query
 * @property {AbortSignal} signal aborted when the view is left: stop cameras, timers and calls with it
 */

/**
 * @typedef {object} Route
 * @property {string} path with `:name` for a parameter
 * @property {string} title
 * @property {string} nav the entry of the main navigation it belongs to
 * @property {() => Promise<{mount: (root: HTMLElement, visit: Visit) => Promise<void>|void}>} load
 */

/** @type {Route[]} */
let routes = [];
/** @type {AbortController|null} */
let leaving = null;
let first = true;

/**
 * Begin to load the view of the current address, to have it sooner when it is visited.
 *
 * @param {Route[]} table
 */
export function preload(table) {
  routes = table;
  // The visit itself tells of a failure.
  match(parse().path)
    ?.route.load()
    .catch(() => {});
}

/**
 * Start routing.
 *
 * @param {Route[]} table
 * @param {(route: Route) => void} onVisit called before each view is shown
 */
export function start(table, onVisit) {
  routes = table;
  addEventListener("hashchange", () => {
    if (location.hash.startsWith("#/") || location.hash === "") visit(onVisit);
  });
  revisit = () => visit(onVisit);
  visit(onVisit);
}

/** Show the current address again, as after signing in or out. */
export let revisit = () => {};

/**
 * Go to an address of the page.
 *
 * @param {string} hash such as `#/upload`
 */
export function go(hash) {
  if (location.hash === hash) revisit();
  else location.hash = hash;
}

/**
 * Keep a view's choices in its address without visiting it anew; empty values are left out.
 *
 * @param {Record<string, any>} values
 */
export function keepQuery(values) {
  const { path, query } = parse();
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === undefined || value === "" || (Array.isArray(value) && !value.length))
      query.delete(name);
    else query.set(name, Array.isArray(value) ? value.join(",") : String(value));
  }
  const text = query.toString();
  history.replaceState(null, "", `#${path}${text ? `?${text}` : ""}`);
}

function parse() {
  const [path, text = ""] = (location.hash.startsWith("#/") ? location.hash.slice(1) : "/").split("?");
  return { path, query: new URLSearchParams(text) };
}

function match(path) {
  for (const route of routes) {
    const names = [];
    const pattern = route.path.replace(/:(\w+)/g, (_, name) => {
      names.push(name);
      return "([^/]+)";
    });
    const found = new RegExp(`^${pattern}$`).exec(path);
    if (found)
      return {
        route,
        params: Object.fromEntries(names.map((name, at) => [name, decoded(found[at + 1])])),
      };
  }
  return null;
}

/** What a mistyped address has in it may not be decodable: then it is taken as it stands. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

async function visit(onVisit) {
  leaving?.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const { path, query } = parse();
  const main = /** @type {HTMLElement} */ (document.getElementById("main"));
  const found = match(path);
  if (!found) {
    fill(
      main,
      h(
        "div.state",
        {},
        h("h1", { tabindex: -1 }, "No such page"),
        h("p", {}, "The address may be old or mistyped."),
        h("a.btn", { href: "#/" }, "To the start page"),
      ),
    );
    return;
  }
  document.title = `${found.route.title} · Lookout`;
  onVisit(found.route);
  const root = h("div.view");
  try {
    const view = await found.route.load();
    if (signal.aborted) return;
    fill(main, root);
    await view.mount(root, { params: found.params, query, signal });
  } catch (error) {
    if (signal.aborted) return;
    fill(root, h("h1", { tabindex: -1 }, found.route.title), errorState(error, revisit));
    fill(main, root);
  }
  if (!signal.aborted && !first) {
    scrollTo(0, 0);
    /** @type {HTMLElement|null} */ (root.querySelector("h1"))?.focus({ preventScroll: true });
  }
  first = false;
}
