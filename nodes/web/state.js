/**
 * What the editor knows and how each deed changes it: pure functions (state, details) -> state.
 *
 * objects   [{phrase, box, tokens?}], drawn in this order; selected: an index, or -1
 * gesture   what the pointer is doing between press and release, or null: the object at `index` of
 *           `base` is drawn, moved or resized; `origin` is what a cancelled gesture goes back to
 * guides    lines that the gesture has snapped to
 * past, future   earlier and undone lists of objects; mark: what the last change may be merged with
 */

import { SMALLEST, fills, hits, inside, moved, resized, round, snapBox, snapLines, snapPoint, spanning } from "./geometry.js";
import { MOST_OBJECTS } from "./text.js";

const MOST_STEPS = 200;
const COPY_SHIFT = 0.03;

/** A state to start from, without a history. */
export function open(objects) {
  return { objects, selected: -1, gesture: null, guides: [], past: [], future: [], mark: null };
}

/** Objects from outside (the text was edited): a step that can be undone. */
export function replace(state, { objects }) {
  const selected = state.selected < objects.length ? state.selected : -1;
  return commit({ ...state, gesture: null, guides: [] }, objects, selected, "replace");
}

export function select(state, { index }) {
  return { ...state, selected: index, mark: null };
}

/** Select the next (1) or previous (-1) object; nothing beyond the last and the first. */
export function step(state, { by }) {
  const from = state.selected < 0 && by < 0 ? state.objects.length : state.selected;
  const index = from + by;
  return select(state, { index: index < state.objects.length ? Math.max(index, -1) : -1 });
}

/**
 * The pointer goes down at a point: on a handle to resize, on an object to move it, elsewhere to draw.
 * `draw` draws over objects, too; `copy` moves a copy. An object that fills the picture is drawn over.
 */
export function press(state, { at, handle = null, draw = false, copy = false }) {
  const { objects, selected } = state;
  if (handle) return begin(state, "resize", at, objects, selected, handle);
  const target = pick(objects, at, selected);
  const added = draw || target < 0 || fills(objects[target].box) || copy;
  if (added && objects.length >= MOST_OBJECTS) return state;
  if (!added) return begin(select(state, { index: target }), "move", at, objects, target);
  if (copy && target >= 0) return begin(state, "move", at, [...objects, objects[target]], objects.length);
  return begin(state, "draw", at, [...objects, { phrase: "", box: null }], objects.length);
}

/** The pointer moves on. `tolerance` {x, y}: how near a line attracts; `snap`: whether it does. */
export function drag(state, { at, tolerance, snap = true }) {
  const { gesture } = state;
  if (!gesture) return state;
  const far = Math.abs(at.x - gesture.from.x) > tolerance.x / 2 || Math.abs(at.y - gesture.from.y) > tolerance.y / 2;
  if (!gesture.dragged && !far) return state;
  const others = gesture.base.filter((_, index) => index !== gesture.index);
  const attract = snap ? tolerance : { x: 0, y: 0 };
  const { box, guides } = DRAGS[gesture.kind](gesture, at, snapLines(boxesOf(others)), attract);
  const object = { ...gesture.base[gesture.index], box };
  const objects = withObject(gesture.base, gesture.index, object);
  return { ...state, objects, guides, selected: gesture.index, gesture: { ...gesture, dragged: true } };
}

/** The pointer goes up: the change stands. Without a drag nothing has changed. */
export function release(state) {
  const { gesture, objects, selected } = state;
  if (!gesture?.dragged) return { ...state, gesture: null };
  const [left, top, right, bottom] = objects[selected].box;
  if (gesture.kind === "draw" && Math.min(right - left, bottom - top) < SMALLEST) return cancel(state);
  const { objects: before } = gesture.origin;
  return commit({ ...state, objects: before, gesture: null, guides: [] }, objects, selected);
}

export function cancel(state) {
  if (!state.gesture) return state;
  return { ...state, ...state.gesture.origin, gesture: null, guides: [] };
}

/** A click selects what lies there; where the object selected before is clicked again, the one below it. */
export function click(state, { at, before }) {
  const under = hits(boxesOf(state.objects), at);
  const next = under[(under.indexOf(before) + 1) % under.length];
  return select(state, { index: next ?? -1 });
}

/** Select what a double click means: the object selected before it if it lies there, else the topmost. */
export function choose(state, { at, before }) {
  return select(state, { index: pick(state.objects, at, before) });
}

