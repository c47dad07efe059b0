// @ts-check

/**
 * What the editor knows and how each deed changes it: pure functions (state, details) -> state.
 *
 * objects   [{phrase, box, tokens?}], drawn in this order; selected: an index, or -1
 * gesture   what the pointer is doing between press and release, or null: the object at `index` of
 *           `base` is drawn, moved or resized; `origin` is what a cancelled gesture goes back to
 * guides    lines that the gesture has snapped to
 * past, future   earlier and undone lists of objects; mark: what the last change may be merged with
 *
 * @import { Box, Guide, Lines, Point } from "./geometry.js"
 * @import { LayoutObject } from "./text.js"
 *
 * @typedef {object} Gesture
 * @property {"draw" | "move" | "resize"} kind
 * @property {string} [handle]
 * @property {Point} from
 * @property {LayoutObject[]} base
 * @property {number} index
 * @property {boolean} dragged
 * @property {{ objects: LayoutObject[], selected: number }} origin
 *
 * @typedef {object} State
 * @property {LayoutObject[]} objects
 * @property {number} selected
 * @property {Gesture | null} gesture
 * @property {Guide[]} guides
 * @property {LayoutObject[][]} past
 * @property {LayoutObject[][]} future
 * @property {string | null} mark
 *
 * @typedef {(state: State, details: any) => State} Deed
 * @typedef {{ box: Box, guides: Guide[] }} Dragged
 * @typedef {(gesture: Gesture, at: Point, lines: Lines, tolerance: Point) => Dragged} Drag
 */

import { SMALLEST, fills, hits, inside, moved, resized, rounded, snapBox, snapLines, snapPoint, spanning } from "./geometry.js";
import { MOST_OBJECTS } from "./text.js";

const MOST_STEPS = 200;
const COPY_SHIFT = 0.03;
/** An object that is drawn has no box before the pointer moves. */
const NO_BOX = /** @type {any} */ (null);

/**
 * A state to start from, without a history.
 *
 * @param {LayoutObject[]} objects
 * @returns {State}
 */
export function open(objects) {
  return { objects, selected: -1, gesture: null, guides: [], past: [], future: [], mark: null };
}

/**
 * Objects from outside (the text was edited): a step that can be undone.
 *
 * @param {State} state
 * @param {{ objects: LayoutObject[] }} details
 */
export function replace(state, { objects }) {
  const selected = state.selected < objects.length ? state.selected : -1;
  return commit({ ...state, gesture: null, guides: [] }, objects, selected, "replace");
}

/**
 * @param {State} state
 * @param {{ index: number }} details
 * @returns {State}
 */
export function select(state, { index }) {
  return { ...state, selected: index, mark: null };
}

/**
 * Select the next (1) or previous (-1) object; nothing beyond the last and the first.
 *
 * @param {State} state
 * @param {{ by: number }} details
 */
export function step(state, { by }) {
  const from = state.selected < 0 && by < 0 ? state.objects.length : state.selected;
  const index = from + by;
  return select(state, { index: index < state.objects.length ? Math.max(index, -1) : -1 });
}

/**
 * The pointer goes down at a point: on a handle to resize, on an object to move it, elsewhere to draw.
 * `draw` draws over objects, too; `copy` moves a copy. An object that fills the picture is drawn over.
 *
 * @param {State} state
 * @param {{ at: Point, handle?: string | null, draw?: boolean, copy?: boolean }} details
 * @returns {State}
 */
export function press(state, { at, handle = null, draw = false, copy = false }) {
  const { objects, selected } = state;
  if (handle) return begin(state, "resize", at, objects, selected, handle);
  const target = pick(objects, at, selected);
  const added = draw || target < 0 || fills(objects[target].box) || copy;
  if (added && objects.length >= MOST_OBJECTS) return state;
  if (!added) return begin(select(state, { index: target }), "move", at, objects, target);
  if (copy && target >= 0) return begin(state, "move", at, [...objects, objects[target]], objects.length);
  return begin(state, "draw", at, [...objects, { phrase: "", box: NO_BOX }], objects.length);
}

