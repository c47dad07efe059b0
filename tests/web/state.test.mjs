import assert from "node:assert/strict";
import { test } from "node:test";

import * as deeds from "../../nodes/web/state.js";
import { MOST_OBJECTS, parse, serialise } from "../../nodes/web/text.js";

const TOLERANCE = { x: 0.02, y: 0.02 };
const FREE = { tolerance: TOLERANCE, snap: false };
const cube = { phrase: "a red cube", box: [0.1, 0.1, 0.4, 0.4] };
const ball = { phrase: "a blue ball", box: [0.6, 0.6, 0.9, 0.9], tokens: [6, 7] };
const two = () => deeds.open([cube, ball]);

/** A state after a list of deeds: [deed, details]. */
const after = (state, ...list) => list.reduce((now, [deed, details = {}]) => deed(now, details), state);
const dragged = (state, from, to, options = {}) =>
  after(state, [deeds.press, { at: from, ...options }], [deeds.drag, { at: to, ...FREE, ...options }], [deeds.release]);
const boxes = ({ objects }) => objects.map(({ box }) => box);
const chosen = (index) => deeds.select(two(), { index });

test("drawing on empty ground adds a selected object without a phrase", () => {
  const state = dragged(two(), { x: 0.5, y: 0.1 }, { x: 0.7, y: 0.3 });
  assert.deepEqual(state.objects[2], { phrase: "", box: [0.5, 0.1, 0.7, 0.3] });
  assert.equal(state.selected, 2);
  assert.equal(state.past.length, 1);
});

test("drawing goes in any direction and stops at the picture's edge", () => {
  assert.deepEqual(dragged(two(), { x: 0.7, y: 0.3 }, { x: 0.5, y: -0.4 }).objects[2].box, [0.5, 0, 0.7, 0.3]);
});

test("a click, a tiny drag and a cancelled drag draw nothing", () => {
  for (const to of [{ x: 0.5, y: 0.1 }, { x: 0.505, y: 0.105 }, { x: 0.8, y: 0.105 }]) {
    const state = dragged(two(), { x: 0.5, y: 0.1 }, to);
    assert.deepEqual(state.objects, two().objects);
    assert.equal(state.past.length, 0);
  }
  const state = after(two(), [deeds.press, { at: { x: 0.5, y: 0.1 } }], [deeds.drag, { at: { x: 0.9, y: 0.5 }, ...FREE }], [deeds.cancel]);
  assert.deepEqual(state, two());
});

test("dragging an object selects and moves it; holding the key draws over it", () => {
  const state = dragged(two(), { x: 0.2, y: 0.2 }, { x: 0.3, y: 0.25 });
  assert.deepEqual(state.objects[0].box, [0.2, 0.15, 0.5, 0.45]);
  assert.equal(state.selected, 0);
  assert.equal(dragged(two(), { x: 0.2, y: 0.2 }, { x: 0.3, y: 0.3 }, { draw: true }).objects.length, 3);
});

test("the selected object is dragged although another lies above it", () => {
  const under = deeds.select(deeds.open([{ ...cube, box: [0, 0, 0.5, 0.5] }, cube]), { index: 0 });
  const state = dragged(under, { x: 0.2, y: 0.2 }, { x: 0.3, y: 0.2 });
  assert.deepEqual(boxes(state), [[0.1, 0, 0.6, 0.5], cube.box]);
});

test("an object that fills the picture is drawn over", () => {
  const meadow = deeds.open([{ phrase: "a meadow", box: [0, 0, 1, 1] }]);
  const state = dragged(meadow, { x: 0.2, y: 0.2 }, { x: 0.5, y: 0.5 });
  assert.deepEqual(boxes(state), [[0, 0, 1, 1], [0.2, 0.2, 0.5, 0.5]]);
});

test("dragging a copy leaves the original and its words", () => {
  const state = dragged(two(), { x: 0.7, y: 0.7 }, { x: 0.7, y: 0.3 }, { copy: true });
  assert.deepEqual(state.objects, [cube, ball, { ...ball, box: [0.6, 0.2, 0.9, 0.5] }]);
  assert.equal(state.selected, 2);
  assert.deepEqual(deeds.release(deeds.press(two(), { at: { x: 0.7, y: 0.7 }, copy: true })).objects, two().objects);
});

test("a handle resizes the selected object", () => {
  const state = dragged(chosen(0), { x: 0.4, y: 0.4 }, { x: 0.5, y: 0.6 }, { handle: "se" });
  assert.deepEqual(state.objects[0].box, [0.1, 0.1, 0.5, 0.6]);
});

