import assert from "node:assert/strict";
import { test } from "node:test";

import * as geometry from "../../nodes/web/geometry.js";

const { HANDLES, SMALLEST } = geometry;

/** Random boxes and points, the same at every run. */
function* boxes(count, seed = 7) {
  let value = seed;
  const next = () => (value = (value * 48271) % 2147483647) / 2147483647;
  for (let i = 0; i < count; i++) {
    const [left, top] = [next() * 0.9, next() * 0.9];
    yield { box: [left, top, left + 0.02 + next() * (0.98 - left), top + 0.02 + next() * (0.98 - top)], point: { x: next() * 2 - 0.5, y: next() * 2 - 0.5 } };
  }
}
const close = (a, b, within = 2e-4) => assert.ok(Math.abs(a - b) <= within, `${a} is not ${b}`);

test("hits are the boxes under a point, the topmost first", () => {
  const all = [[0, 0, 1, 1], [0.1, 0.1, 0.5, 0.5], [0.4, 0.4, 0.9, 0.9]];
  assert.deepEqual(geometry.hits(all, { x: 0.45, y: 0.45 }), [2, 1, 0]);
  assert.deepEqual(geometry.hits(all, { x: 0.2, y: 0.2 }), [1, 0]);
  assert.deepEqual(geometry.hits(all, { x: 0.95, y: 0.5 }), [0]);
  assert.deepEqual(geometry.hits([], { x: 0.5, y: 0.5 }), []);
});

test("a moved box keeps its size and stays in the picture", () => {
  for (const { box, point } of boxes(500)) {
    const [left, top, right, bottom] = geometry.moved(box, point.x, point.y);
    close(right - left, box[2] - box[0]);
    close(bottom - top, box[3] - box[1]);
    assert.ok(left >= 0 && top >= 0 && right <= 1 && bottom <= 1);
  }
});

test("a resized box moves the handle's edges only, never flips and stays in the picture", () => {
  for (const { box, point } of boxes(500)) {
    for (const handle of HANDLES) {
      const after = geometry.resized(box, handle, point);
      const edges = ["w", "n", "e", "s"];
      edges.forEach((edge, i) => handle.includes(edge) || close(after[i], box[i]));
      assert.ok(after[2] - after[0] >= SMALLEST - 2e-4 && after[3] - after[1] >= SMALLEST - 2e-4, `${handle} ${after}`);
      assert.ok(Math.min(...after) >= 0 && Math.max(...after) <= 1);
    }
  }
});

test("the edges go where the handle goes", () => {
  assert.deepEqual(geometry.resized([0.2, 0.2, 0.6, 0.6], "se", { x: 0.8, y: 0.7 }), [0.2, 0.2, 0.8, 0.7]);
  assert.deepEqual(geometry.resized([0.2, 0.2, 0.6, 0.6], "n", { x: 0.8, y: 0.1 }), [0.2, 0.1, 0.6, 0.6]);
  assert.deepEqual(geometry.resized([0.2, 0.2, 0.6, 0.6], "w", { x: 0.9, y: 0.1 }), [0.59, 0.2, 0.6, 0.6]);
});

test("a box spans two points in any order", () => {
  const expected = [0.1, 0.2, 0.3, 0.4];
  assert.deepEqual(geometry.spanning({ x: 0.3, y: 0.2 }, { x: 0.1, y: 0.4 }), expected);
  assert.deepEqual(geometry.spanning({ x: 0.1, y: 0.4 }, { x: 0.3, y: 0.2 }), expected);
});

test("lines are edges and centres of the picture and of the boxes", () => {
  const lines = geometry.snapLines([[0.1, 0.2, 0.3, 0.6]]);
  assert.deepEqual(lines.x, [0, 0.5, 1, 0.1, 0.2, 0.3]);
  assert.deepEqual(lines.y, [0, 0.5, 1, 0.2, 0.4, 0.6]);
});

test("the nearest line attracts, within the tolerance only", () => {
  assert.deepEqual(geometry.nearest([0.11], [0.1, 0.125], 0.05), { shift: -0.009999999999999995, line: 0.1 });
  assert.equal(geometry.nearest([0.3], [0.1, 0.5], 0.05), null);
});

test("a box snaps by edge or centre, and says to which lines", () => {
  const lines = geometry.snapLines([]);
  const tolerance = { x: 0.02, y: 0.02 };
  const centred = geometry.snapBox([0.39, 0.3, 0.59, 0.4], lines, tolerance);
  assert.deepEqual(centred, { box: [0.4, 0.3, 0.6, 0.4], guides: [{ axis: "x", at: 0.5 }] });
  const corner = geometry.snapBox([0.01, 0.015, 0.2, 0.2], lines, tolerance);
  assert.deepEqual(corner, { box: [0, 0, 0.19, 0.185], guides: [{ axis: "x", at: 0 }, { axis: "y", at: 0 }] });
  assert.deepEqual(geometry.snapBox([0.1, 0.1, 0.3, 0.3], lines, tolerance).guides, []);
});

test("a point snaps on each axis by itself", () => {
  const { point, guides } = geometry.snapPoint({ x: 0.49, y: 0.3 }, geometry.snapLines([]), { x: 0.02, y: 0.02 });
  assert.deepEqual(point, { x: 0.5, y: 0.3 });
  assert.deepEqual(guides, [{ axis: "x", at: 0.5 }]);
});
