/** A colour per label that stays the same wherever the label is drawn. */

/** @typedef {{fill: string, text: string}} LabelColor */

/** @type {Map<string, LabelColor>} */
const known = new Map();
const GOLDEN_ANGLE = 137.508;

/**
 * Give labels their colours by their place in the model's list: neighbours in the list get far hues, and no two of a
 * small model look alike, which hashing names alone cannot promise.
 *
 * @param {string[]} labels
 */
export function setLabelOrder(labels) {
  known.clear();
  labels.forEach((label, at) => known.set(label, make(at)));
}

/**
 * @param {string} label
 * @returns {LabelColor} CSS colours: of the box, and of text on it
 */
export function colorOf(label) {
  let color = known.get(label);
  if (!color) {
    color = make(hash(label) % 360);
    known.set(label, color);
  }
  return color;
}

function make(at) {
  const rgb = fromHsl((25 + at * GOLDEN_ANGLE) % 360, 0.88, [0.62, 0.52, 0.72][at % 3]);
  const luminance = relativeLuminance(rgb);
  const dark = (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05);
  return { fill: `rgb(${rgb.join(" ")})`, text: dark ? "#000" : "#fff" };
}

function hash(text) {
  let value = 2166136261;
  for (let at = 0; at < text.length; at += 1) value = Math.imul(value ^ text.charCodeAt(at), 16777619);
  return value >>> 0;
}

/** Formula of CSS Color 4, section 7.1. */
function fromHsl(hue, saturation, lightness) {
  const part = (n) => {
    const k = (n + hue / 30) % 12;
    return (
      lightness - saturation * Math.min(lightness, 1 - lightness) * Math.max(-1, Math.min(k - 3, 9 - k, 1))
    );
  };
  return [part(0), part(8), part(4)].map((value) => Math.round(value * 255));
}

/** WCAG 2.2, definition of relative luminance. */
function relativeLuminance(rgb) {
  const [red, green, blue] = rgb.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
