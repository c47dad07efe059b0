// @ts-check

/**
 * The editor's elements, and how a state is shown in them. Phrases are text, never markup.
 *
 * @import { Guide } from "./geometry.js"
 * @import { State } from "./state.js"
 * @import { LayoutObject } from "./text.js"
 *
 * @typedef {ReturnType<typeof build>} View
 * @typedef {{ width: number, height: number }} Size of the picture, in pixels
 *
 * @typedef {object} Shown what is shown besides a state
 * @property {Size} size
 * @property {number} zoom
 * @property {boolean} snap
 * @property {string | null} picture a URL
 * @property {string | null} ownPicture a URL
 * @property {boolean} linked
 * @property {string | null} error
 * @property {string | null} note
 * @property {boolean} asText
 * @property {boolean} editable
 */

import { HANDLES, fills } from "./geometry.js";

/** The preview's colours (PALETTE in realcompo_core/render.py), in the same order. */
export const PALETTE = [
  "#e64c4c", "#4c99f2", "#59bf66", "#f2bf40", "#b273e6", "#4ccccc",
  "#f280bf", "#a69959", "#f28c33", "#8cd940", "#7373bf", "#995933",
];
/** @type {(index: number) => string} */
const colour = (index) => PALETTE[index % PALETTE.length];

/**
 * Dark or white, whichever reads better on a colour.
 *
 * @param {string} colour
 */
function inkOn(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255);
  return 0.3 * red + 0.59 * green + 0.11 * blue > 0.45 ? "#111" : "#fff";
}

/**
 * name: [label, path of a 16 x 16 icon]; a gap between groups.
 *
 * @type {Record<string, [label: string, path: string]>[]}
 */
const TOOLS = [
  {
    add: ["Add a box (N, or drag)", "M8 3v10M3 8h10"],
    duplicate: ["Duplicate (Ctrl+D, or Alt+drag)", "M6 6h7v7H6zM10 6V3H3v7h3"],
    remove: ["Delete (Del)", "M3 5h10M6.5 5V3h3v2M4.5 5l.5 8h6l.5-8"],
  },
  {
    backward: ["Send backward (PageDown)", "M8 3v10M4 9l4 4 4-4"],
    forward: ["Bring forward (PageUp)", "M8 13V3M4 7l4-4 4 4"],
  },
  {
    undo: ["Undo (Ctrl+Z)", "M6 3 3 6l3 3M3 6h6.5a3.5 3.5 0 0 1 0 7H6"],
    redo: ["Redo (Ctrl+Shift+Z)", "M10 3l3 3-3 3M13 6H6.5a3.5 3.5 0 0 0 0 7H10"],
  },
  {
    snap: ["Snap to edges and centre lines (Ctrl switches while dragging)", "M3.5 3v5a4.5 4.5 0 0 0 9 0V3h-3v5a1.5 1.5 0 0 1-3 0V3zM3.5 5.5h3M9.5 5.5h3"],
    zoomOut: ["Zoom out (-)", "M7 3a4 4 0 1 0 0 8a4 4 0 0 0 0-8M10 10l3.5 3.5M5 7h4"],
    zoomIn: ["Zoom in (+, or wheel; 0 fits)", "M7 3a4 4 0 1 0 0 8a4 4 0 0 0 0-8M10 10l3.5 3.5M5 7h4M7 5v4"],
  },
  {
    picture: ["Picture to trace over (or drop a file)", "M2.5 3.5h11v9h-11zM3 11.5 6.5 8 9 10.5l2-2 2.5 2.5M10.5 5.7v.6"],
    asText: ["As text", "M6 3c-2 0-1 2.5-1 3.5S4 8 3 8c1 0 2 .5 2 1.5S4 13 6 13M10 3c2 0 1 2.5 1 3.5S12 8 13 8c-1 0-2 .5-2 1.5S12 13 10 13"],
  },
];
const KEYS_LABEL =
  "Boxes. Tab goes to the next one, arrows move it, Alt and arrows resize it, Enter edits its phrase, N adds one, Delete deletes it.";

/** All elements of one editor: {root, tools: {name: button}, ...}. */
export function build() {
  /** @type {Record<string, HTMLButtonElement>} */
  const tools = {};
  const bar = element("div", "bar", { role: "toolbar", "aria-label": "Layout" });
  for (const group of TOOLS) bar.append(element("span", "group", {}, Object.entries(group).map(([name, tool]) => (tools[name] = button(name, ...tool)))));

  const picture = element("img", "picture", { alt: "", draggable: "false" });
  const [boxes, guides] = [element("div", "boxes"), element("div", "guides")];
  const keys = element("input", "keys", { type: "text", readonly: "", "aria-label": KEYS_LABEL, autocomplete: "off" });
  const words = element("input", "words", { type: "text", "aria-label": "Phrase", placeholder: "words of the prompt", spellcheck: "false", autocomplete: "off" });
  const phrase = element("div", "phrase", { hidden: "" }, [element("i", "chip"), words]);
  const stage = element("div", "stage", {}, [picture, boxes, guides, keys, phrase]);
  const field = element("div", "field", {}, [stage]);
  const port = element("div", "port", {}, [field]);
  const text = element("textarea", "text", { "aria-label": "The layout as text", spellcheck: "false" });
  const file = element("input", "file", { type: "file", accept: "image/*", hidden: "", tabindex: "-1" });
  const status = element("div", "status", { role: "status" });
  const group = { role: "group", "aria-label": "Layout editor", "data-capture-wheel": "true" }; // the frontend's own word
  const root = element("div", "editor widget-expands", group, [bar, port, text, status, file]);
  return { root, tools, port, field, stage, picture, boxes, guides, keys, phrase, words, text, file, status };
}