/**
 * The pointer moves on. `tolerance` {x, y}: how near a line attracts; `snap`: whether it does.
 *
 * @param {State} state
 * @param {{ at: Point, tolerance: Point, snap?: boolean }} details
 * @returns {State}
 */
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

/**
 * The pointer goes up: the change stands. Without a drag nothing has changed.
 *
 * @param {State} state
 * @returns {State}
 */
export function release(state) {
  const { gesture, objects, selected } = state;
  if (!gesture?.dragged) return { ...state, gesture: null };
  const [left, top, right, bottom] = objects[selected].box;
  if (gesture.kind === "draw" && Math.min(right - left, bottom - top) < SMALLEST) return cancel(state);
  const { objects: before } = gesture.origin;
  return commit({ ...state, objects: before, gesture: null, guides: [] }, objects, selected);
}

/**
 * @param {State} state
 * @returns {State}
 */
export function cancel(state) {
  if (!state.gesture) return state;
  return { ...state, ...state.gesture.origin, gesture: null, guides: [] };
}

/**
 * A click selects what lies there; where the object selected before is clicked again, the one below it.
 *
 * @param {State} state
 * @param {{ at: Point, before: number }} details
 */
export function click(state, { at, before }) {
  const under = hits(boxesOf(state.objects), at);
  const next = under[(under.indexOf(before) + 1) % under.length];
  return select(state, { index: next ?? -1 });
}

/**
 * Select what a double click means: the object selected before it if it lies there, else the topmost.
 *
 * @param {State} state
 * @param {{ at: Point, before: number }} details
 */
export function choose(state, { at, before }) {
  return select(state, { index: pick(state.objects, at, before) });
}

/**
 * New words for an object; token positions belong to the old words and go.
 *
 * @param {State} state
 * @param {{ index: number, phrase: string }} details
 */
export function rename(state, { index, phrase }) {
  if (!state.objects[index] || state.objects[index].phrase === phrase) return state;
  const { tokens: _, ...object } = state.objects[index];
  return commit(state, withObject(state.objects, index, { ...object, phrase }), state.selected, `rename ${index}`);
}

/**
 * @param {State} state
 * @param {{ dx: number, dy: number }} details
 */
export function nudge(state, { dx, dy }) {
  return reshape(state, "nudge", (box) => moved(box, dx, dy));
}

/**
 * Move the right and bottom edges.
 *
 * @param {State} state
 * @param {{ dx: number, dy: number }} details
 */
export function stretch(state, { dx, dy }) {
  return reshape(state, "stretch", (box) => resized(box, "se", { x: box[2] + dx, y: box[3] + dy }));
}

/**
 * A new object without a phrase in the middle.
 *
 * @param {State} state
 */
export function add(state) {
  if (state.objects.length >= MOST_OBJECTS) return state;
  return commit(state, [...state.objects, { phrase: "", box: [0.35, 0.35, 0.65, 0.65] }], state.objects.length);
}

/** @param {State} state */
export function duplicate(state) {
  const object = state.objects[state.selected];
  if (!object || state.objects.length >= MOST_OBJECTS) return state;
  const shifted = moved(object.box, COPY_SHIFT, COPY_SHIFT);
  const box = same(shifted, object.box) ? moved(object.box, -COPY_SHIFT, -COPY_SHIFT) : shifted;
  const at = state.selected + 1;
  return commit(state, [...state.objects.slice(0, at), { ...object, box }, ...state.objects.slice(at)], at);
}

/** @param {State} state */
export function remove(state) {
  if (!state.objects[state.selected]) return state;
  const objects = state.objects.filter((_, index) => index !== state.selected);
  return commit(state, objects, Math.min(state.selected, objects.length - 1));
}

/**
 * Bring the selected object forward (1: later, on top) or backward (-1).
 *
 * @param {State} state
 * @param {{ by: number }} details
 */
