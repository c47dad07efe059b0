/**
 * Boxes and points in shares of the picture: 0 to 1, origin at the top left.
 *
 * A box is [left, top, right, bottom], a point {x, y}. Nothing here changes what it is given.
 */

export const SMALLEST = 0.01; // of the picture, for boxes that are drawn or resized
export const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
export const round = (value) => Math.round(value * 1e4) / 1e4;
export const inside = ({ x, y }) => ({ x: clamp(x, 0, 1), y: clamp(y, 0, 1) });

export function contains([left, top, right, bottom], { x, y }) {
  return left <= x && x <= right && top <= y && y <= bottom;
}

/** Indices of the boxes under a point, the topmost (last) first. */
export function hits(boxes, point) {
  const found = boxes.flatMap((box, index) => (contains(box, point) ? [index] : []));
  return found.reverse();
}

/** Whether a box covers the whole picture, so that it cannot be moved. */
export function fills([left, top, right, bottom]) {
  return left <= 0 && top <= 0 && right >= 1 && bottom >= 1;
}

export function spanning(a, b) {
  return [Math.min(a.x, b.x), Math.min(a.y, b.y), Math.max(a.x, b.x), Math.max(a.y, b.y)];
}

/** A box moved as a whole, as far as the picture allows. */
export function moved([left, top, right, bottom], dx, dy) {
  const x = clamp(dx, -left, 1 - right);
  const y = clamp(dy, -top, 1 - bottom);
  return [left + x, top + y, right + x, bottom + y].map(round);
}

/** A box whose edges named by the handle ("n", "se", ...) go to a point; it neither flips nor vanishes. */
export function resized([left, top, right, bottom], handle, { x, y }) {
  return [
    handle.includes("w") ? clamp(x, 0, Math.max(right - SMALLEST, 0)) : left,
    handle.includes("n") ? clamp(y, 0, Math.max(bottom - SMALLEST, 0)) : top,
    handle.includes("e") ? clamp(x, Math.min(left + SMALLEST, 1), 1) : right,
    handle.includes("s") ? clamp(y, Math.min(top + SMALLEST, 1), 1) : bottom,
  ].map(round);
}

/** Where edges may snap to: edges and centre lines of the picture and of the given boxes. */
export function snapLines(boxes) {
  const along = (low, high) => [0, 0.5, 1, ...boxes.flatMap((box) => [box[low], (box[low] + box[high]) / 2, box[high]])];
  return { x: along(0, 2), y: along(1, 3) };
}

/** The least shift that brings one of the values to one of the lines: {shift, line}, or null beyond the tolerance. */
export function nearest(values, lines, tolerance) {
  let best = null;
  for (const value of values) {
    for (const line of lines) {
      const shift = line - value;
      if (Math.abs(shift) <= tolerance && (!best || Math.abs(shift) < Math.abs(best.shift))) best = { shift, line };
    }
  }
  return best;
}

/** A box shifted so that an edge or its centre meets a line: {box, guides: [{axis, at}]}. */
export function snapBox([left, top, right, bottom], lines, tolerance) {
  const x = nearest([left, (left + right) / 2, right], lines.x, tolerance.x);
  const y = nearest([top, (top + bottom) / 2, bottom], lines.y, tolerance.y);
  return { box: moved([left, top, right, bottom], x?.shift ?? 0, y?.shift ?? 0), guides: guides(x, y) };
}

/** A point shifted on to the nearest lines: {point, guides: [{axis, at}]}. */
export function snapPoint(point, lines, tolerance) {
  const x = nearest([point.x], lines.x, tolerance.x);
  const y = nearest([point.y], lines.y, tolerance.y);
  return { point: { x: x?.line ?? point.x, y: y?.line ?? point.y }, guides: guides(x, y) };
}

function guides(x, y) {
  return [...(x ? [{ axis: "x", at: x.line }] : []), ...(y ? [{ axis: "y", at: y.line }] : [])];
}