test("drags snap and show where; a resize shows the lines of its own edges only", () => {
  const snapped = { at: { x: 0.69, y: 0.25 }, tolerance: TOLERANCE };
  const moving = after(two(), [deeds.press, { at: { x: 0.2, y: 0.25 } }], [deeds.drag, snapped]);
  assert.deepEqual(moving.objects[0].box, [0.6, 0.1, 0.9, 0.4]);
  assert.deepEqual(moving.guides, [{ axis: "x", at: 0.6 }]);
  assert.deepEqual(deeds.release(moving).guides, []);
  const free = after(two(), [deeds.press, { at: { x: 0.2, y: 0.25 } }], [deeds.drag, { ...snapped, snap: false }]);
  assert.deepEqual(free.objects[0].box, [0.59, 0.1, 0.89, 0.4]);
  const resizing = after(chosen(0), [deeds.press, { at: { x: 0.4, y: 0.2 }, handle: "e" }], [deeds.drag, { at: { x: 0.51, y: 0.49 }, tolerance: TOLERANCE }]);
  assert.deepEqual(resizing.objects[0].box, [0.1, 0.1, 0.5, 0.4]);
  assert.deepEqual(resizing.guides, [{ axis: "x", at: 0.5 }]);
});

test("an object does not snap to itself", () => {
  const state = after(two(), [deeds.press, { at: { x: 0.2, y: 0.2 } }], [deeds.drag, { at: { x: 0.215, y: 0.2 }, tolerance: TOLERANCE }]);
  assert.deepEqual(state.objects[0].box, [0.115, 0.1, 0.415, 0.4]);
});

test("clicks at one place go down through the objects there", () => {
  const all = [0, 1, 2].map((n) => ({ phrase: `${n}`, box: [n / 10, n / 10, 0.8, 0.8] }));
  let state = deeds.open(all);
  const seen = [];
  for (let i = 0; i < 4; i++) {
    state = deeds.click(state, { at: { x: 0.5, y: 0.5 }, before: state.selected });
    seen.push(state.selected);
  }
  assert.deepEqual(seen, [2, 1, 0, 2]);
  assert.equal(deeds.click(state, { at: { x: 0.95, y: 0.5 }, before: 2 }).selected, -1);
  assert.equal(deeds.choose(state, { at: { x: 0.5, y: 0.5 }, before: 1 }).selected, 1);
  assert.equal(deeds.choose(state, { at: { x: 0.5, y: 0.5 }, before: -1 }).selected, 2);
});

test("stepping goes through all objects and out at both ends", () => {
  let state = two();
  const forward = [1, 1, 1].map((by) => (state = deeds.step(state, { by })).selected);
  assert.deepEqual(forward, [0, 1, -1]);
  const back = [-1, -1, -1].map((by) => (state = deeds.step(state, { by })).selected);
  assert.deepEqual(back, [1, 0, -1]);
  assert.equal(deeds.step(deeds.open([]), { by: 1 }).selected, -1);
});

test("new words drop the old words' token positions", () => {
  const state = deeds.rename(chosen(1), { index: 1, phrase: "a ball" });
  assert.deepEqual(state.objects[1], { phrase: "a ball", box: ball.box });
  assert.equal(deeds.rename(two(), { index: 1, phrase: ball.phrase }).past.length, 0);
  assert.deepEqual(deeds.undo(state).objects, [cube, ball]);
});

test("typing is one step back, for each object", () => {
  const type = (state, index, ...words) => after(state, ...words.map((phrase) => [deeds.rename, { index, phrase }]));
  let state = type(two(), 0, "a", "a c", "a cat");
  state = type(state, 1, "a d", "a dog");
  assert.equal(state.past.length, 2);
  assert.equal(deeds.undo(state).objects[1].phrase, ball.phrase);
  assert.deepEqual(after(state, [deeds.undo], [deeds.undo]).objects, [cube, ball]);
});

test("nudging moves, stretching resizes, and a run of either is one step", () => {
  const state = after(chosen(0), [deeds.nudge, { dx: 0.01, dy: 0 }], [deeds.nudge, { dx: 0.01, dy: -0.1 }], [deeds.stretch, { dx: 0.1, dy: 0 }]);
  assert.deepEqual(state.objects[0].box, [0.12, 0, 0.52, 0.3]);
  assert.equal(state.past.length, 2);
  assert.deepEqual(deeds.nudge(two(), { dx: 0.1, dy: 0 }), two());
});

