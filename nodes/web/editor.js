// @ts-check

/**
 * The box editor on the RealCompo Layout node: what ComfyUI's frontend loads.
 *
 * @import { Host } from "./panel.js"
 */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { Panel } from "./panel.js";
import { connectedPicture, linkTo, numberAt, ownPicture, setOwnPicture } from "./picture.js";

const NODE = "RealCompoLayout";
const LEAST_HEIGHT = 300;
const FIRST_SIZE = [400, 620];
const PHRASES_HEIGHT = 60;
/** @type {WeakMap<GraphNode, Panel>} */
const panels = new WeakMap(); // node -> its panel

app.registerExtension({
  name: "RealCompo.LayoutEditor",

  setup() {
    addStyles();
    // Told after every change that the graph's history has seen, and after a node has run.
    for (const event of ["graphChanged", "executed"]) api.addEventListener(event, refreshAll);
    app.canvas.canvas.addEventListener("litegraph:set-graph", mountAll);
  },

  afterConfigureGraph: mountAll,

  nodeCreated(node) {
    if (node.constructor.comfyClass === NODE) addEditor(node);
  },
});

/** @param {GraphNode} node */
function addEditor(node) {
  const panel = new Panel(hostOf(node));
  panels.set(node, panel);
  hideTextWidget(node);
  const widget = node.addDOMWidget("layout_editor", "realcompo_layout_editor", panel.root, {
    serialize: false,
    hideOnZoom: false,
    margin: 6,
    getMinHeight: () => LEAST_HEIGHT,
    getValue: () => "",
    setValue: () => {},
  });
  widget.serialize = false; // widget values are stored by position: the editor stores nothing
  for (const name of ["layout", "width", "height"]) chain(widgetOf(node, name), "callback", () => panel.refresh());
  chain(node, "onConnectionsChange", () => panel.refresh());
  chain(node, "onConfigure", () => panel.reset());
  node.setSize(FIRST_SIZE.map((side, axis) => Math.max(side, node.size[axis])));
}

/**
 * What a panel needs of its node.
 *
 * @param {GraphNode} node
 * @returns {Host}
 */
function hostOf(node) {
  const place = () => `${node.graph?.rootGraph?.id}/${node.graph?.id}/${node.id}`;
  return {
    read: () => String(widgetOf(node, "layout").value ?? ""),
    write: (text) => {
      widgetOf(node, "layout").value = text;
      node.graph?.setDirtyCanvas(true, true);
    },
    settle: () => {
      app.canvas.emitBeforeChange();
      app.canvas.emitAfterChange();
    },
    facts: () => ({
      size: { width: Number(numberAt(node, "width")) || 512, height: Number(numberAt(node, "height")) || 512 },
      picture: connectedPicture(node, "image", app.nodeOutputs ?? {}, imageAddress),
      linked: Boolean(linkTo(node, "layout")),
    }),
    pictures: { get: () => ownPicture(place()), set: (file) => setOwnPicture(place(), file) },
    graph: {
      select: () => app.canvas.selectNode(node),
      wheel: (event) => app.canvas.processMouseWheel(event),
      pointer: (event) => {
        /** @type {Record<string, "processMouseDown" | "processMouseMove" | "processMouseUp">} */
        const handler = { pointerdown: "processMouseDown", pointermove: "processMouseMove", pointerup: "processMouseUp" };
        app.canvas[handler[event.type]](event);
      },
    },
  };
}

/**
 * The editor stands for the text, which it shows itself on demand.
 *
 * @param {GraphNode} node
 */
function hideTextWidget(node) {
  const text = widgetOf(node, "layout");
  text.hidden = true;
  Object.assign(text.options, { hidden: true, getMinHeight: () => 0, getMaxHeight: () => 0 });
  widgetOf(node, "phrases").options.getMaxHeight = () => PHRASES_HEIGHT; // what is spare is the editor's
}

function refreshAll() {
  const root = app.rootGraph ?? app.graph;
  for (const graph of [root, ...(root?.subgraphs?.values() ?? [])]) {
    for (const node of graph?.nodes ?? []) panels.get(node)?.refresh();
  }
}

/**
 * Nodes 2.0 of some frontends keep what they showed for an id when another node comes to have it (the
 * graph was loaded anew, or left for another): put the node's own editor there, once the page is drawn.
 */
function mountAll() {
  requestAnimationFrame(() => {
    for (const node of app.canvas.graph?.nodes ?? []) {
      const own = panels.get(node)?.root;
      const shown = document.querySelector(`[data-node-id="${CSS.escape(String(node.id))}"] .rc-editor`);
      if (own && shown && shown !== own) shown.replaceWith(own);
    }
  });
}

/**
 * @param {GraphNode} node
 * @param {string} name
 */
function widgetOf(node, name) {
  return /** @type {Widget} */ (node.widgets?.find((widget) => widget.name === name));
}

/**
 * Call `then` after a method of an object, which may be missing.
 *
 * @param {any} object
 * @param {string} method
 * @param {() => void} then
 */
function chain(object, method, then) {
  const original = object[method];
  object[method] = function (/** @type {unknown[]} */ ...details) {
    const result = original?.apply(this, details);
    then();
    return result;
  };
}

/** @param {ImageEntry} image */
function imageAddress(image) {
  return api.apiURL(`/view?${new URLSearchParams({ ...image })}`);
}

function addStyles() {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL("./editor.css", import.meta.url).href;
  document.head.append(link);
}
