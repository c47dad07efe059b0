// @ts-check

/**
 * What a node of this pack says while it runs and when it has run, shown on the node.
 *
 * @typedef {DOMWidget & { lines: number }} StatusWidget
 */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const NAME = "realcompo_status";
const LINE = 15; // pixels
const MARGIN = 5;
const MOST_LINES = 12;

app.registerExtension({
  name: "RealCompo.Status",

  setup() {
    api.addEventListener("realcompo.status", ({ detail: { node: id, text } }) => {
      const node = running(id);
      if (node) show(node, text);
    });
  },

  nodeCreated(node) {
    if (!/^(RealCompo|SepEn)/.test(node.constructor.comfyClass)) return;
    // At once for those that have something to say: Nodes 2.0 of some frontends miss widgets that come later.
    if (node.outputs?.some(({ type }) => type === "STRING")) add(node);
    const before = node.onExecuted;
    node.onExecuted = function (output, ...more) {
      before?.apply(this, [output, ...more]);
      if (output?.text) show(this, output.text.join("\n"));
    };
  },
});

/**
 * The node with an execution's id: "7", or "3:7" for node 7 of the subgraph that node 3 holds.
 *
 * @param {string | number} id
 */
function running(id) {
  let node = null;
  let graph = app.rootGraph ?? app.graph;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(part);
    graph = node?.subgraph;
  }
  return node;
}

/**
 * @param {GraphNode} node
 * @param {string} text
 */
function show(node, text) {
  const known = /** @type {StatusWidget | undefined} */ (node.widgets?.find(({ name }) => name === NAME));
  const widget = known ?? add(node);
  widget.element.textContent = text;
  widget.lines = text ? Math.min(text.split("\n").length, MOST_LINES) : 0;
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
  node.graph?.setDirtyCanvas(true, true);
}

/**
 * @param {GraphNode} node
 * @returns {StatusWidget}
 */
function add(node) {
  const element = document.createElement("pre");
  Object.assign(element.style, {
    margin: 0,
    overflow: "auto",
    font: `11px/${LINE}px monospace`,
    whiteSpace: "pre-wrap",
    userSelect: "text",
    opacity: 0.85,
  });
  element.setAttribute("role", "status");
  /** @type {StatusWidget} */
  const widget = Object.assign(node.addDOMWidget(NAME, NAME, element, {
    serialize: false,
    margin: MARGIN,
    getMinHeight: () => (widget.lines ? LINE * widget.lines + 2 * MARGIN : 0),
    getMaxHeight: () => (widget.lines ? undefined : 0),
    getValue: () => "",
    setValue: () => {},
  }), { lines: 0 });
  widget.serialize = false; // widget values are stored by position
  return widget;
}