test("duplicates stand beside the original, in the picture", () => {
  const state = deeds.duplicate(chosen(0));
  assert.deepEqual(boxes(state), [cube.box, [0.13, 0.13, 0.43, 0.43], ball.box]);
  assert.equal(state.selected, 1);
  const corner = deeds.select(deeds.open([{ phrase: "", box: [0.5, 0.5, 1, 1] }]), { index: 0 });
  assert.deepEqual(deeds.duplicate(corner).objects[1].box, [0.47, 0.47, 0.97, 0.97]);
});

test("deleting selects the next object", () => {
  const state = deeds.remove(chosen(0));
  assert.deepEqual([state.objects, state.selected], [[ball], 0]);
  assert.equal(deeds.remove(state).selected, -1);
  assert.deepEqual(deeds.remove(two()), two());
});

test("reordering keeps the selection on its object and stops at the ends", () => {
  const state = deeds.reorder(chosen(0), { by: 1 });
  assert.deepEqual([state.objects, state.selected], [[ball, cube], 1]);
  assert.deepEqual(deeds.reorder(state, { by: 1 }).objects, [ball, cube]);
  assert.deepEqual(deeds.reorder(two(), { by: -1 }), two());
});

test("undo and redo go through every step; a new change forgets what was undone", () => {
  const steps = [[deeds.add], [deeds.nudge, { dx: 0.1, dy: 0 }], [deeds.duplicate], [deeds.remove]];
  const states = [two()];
  for (const step of steps) states.push(after(states.at(-1), step));
  let state = states.at(-1);
  for (const earlier of states.slice(0, -1).reverse()) assert.deepEqual((state = deeds.undo(state)).objects, earlier.objects);
  assert.equal(deeds.undo(state), state);
  for (const later of states.slice(1)) assert.deepEqual((state = deeds.redo(state)).objects, later.objects);
  assert.equal(deeds.redo(state), state);
  assert.deepEqual(after(state, [deeds.undo], [deeds.add]).future, []);
});

test("after a drag, undo brings back what was before it", () => {
  const state = dragged(two(), { x: 0.2, y: 0.2 }, { x: 0.3, y: 0.3 });
  assert.deepEqual(deeds.undo(state).objects, two().objects);
});

test("objects from outside are a step; the same ones are none", () => {
  const state = deeds.replace(chosen(1), { objects: [ball] });
  assert.deepEqual([state.objects, state.selected], [[ball], -1]);
  assert.deepEqual(deeds.undo(state).objects, [cube, ball]);
  assert.equal(deeds.replace(two(), { objects: [{ ...cube }, { ...ball }] }).past.length, 0);
});

test("there are never more objects than a layout may have", () => {
  const full = deeds.select(deeds.open(Array(MOST_OBJECTS).fill(cube)), { index: 0 });
  for (const deed of [deeds.add, deeds.duplicate]) assert.equal(deed(full).objects.length, MOST_OBJECTS);
  for (const options of [{ draw: true }, { copy: true }]) {
    assert.equal(dragged(full, { x: 0.2, y: 0.2 }, { x: 0.5, y: 0.5 }, options).objects.length, MOST_OBJECTS);
  }
});

test("any run of deeds leaves objects that can be written, read and undone", () => {
  let value = 11;
  const next = () => (value = (value * 48271) % 2147483647) / 2147483647;
  const point = () => ({ x: next() * 1.2 - 0.1, y: next() * 1.2 - 0.1 });
  const handles = [null, null, "nw", "e", "s"];
  let state = two();
  for (let i = 0; i < 3000; i++) {
    const { selected } = state;
    const handle = selected < 0 ? null : handles[Math.floor(next() * handles.length)];
    const moves = [
      () => dragged(state, point(), point(), { handle, draw: next() < 0.2, copy: next() < 0.1, snap: next() < 0.5 }),
      () => deeds.click(state, { at: point(), before: selected }),
      () => deeds.nudge(state, { dx: next() - 0.5, dy: next() - 0.5 }),
      () => deeds.stretch(state, { dx: next() - 0.5, dy: next() - 0.5 }),
      () => [deeds.duplicate, deeds.remove, deeds.undo, deeds.redo, deeds.add][Math.floor(next() * 5)](state),
      () => deeds.reorder(state, { by: next() < 0.5 ? 1 : -1 }),
    ];
    state = moves[Math.floor(next() * moves.length)]();
    assert.deepEqual(parse(serialise(state.objects)), state.objects);
    assert.ok(state.selected >= -1 && state.selected < state.objects.length && state.gesture === null);
  }
  while (state.past.length) state = deeds.undo(state);
  while (state.future.length) state = deeds.redo(state);
  assert.deepEqual(parse(serialise(state.objects)), state.objects);
});
