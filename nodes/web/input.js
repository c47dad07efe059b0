// @ts-check

/**
 * Pointer, wheel and keyboard on an editor's elements -> deeds of its panel.
 *
 * @import { Point } from "./geometry.js"
 * @import { GraphEvents, Panel } from "./panel.js"
 * @import { Deed, State } from "./state.js"
 * @import { View } from "./view.js"
 *
 * @typedef {{ selected: number, first: number, dragged: boolean }} Press
 */

import { clamp } from "./geometry.js";
import * as deeds from "./state.js";

const ATTRACTION = 7; // pixels on the screen
/** @type {Record<string, number>} */
const NUDGE = { false: 0.01, true: 0.1 }; // of the picture, with Shift
/** @type {Record<string, number[]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const MIDDLE = 1;
const NOTCH = 100; // pixels that one step of a mouse wheel scrolls

/**
 * The element that an event is for.
 *
 * @type {(event: Event) => HTMLElement}
 */
const elementOf = (event) => /** @type {HTMLElement} */ (event.target);

/**
 * Wire everything. `panel` applies deeds; `graph` gets what is not the editor's: middle button and wheel.
 *
 * @param {View} view
 * @param {Panel} panel
 * @param {GraphEvents} graph
 */
export function listen(view, panel, graph) {
  listenToRoot(view, graph);
  listenToPointer(view, panel);
  listenToWheel(view, panel, graph);
  listenToKeys(view, panel);
  listenToPhrase(view, panel);
  listenToTools(view, panel);
  listenToText(view, panel);
  listenToFiles(view, panel);
}

/**
 * Keep the node below from being dragged; give the middle button to the graph, which pans.
 *
 * @param {View} view
 * @param {GraphEvents} graph
 */
function listenToRoot({ root }, graph) {
  const types = /** @type {const} */ (["pointerdown", "pointermove", "pointerup"]);
  for (const type of types) {
    root.addEventListener(type, (event) => {
      event.stopPropagation();
      if (type === "pointerdown" && event.button !== MIDDLE) graph.select();
      const middle = event.button === MIDDLE || (event.buttons & 4) !== 0;
      if (middle) graph.pointer(event);
    });
  }
  root.addEventListener("dblclick", (event) => event.stopPropagation());
}

/**
 * @param {View} view
 * @param {Panel} panel
 */
function listenToPointer(view, panel) {
  // selected: what was when the pointer went down; first: the same, at the first click of a double click;
  // dragged: whether the click that ends a press follows a drag
  const press = { selected: -1, first: -1, dragged: false };
  listenToDrags(view, panel, press);
  listenToClicks(view, panel, press);
  view.field.addEventListener("mousedown", (event) => {
    if (event.button !== 0 || event.target === view.words) return;
    event.preventDefault(); // the browser would take the focus away again
    view.keys.focus({ preventScroll: true });
  });
}

/**
 * @param {View} view
 * @param {Panel} panel
 * @param {Press} press
 */
function listenToDrags({ field, stage, words }, panel, press) {
  field.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target === words || !panel.editable) return;
    field.setPointerCapture(event.pointerId);
    Object.assign(press, { selected: panel.state.selected, dragged: false });
    const { shiftKey: draw, altKey: copy } = event;
    panel.apply(deeds.press, { at: placeOf(event, stage), handle: elementOf(event).dataset.handle, draw, copy });
  });
  field.addEventListener("pointermove", (event) => {
    if (!panel.state.gesture) return aim(event, field, stage, panel);
    const { width, height } = stage.getBoundingClientRect();
    const tolerance = { x: ATTRACTION / width, y: ATTRACTION / height };
    panel.apply(deeds.drag, { at: placeOf(event, stage), tolerance, snap: panel.snap !== (event.ctrlKey || event.metaKey) });
  });
  field.addEventListener("pointerup", (event) => {
    if (!panel.state.gesture || event.button !== 0) return;
    press.dragged = panel.state.gesture.dragged;
    release(panel);
  });
  field.addEventListener("pointercancel", () => panel.apply(deeds.cancel));
}

/**
 * A drag ends; a box that was drawn is named at once.
 *
 * @param {Panel} panel
 */
