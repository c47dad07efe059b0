/** What a node of this pack says when it has run, shown on the node. */

import { app } from "../../scripts/app.js";

const NAME = "realcompo_status";
const LINE = 15; // pixels
const MOST_LINES = 12;

app.registerExtension({
  name: "RealCompo.Status",

  nodeCreated(node) {
    if (!/^(RealCompo|SepEn)/.test(node.constructor.comfyClass)) return;
    const before = node.onExecuted;
    node.onExecuted = function (output) {
      before?.apply(this, arguments);
      if (output?.text) show(this, output.text.join("\n"));
    };
  },
});

function show(node, text) {
  const widget = node.widgets?.find(({ name }) => name === NAME) ?? add(node);
  widget.element.textContent = text;
  widget.lines = Math.min(text.split("\n").length, MOST_LINES);
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
  node.graph?.setDirtyCanvas(true, true);
}

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
  const widget = node.addDOMWidget(NAME, NAME, element, {
    serialize: false,
    getMinHeight: () => LINE * (widget.lines ?? 1) + 8,
    getValue: () => "",
    setValue: () => {},
  });
  widget.serialize = false; // widget values are stored by position
  return widget;
}