export function reorder(state, { by }) {
  const { objects, selected } = state;
  const to = selected + by;
  if (!objects[selected] || !objects[to]) return state;
  const swapped = withObject(withObject(objects, to, objects[selected]), selected, objects[to]);
  return commit(state, swapped, to);
}

/** @param {State} state */
export function undo(state) {
  const objects = state.past.at(-1);
  if (!objects) return state;
  return travel(state, objects, { past: state.past.slice(0, -1), future: [state.objects, ...state.future] });
}

/** @param {State} state */
export function redo(state) {
  const [objects, ...future] = state.future;
  if (!objects) return state;
  return travel(state, objects, { past: [...state.past, state.objects], future });
}

/**
 * What each gesture makes of the box at its index: {box, guides}.
 *
 * @type {Record<Gesture["kind"], Drag>}
 */
const DRAGS = {
  draw({ from }, at, lines, tolerance) {
    const { point, guides } = snapPoint(inside(at), lines, tolerance);
    return { box: rounded(spanning(snapPoint(from, lines, tolerance).point, point)), guides };
  },

  move({ from, base, index }, at, lines, tolerance) {
    return snapBox(moved(base[index].box, at.x - from.x, at.y - from.y), lines, tolerance);
  },

  resize({ handle = "", base, index }, at, lines, tolerance) {
    const { point, guides } = snapPoint(inside(at), lines, tolerance);
    const moves = { x: /[ew]/.test(handle), y: /[ns]/.test(handle) };
    return { box: resized(base[index].box, handle, point), guides: guides.filter(({ axis }) => moves[axis]) };
  },
};

/**
 * @param {State} state
 * @param {Gesture["kind"]} kind
 * @param {Point} at
 * @param {LayoutObject[]} base
 * @param {number} index
 * @param {string} [handle]
 * @returns {State}
 */
function begin(state, kind, at, base, index, handle) {
  const { objects, selected } = state;
  return { ...state, mark: null, gesture: { kind, handle, from: inside(at), base, index, dragged: false, origin: { objects, selected } } };
}

/**
 * The selected object if it lies under the point, else the topmost there, or -1.
 *
 * @param {LayoutObject[]} objects
 * @param {Point} at
 * @param {number} selected
 */
function pick(objects, at, selected) {
  const under = hits(boxesOf(objects), at);
  return under.includes(selected) ? selected : (under[0] ?? -1);
}

/**
 * @param {State} state
 * @param {string} mark
 * @param {(box: Box) => Box} change
 */
function reshape(state, mark, change) {
  const object = state.objects[state.selected];
  if (!object) return state;
  return commit(state, withObject(state.objects, state.selected, { ...object, box: change(object.box) }), state.selected, mark);
}

/**
 * The one way to change objects: keeps what was before, merging runs of changes with the same mark.
 *
 * @param {State} state
 * @param {LayoutObject[]} objects
 * @param {number} selected
 * @param {string | null} mark
 * @returns {State}
 */
function commit(state, objects, selected, mark = null) {
  if (same(objects, state.objects)) return { ...state, selected };
  const merged = mark !== null && mark === state.mark;
  const past = merged ? state.past : [...state.past, state.objects].slice(-MOST_STEPS);
  return { ...state, objects, selected, past, future: [], mark };
}

/**
 * @param {State} state
 * @param {LayoutObject[]} objects
 * @param {{ past: LayoutObject[][], future: LayoutObject[][] }} history
 * @returns {State}
 */
function travel(state, objects, history) {
  const selected = state.selected < objects.length ? state.selected : -1;
  return { ...state, ...history, objects, selected, gesture: null, guides: [], mark: null };
}

/**
 * @param {LayoutObject[]} objects
 * @param {number} index
 * @param {LayoutObject} object
 */
function withObject(objects, index, object) {
  const copy = [...objects];
  copy[index] = object;
  return copy;
}

/** @type {(objects: LayoutObject[]) => Box[]} */
const boxesOf = (objects) => objects.map(({ box }) => box);
/** @type {(a: unknown, b: unknown) => boolean} */
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