function release(panel) {
  const { gesture, objects } = panel.state;
  panel.apply(deeds.release);
  panel.settle();
  const drawn = gesture?.kind === "draw" && gesture.dragged && panel.state.objects === objects;
  if (drawn) panel.editPhrase();
}

/**
 * @param {View} view
 * @param {Panel} panel
 * @param {Press} press
 */
function listenToClicks({ field, stage, words }, panel, press) {
  /** @type {(event: MouseEvent) => unknown} */
  const idle = (event) => event.target === words || !panel.editable || elementOf(event).dataset.handle;
  field.addEventListener("click", (event) => {
    if (idle(event) || press.dragged || event.detail !== 1) return;
    press.first = press.selected;
    panel.apply(deeds.click, { at: placeOf(event, stage), before: press.selected });
  });
  field.addEventListener("dblclick", (event) => {
    if (idle(event)) return;
    panel.apply(deeds.choose, { at: placeOf(event, stage), before: press.first });
    panel.editPhrase();
  });
}

/**
 * The cursor tells what a press would do.
 *
 * @param {PointerEvent} event
 * @param {HTMLElement} field
 * @param {HTMLElement} stage
 * @param {Panel} panel
 */
function aim(event, field, stage, panel) {
  if (elementOf(event).dataset.handle || elementOf(event).closest(".rc-phrase")) return;
  const { gesture } = deeds.press(panel.state, { at: placeOf(event, stage), draw: event.shiftKey, copy: event.altKey });
  field.dataset.aim = panel.editable ? (gesture?.kind ?? "none") : "none";
}

/**
 * Where an event is in the picture, in shares of it.
 *
 * @param {MouseEvent} event
 * @param {HTMLElement} stage
 * @returns {Point}
 */
function placeOf({ clientX, clientY }, stage) {
  const { left, top, width, height } = stage.getBoundingClientRect();
  return { x: (clientX - left) / width, y: (clientY - top) / height };
}

/**
 * The wheel is the graph's, until the editor has the focus; with Ctrl it always is.
 *
 * @param {View} view
 * @param {Panel} panel
 * @param {GraphEvents} graph
 */
function listenToWheel({ root, port, text }, panel, graph) {
  root.addEventListener("wheel", (event) => {
    event.stopPropagation();
    const own = root.contains(document.activeElement) && !event.ctrlKey && !event.metaKey;
    if (own && event.target === text) return;
    event.preventDefault();
    if (own && port.contains(elementOf(event))) panel.zoomBy(1.25 ** clamp(-event.deltaY / NOTCH, -1, 1), event);
    else graph.wheel(event);
  }, { passive: false });
}

/**
 * @param {View} view
 * @param {Panel} panel
 */
function listenToKeys({ keys, root }, panel) {
  keys.addEventListener("keydown", (event) => {
    const deed = keyDeed(event, panel);
    if (!deed) return;
    event.preventDefault();
    event.stopPropagation();
    deed();
  });
  // A key that is held down is one change for the graph's own undo.
  keys.addEventListener("keyup", () => panel.settle());
  root.addEventListener("focusout", () => panel.settle());
}

/**
 * What a key does, or null where it is not the editor's.
 *
 * @param {KeyboardEvent} event
 * @param {Panel} panel
 * @returns {(() => void) | null}
 */
function keyDeed(event, panel) {
  const { key, shiftKey, altKey } = event;
  const command = event.ctrlKey || event.metaKey;
  const { state } = panel;
  if (key === "Tab") return tabDeed(state, shiftKey ? -1 : 1, panel);
  if (key === "Escape") return escapeDeed(state, panel);
  if (!panel.editable) return null;
  /** @type {(deed: Deed, details?: object) => () => void} */
  const change = (deed, details) => () => panel.apply(deed, details);
  if (command) {
    const deed = { d: deeds.duplicate, y: deeds.redo, z: shiftKey ? deeds.redo : deeds.undo }[key.toLowerCase()];
    return deed ? change(deed) : null;
  }
  if (key in ARROWS) {
    const [dx, dy] = ARROWS[key].map((sign) => sign * NUDGE[String(shiftKey)]);
    return change(altKey ? deeds.stretch : deeds.nudge, { dx, dy });
  }
  /** @type {Record<string, () => void>} */
  const plain = {
    Delete: change(deeds.remove), Backspace: change(deeds.remove), n: () => { panel.apply(deeds.add); panel.editPhrase(); },
    PageUp: change(deeds.reorder, { by: 1 }), PageDown: change(deeds.reorder, { by: -1 }),
    Enter: () => panel.editPhrase(), F2: () => panel.editPhrase(),
    "+": () => panel.zoomBy(1.25), "=": () => panel.zoomBy(1.25), "-": () => panel.zoomBy(0.8), 0: () => panel.zoomBy(0),
  };
  return altKey ? null : (plain[key] ?? plain[key.toLowerCase()] ?? null);
}

