/** Boxes on a canvas, readable on any background. */
import { colorOf } from "./colors.js";

/** @typedef {{box: [number, number, number, number], label: string, score: number}} Detection */

/**
 * Draw detections.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {Detection[]} objects boxes in pixels of the picture that the detector saw
 * @param {{scaleX: number, scaleY: number, width: number, height: number, unit?: number}} place scale from those pixels
 *        to units of the canvas, its size in them, and the size of one unit of line (1 on a screen)
 */
export function drawDetections(context, objects, { scaleX, scaleY, width, height, unit = 1 }) {
  context.save();
  context.font = `600 ${13 * unit}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.lineJoin = "round";
  // Best last, so that it lies on top.
  for (const { box, label, score } of [...objects].reverse()) {
    const [x, y, right, bottom] = [box[0] * scaleX, box[1] * scaleY, box[2] * scaleX, box[3] * scaleY];
    const { fill, text } = colorOf(label);
    // A dark rim keeps a bright line visible on a bright picture.
    context.strokeStyle = "rgb(0 0 0 / 65%)";
    context.lineWidth = 4.5 * unit;
    context.strokeRect(x, y, right - x, bottom - y);
    context.strokeStyle = fill;
    context.lineWidth = 2.5 * unit;
    context.strokeRect(x, y, right - x, bottom - y);

    const words = `${label} ${Math.round(score * 100)}%`;
    const tagHeight = 20 * unit;
    const tagWidth = context.measureText(words).width + 10 * unit;
    const tagX = Math.max(0, Math.min(x - unit, width - tagWidth));
    const above = y - tagHeight;
    const tagY = above >= 0 ? above : Math.min(y, height - tagHeight);
    context.fillStyle = "rgb(0 0 0 / 65%)";
    context.fillRect(tagX - unit, tagY - unit, tagWidth + 2 * unit, tagHeight + 2 * unit);
    context.fillStyle = fill;
    context.fillRect(tagX, tagY, tagWidth, tagHeight);
    context.fillStyle = text;
    context.fillText(words, tagX + 5 * unit, tagY + tagHeight / 2 + unit);
  }
  context.restore();
}

/**
 * A picture with its boxes, in the picture's own size.
 *
 * @param {CanvasImageSource} picture
 * @param {{width: number, height: number}} size of the picture
 * @param {Detection[]} objects
 * @param {{width: number, height: number}} [seen] size of the picture as the detector saw it, when it differs
 * @returns {Promise<Blob>} PNG
 */
export function annotated(picture, size, objects, seen = size) {
  const canvas = document.createElement("canvas");
  canvas.width = size.width;
  canvas.height = size.height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.drawImage(picture, 0, 0, size.width, size.height);
  const unit = Math.max(1, Math.max(size.width, size.height) / 1000);
  drawDetections(context, objects, {
    scaleX: size.width / seen.width,
    scaleY: size.height / seen.height,
    width: size.width,
    height: size.height,
    unit,
  });
  return new Promise((resolve, reject) => {
    canvas.toBlob(
      (blob) => (blob ? resolve(blob) : reject(new Error("The picture could not be written."))),
      "image/png",
    );
  });
}

/**
 * The detections that the page's choices leave.
 *
 * @param {Detection[]} objects
 * @param {{threshold: number, labels: string[]}} choice no labels means all
 */
export function chosen(objects, { threshold, labels }) {
  return objects.filter(
    ({ label, score }) => score >= threshold && (labels.length === 0 || labels.includes(label)),
  );
}

/**
 * How many of each label, most first.
 *
 * @param {Detection[]} objects
 * @returns {Array<[string, number]>}
 */
export function countByLabel(objects) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const { label } of objects) counts.set(label, (counts.get(label) ?? 0) + 1);
  return [...counts].sort((one, other) => other[1] - one[1] || one[0].localeCompare(other[0]));
}