/**
 * Show a state. `facts`: size {width, height} of the picture in pixels; zoom; snap; picture, a URL or
 * null; linked; error and note, texts or null; asText; editable.
 *
 * @param {View} view
 * @param {State} state
 * @param {Shown} facts
 */
export function show(view, state, facts) {
  const { root, stage } = view;
  root.classList.toggle("rc-as-text", facts.asText);
  root.classList.toggle("rc-locked", !facts.editable);
  root.classList.toggle("rc-zoomed", facts.zoom > 1);
  stage.style.setProperty("--ratio", String(facts.size.width / facts.size.height));
  stage.style.setProperty("--zoom", String(facts.zoom));
  showPicture(view.picture, facts.picture);
  const shown = facts.error || facts.linked ? [] : state.objects;
  view.boxes.replaceChildren(...shown.map((object, index) => boxElement(object, index, index === state.selected, facts.editable)));
  view.guides.replaceChildren(...state.guides.map(guideElement));
  showTools(view.tools, state, facts);
  const wrong = facts.error && `${facts.error}${facts.asText ? "" : " Mend it as text."}`;
  const message = wrong ?? facts.note ?? summary(state, facts.size);
  if (view.status.textContent !== message) view.status.textContent = message;
  view.status.classList.toggle("rc-wrong", Boolean(facts.error));
}

/**
 * Put the phrase field at an object's label.
 *
 * @param {View} view
 * @param {LayoutObject} object
 * @param {number} index
 */
export function placePhrase(view, { box: [left, top], phrase }, index) {
  view.phrase.style.setProperty("--x", percent(left));
  view.phrase.style.setProperty("--y", percent(top));
  view.phrase.style.setProperty("--ink", colour(index));
  view.words.value = phrase;
  view.phrase.hidden = false;
}

/**
 * @param {HTMLImageElement} img
 * @param {string | null} url
 */
function showPicture(img, url) {
  img.hidden = !url;
  if (url && img.getAttribute("src") !== url) img.src = url;
  if (!url) img.removeAttribute("src");
}

/**
 * @param {View["tools"]} tools
 * @param {State} state
 * @param {Shown} facts
 */
function showTools(tools, { objects, selected, past, future }, facts) {
  const chosen = selected >= 0;
  const usable = {
    add: true, duplicate: chosen, remove: chosen, backward: selected > 0, forward: chosen && selected < objects.length - 1,
    undo: past.length, redo: future.length,
  };
  for (const [name, use] of Object.entries(usable)) tools[name].disabled = !use || !facts.editable || facts.asText;
  tools.zoomOut.disabled = facts.zoom <= 1;
  const pressed = { snap: facts.snap, asText: facts.asText, picture: Boolean(facts.ownPicture) };
  for (const [name, on] of Object.entries(pressed)) tools[name].setAttribute("aria-pressed", String(on));
}

/**
 * A line about the selected object, or about all.
 *
 * @param {State} state
 * @param {Size} size
 */
function summary({ objects, selected }, { width, height }) {
  const object = objects[selected];
  if (object) {
    const [left, top, right, bottom] = object.box;
    const [x, y, w, h] = [left * width, top * height, (right - left) * width, (bottom - top) * height].map(Math.round);
    return `${selected + 1}/${objects.length} ${object.phrase || "no phrase"}: ${w} × ${h} at ${x}, ${y}`;
  }
  const unnamed = objects.filter(({ phrase }) => !phrase.trim()).length;
  const count = `${objects.length} ${objects.length === 1 ? "box" : "boxes"}`;
  if (unnamed) return `${count}, ${unnamed} without a phrase: double-click to name`;
  return `${count}. Drag to draw${objects.length ? ", click to select" : ""}.`;
}

/**
 * @param {LayoutObject} object
 * @param {number} index
 * @param {boolean} selected
 * @param {boolean} editable
 */
function boxElement({ phrase, box }, index, selected, editable) {
  const [left, top, right, bottom] = box;
  const classes = ["box", selected ? "selected" : "", phrase.trim() ? "" : "unnamed", fills(box) ? "full" : "", left > 0.6 ? "right" : ""];
  const label = element("span", "label");
  label.textContent = phrase.trim() || "no phrase";
  const handles = selected && editable ? HANDLES.map((handle) => element("i", `handle ${handle}`, { "data-handle": handle })) : [];
  const div = element("div", classes.filter(Boolean).join(" "), { "data-index": index }, [label, ...handles]);
  div.style.setProperty("--ink", colour(index));
  label.style.color = inkOn(colour(index));
  const [x, y, w, h] = [left, top, right - left, bottom - top].map(percent);
  Object.assign(div.style, { left: x, top: y, width: w, height: h });
  return div;
}

/** @param {Guide} guide */
function guideElement({ axis, at }) {
  const guide = element("i", `guide ${axis}`);
  guide.style.setProperty("--at", percent(at));
  return guide;
}

/**
 * @param {string} name
 * @param {string} label
 * @param {string} path
 */
function button(name, label, path) {
  const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  icon.setAttribute("viewBox", "0 0 16 16");
  const line = document.createElementNS(icon.namespaceURI, "path");
  line.setAttribute("d", path);
  icon.append(line);
  return element("button", "tool", { type: "button", "data-tool": name, title: label, "aria-label": label }, [icon]);
}

/**
 * An element with the editor's class names, attributes and children.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} classes
 * @param {Record<string, string | number>} attributes
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
function element(tag, classes = "", attributes = {}, children = []) {
  const made = document.createElement(tag);
  for (const name of classes.split(" ").filter(Boolean)) made.classList.add(name === "widget-expands" ? name : `rc-${name}`);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/** @type {(share: number) => string} */
const percent = (share) => `${share * 100}%`;