/**
 * The next object, or on to the next element of the page after the last one.
 *
 * @param {State} state
 * @param {number} by
 * @param {Panel} panel
 */
function tabDeed(state, by, panel) {
  const next = deeds.step(state, { by });
  if (next.selected < 0) {
    panel.apply(deeds.select, { index: -1 });
    return null;
  }
  return () => panel.apply(deeds.step, { by });
}

/**
 * @param {State} state
 * @param {Panel} panel
 */
function escapeDeed(state, panel) {
  if (state.gesture) return () => panel.apply(deeds.cancel);
  return state.selected < 0 ? null : () => panel.apply(deeds.select, { index: -1 });
}

/**
 * @param {View} view
 * @param {Panel} panel
 */
function listenToPhrase({ words }, panel) {
  let undone = "";
  words.addEventListener("focus", () => (undone = words.value));
  words.addEventListener("input", () => panel.rename(words.value));
  words.addEventListener("blur", () => panel.closePhrase());
  words.addEventListener("keydown", (event) => {
    const command = event.ctrlKey || event.metaKey;
    if (command && ["Enter", "s"].includes(event.key)) return; // queues the prompt, saves the workflow
    event.stopPropagation();
    if (event.isComposing || !["Enter", "Escape"].includes(event.key)) return;
    event.preventDefault();
    if (event.key === "Escape") panel.rename(undone);
    panel.closePhrase({ focus: true });
  });
}

/**
 * @param {View} view
 * @param {Panel} panel
 */
function listenToTools({ root, tools, keys, text, file }, panel) {
  /** @type {Record<string, () => void>} */
  const clicks = {
    add: () => { panel.apply(deeds.add); panel.editPhrase(); },
    duplicate: () => panel.apply(deeds.duplicate),
    remove: () => panel.apply(deeds.remove),
    backward: () => panel.apply(deeds.reorder, { by: -1 }),
    forward: () => panel.apply(deeds.reorder, { by: 1 }),
    undo: () => panel.apply(deeds.undo),
    redo: () => panel.apply(deeds.redo),
    snap: () => panel.toggleSnap(),
    zoomOut: () => panel.zoomBy(0.8),
    zoomIn: () => panel.zoomBy(1.25),
    picture: () => (panel.hasOwnPicture ? panel.takePicture(null) : file.click()),
    asText: () => panel.toggleText(),
  };
  for (const [name, tool] of Object.entries(tools)) {
    tool.addEventListener("mousedown", (event) => event.preventDefault());
    tool.addEventListener("click", (event) => {
      if (event.detail) (panel.asText ? text : keys).focus({ preventScroll: true });
      clicks[name]();
      panel.settle();
    });
  }
  root.querySelector(".rc-status")?.addEventListener("mousedown", (event) => event.preventDefault());
}

/**
 * @param {View} view
 * @param {Panel} panel
 */
function listenToText({ text }, panel) {
  text.addEventListener("input", () => panel.write(text.value));
  text.addEventListener("change", () => panel.settle());
}

/**
 * @param {View} view
 * @param {Panel} panel
 */
function listenToFiles({ root, file }, panel) {
  /** @type {(event: DragEvent) => unknown} */
  const hasFile = (event) => event.dataTransfer?.types.includes("Files");
  const types = /** @type {const} */ (["dragenter", "dragover", "drop"]);
  for (const type of types) {
    root.addEventListener(type, (event) => {
      if (!hasFile(event)) return;
      event.preventDefault();
      event.stopPropagation(); // the page would open it as a workflow
      if (type === "drop") panel.takePicture(event.dataTransfer?.files[0] ?? null);
    });
  }
  file.addEventListener("change", () => {
    panel.takePicture(file.files?.[0] ?? null);
    file.value = "";
  });
}
