// @ts-check

/**
 * Boxes and points in shares of the picture: 0 to 1, origin at the top left.
 *
 * A box is [left, top, right, bottom], a point {x, y}. Nothing here changes what it is given.
 *
 * @typedef {[left: number, top: number, right: number, bottom: number]} Box
 * @typedef {{ x: number, y: number }} Point
 * @typedef {{ x: number[], y: number[] }} Lines where edges may snap to, on each axis
 * @typedef {{ shift: number, line: number }} Snap
 * @typedef {{ axis: "x" | "y", at: number }} Guide
 */

export const SMALLEST = 0.01; // of the picture, for boxes that are drawn or resized
export const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];

/** @type {(value: number, low: number, high: number) => number} */
export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
/** @type {(value: number) => number} */
export const round = (value) => Math.round(value * 1e4) / 1e4;
/** @type {(point: Point) => Point} */
export const inside = ({ x, y }) => ({ x: clamp(x, 0, 1), y: clamp(y, 0, 1) });

/** @type {(box: Box) => Box} */
export const rounded = (box) => /** @type {Box} */ (box.map(round));

/**
 * @param {Box} box
 * @param {Point} point
 */
export function contains([left, top, right, bottom], { x, y }) {
  return left <= x && x <= right && top <= y && y <= bottom;
}

/**
 * Indices of the boxes under a point, the topmost (last) first.
 *
 * @param {Box[]} boxes
 * @param {Point} point
 */
export function hits(boxes, point) {
  const found = boxes.flatMap((box, index) => (contains(box, point) ? [index] : []));
  return found.reverse();
}

/**
 * Whether a box covers the whole picture, so that it cannot be moved.
 *
 * @param {Box} box
 */
export function fills([left, top, right, bottom]) {
  return left <= 0 && top <= 0 && right >= 1 && bottom >= 1;
}

/**
 * @param {Point} a
 * @param {Point} b
 * @returns {Box}
 */
export function spanning(a, b) {
  return [Math.min(a.x, b.x), Math.min(a.y, b.y), Math.max(a.x, b.x), Math.max(a.y, b.y)];
}

/**
 * A box moved as a whole, as far as the picture allows.
 *
 * @param {Box} box
 * @param {number} dx
 * @param {number} dy
 */
export function moved([left, top, right, bottom], dx, dy) {
  const x = clamp(dx, -left, 1 - right);
  const y = clamp(dy, -top, 1 - bottom);
  return rounded([left + x, top + y, right + x, bottom + y]);
}

/**
 * A box whose edges named by the handle ("n", "se", ...) go to a point; it neither flips nor vanishes.
 *
 * @param {Box} box
 * @param {string} handle
 * @param {Point} point
 */
export function resized([left, top, right, bottom], handle, { x, y }) {
  return rounded([
    handle.includes("w") ? clamp(x, 0, Math.max(right - SMALLEST, 0)) : left,
    handle.includes("n") ? clamp(y, 0, Math.max(bottom - SMALLEST, 0)) : top,
    handle.includes("e") ? clamp(x, Math.min(left + SMALLEST, 1), 1) : right,
    handle.includes("s") ? clamp(y, Math.min(top + SMALLEST, 1), 1) : bottom,
  ]);
}

/**
 * Where edges may snap to: edges and centre lines of the picture and of the given boxes.
 *
 * @param {Box[]} boxes
 * @returns {Lines}
 */
export function snapLines(boxes) {
  /** @type {(low: 0 | 1, high: 2 | 3) => number[]} */
  const along = (low, high) => [0, 0.5, 1, ...boxes.flatMap((box) => [box[low], (box[low] + box[high]) / 2, box[high]])];
  return { x: along(0, 2), y: along(1, 3) };
}

/**
 * The least shift that brings one of the values to one of the lines: {shift, line}, or null beyond the tolerance.
 *
 * @param {number[]} values
 * @param {number[]} lines
 * @param {number} tolerance
 * @returns {Snap | null}
 */
export function nearest(values, lines, tolerance) {
  /** @type {Snap | null} */
  let best = null;
  for (const value of values) {
    for (const line of lines) {
      const shift = line - value;
      if (Math.abs(shift) <= tolerance && (!best || Math.abs(shift) < Math.abs(best.shift))) best = { shift, line };
    }
  }
  return best;
}

/**
 * A box shifted so that an edge or its centre meets a line: {box, guides: [{axis, at}]}.
 *
 * @param {Box} box
 * @param {Lines} lines
 * @param {Point} tolerance
 */
export function snapBox([left, top, right, bottom], lines, tolerance) {
  const x = nearest([left, (left + right) / 2, right], lines.x, tolerance.x);
  const y = nearest([top, (top + bottom) / 2, bottom], lines.y, tolerance.y);
  return { box: moved([left, top, right, bottom], x?.shift ?? 0, y?.shift ?? 0), guides: guides(x, y) };
}

/**
 * A point shifted on to the nearest lines: {point, guides: [{axis, at}]}.
 *
 * @param {Point} point
 * @param {Lines} lines
 * @param {Point} tolerance
 */
export function snapPoint(point, lines, tolerance) {
  const x = nearest([point.x], lines.x, tolerance.x);
  const y = nearest([point.y], lines.y, tolerance.y);
  return { point: { x: x?.line ?? point.x, y: y?.line ?? point.y }, guides: guides(x, y) };
}

/**
 * @param {Snap | null} x
 * @param {Snap | null} y
 * @returns {Guide[]}
 */
function guides(x, y) {
  /** @type {Guide[]} */
  const along = x ? [{ axis: "x", at: x.line }] : [];
  return y ? [...along, { axis: "y", at: y.line }] : along;
}