/** New words for an object; token positions belong to the old words and go. */
export function rename(state, { index, phrase }) {
  if (!state.objects[index] || state.objects[index].phrase === phrase) return state;
  const { tokens: _, ...object } = state.objects[index];
  return commit(state, withObject(state.objects, index, { ...object, phrase }), state.selected, `rename ${index}`);
}

export function nudge(state, { dx, dy }) {
  return reshape(state, "nudge", (box) => moved(box, dx, dy));
}

/** Move the right and bottom edges. */
export function stretch(state, { dx, dy }) {
  return reshape(state, "stretch", (box) => resized(box, "se", { x: box[2] + dx, y: box[3] + dy }));
}

/** A new object without a phrase in the middle. */
export function add(state) {
  if (state.objects.length >= MOST_OBJECTS) return state;
  return commit(state, [...state.objects, { phrase: "", box: [0.35, 0.35, 0.65, 0.65] }], state.objects.length);
}

export function duplicate(state) {
  const object = state.objects[state.selected];
  if (!object || state.objects.length >= MOST_OBJECTS) return state;
  const shifted = moved(object.box, COPY_SHIFT, COPY_SHIFT);
  const box = same(shifted, object.box) ? moved(object.box, -COPY_SHIFT, -COPY_SHIFT) : shifted;
  const at = state.selected + 1;
  return commit(state, [...state.objects.slice(0, at), { ...object, box }, ...state.objects.slice(at)], at);
}

export function remove(state) {
  if (!state.objects[state.selected]) return state;
  const objects = state.objects.filter((_, index) => index !== state.selected);
  return commit(state, objects, Math.min(state.selected, objects.length - 1));
}

/** Bring the selected object forward (1: later, on top) or backward (-1). */
export function reorder(state, { by }) {
  const { objects, selected } = state;
  const to = selected + by;
  if (!objects[selected] || !objects[to]) return state;
  const swapped = withObject(withObject(objects, to, objects[selected]), selected, objects[to]);
  return commit(state, swapped, to);
}

export function undo(state) {
  const objects = state.past.at(-1);
  if (!objects) return state;
  return travel(state, objects, { past: state.past.slice(0, -1), future: [state.objects, ...state.future] });
}

export function redo(state) {
  const [objects, ...future] = state.future;
  if (!objects) return state;
  return travel(state, objects, { past: [...state.past, state.objects], future });
}

/** What each gesture makes of the box at its index: {box, guides}. */
const DRAGS = {
  draw({ from }, at, lines, tolerance) {
    const { point, guides } = snapPoint(inside(at), lines, tolerance);
    return { box: spanning(snapPoint(from, lines, tolerance).point, point).map(round), guides };
  },

  move({ from, base, index }, at, lines, tolerance) {
    return snapBox(moved(base[index].box, at.x - from.x, at.y - from.y), lines, tolerance);
  },

  resize({ handle, base, index }, at, lines, tolerance) {
    const { point, guides } = snapPoint(inside(at), lines, tolerance);
    const moves = { x: /[ew]/.test(handle), y: /[ns]/.test(handle) };
    return { box: resized(base[index].box, handle, point), guides: guides.filter(({ axis }) => moves[axis]) };
  },
};

function begin(state, kind, at, base, index, handle) {
  const { objects, selected } = state;
  return { ...state, mark: null, gesture: { kind, handle, from: inside(at), base, index, dragged: false, origin: { objects, selected } } };
}

/** The selected object if it lies under the point, else the topmost there, or -1. */
function pick(objects, at, selected) {
  const under = hits(boxesOf(objects), at);
  return under.includes(selected) ? selected : (under[0] ?? -1);
}

function reshape(state, mark, change) {
  const object = state.objects[state.selected];
  if (!object) return state;
  return commit(state, withObject(state.objects, state.selected, { ...object, box: change(object.box) }), state.selected, mark);
}

/** The one way to change objects: keeps what was before, merging runs of changes with the same mark. */
function commit(state, objects, selected, mark = null) {
  if (same(objects, state.objects)) return { ...state, selected };
  const merged = mark !== null && mark === state.mark;
  const past = merged ? state.past : [...state.past, state.objects].slice(-MOST_STEPS);
  return { ...state, objects, selected, past, future: [], mark };
}

function travel(state, objects, history) {
  const selected = state.selected < objects.length ? state.selected : -1;
  return { ...state, ...history, objects, selected, gesture: null, guides: [], mark: null };
}

function withObject(objects, index, object) {
  const copy = [...objects];
  copy[index] = object;
  return copy;
}

const boxesOf = (objects) => objects.map(({ box }) => box);
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
