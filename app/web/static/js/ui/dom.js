/** Building DOM without a framework: text is always a text node, so nothing a server or a user wrote becomes markup. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Create an element: `h("button.btn.btn-small", { type: "button", onclick }, "Save")`.
 *
 * Attributes: functions named `on…` become listeners; `style` is an object set through the CSSOM (the page's
 * Content-Security-Policy forbids style attributes); `value`, `checked` and `srcObject` are set as properties;
 * true and false set and leave out a boolean attribute; null and undefined are left out.
 *
 * @param {string} selector tag name with optional classes
 * @param {Record<string, any>} [attributes]
 * @param {...any} children nodes, strings, numbers or (nested) lists of them; null and false are left out
 * @returns {any} the element
 */
export function h(selector, attributes = {}, ...children) {
  const [tag, ...classes] = selector.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  apply(element, attributes);
  element.append(...flatten(children));
  return element;
}

/**
 * Create an SVG element with attributes and children.
 *
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...any} children
 * @returns {any}
 */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  apply(element, attributes);
  element.append(...flatten(children));
  return element;
}

/**
 * Replace everything in `parent` with `children`.
 *
 * @param {Element} parent
 * @param {...any} children
 */
export function fill(parent, ...children) {
  parent.replaceChildren(...flatten(children));
}

let lastId = 0;

/**
 * An id that no other element of the page has, for labels and descriptions.
 *
 * @param {string} prefix
 */
export function uid(prefix) {
  lastId += 1;
  return `${prefix}-${lastId}`;
}

function apply(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on") && typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "value" || name === "checked" || name === "srcObject" || name === "indeterminate") {
      element[name] = value;
    } else if (name === "class")
      element.setAttribute("class", [element.getAttribute("class"), value].filter(Boolean).join(" "));
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

function flatten(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}
