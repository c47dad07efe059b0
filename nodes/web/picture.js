// @ts-check

/** The picture behind a node's boxes: one of the user's own, or the last preview of what is connected. */

/** @type {Map<string, string>} */
const files = new Map(); // node's place -> URL of a file in the browser's memory; it outlives the graph's undo

/**
 * The picture that the user has given to the node at a place, a URL or null.
 *
 * @param {string} place
 */
export function ownPicture(place) {
  return files.get(place) ?? null;
}

/**
 * Keep a picture of the user's own in the browser, or forget it (null).
 *
 * @param {string} place
 * @param {File | null} file
 */
export function setOwnPicture(place, file) {
  const before = files.get(place);
  if (before) URL.revokeObjectURL(before);
  if (file) files.set(place, URL.createObjectURL(file));
  else files.delete(place);
}

/**
 * The last picture at a node's input, a URL or null: a preview of the node before it, of another node
 * that shows the same output, or what the node itself told when it last ran.
 *
 * `outputs` are the frontend's by node locator; `address` makes a URL of an image entry.
 *
 * @param {GraphNode} node
 * @param {string} name
 * @param {Record<string, NodeOutput | undefined>} outputs
 * @param {(image: ImageEntry) => string} address
 */
export function connectedPicture(node, name, outputs, address) {
  const link = linkTo(node, name);
  if (!link) return null;
  const origin = node.graph?.getNodeById(link.origin_id);
  const shown = origin?.getOutputNodes(link.origin_slot) ?? [];
  const found = [origin, ...shown.filter((other) => other !== node)]
    .map((other) => other && outputs[locator(other)]?.images?.[0])
    .find(Boolean);
  const image = found ?? outputs[locator(node)]?.background?.[0];
  return image ? address(image) : null;
}

/**
 * The number at a node's input: of the widget, or of the connected node's if that is plain.
 *
 * @param {GraphNode} node
 * @param {string} name
 * @returns {unknown}
 */
export function numberAt(node, name) {
  const own = node.widgets?.find((widget) => widget.name === name)?.value;
  const link = linkTo(node, name);
  const origin = link && node.graph?.getNodeById(link.origin_id);
  if (!origin) return own;
  const numbers = (origin.widgets ?? []).filter(({ value }) => typeof value === "number");
  const output = origin.outputs?.[link.origin_slot]?.name;
  return (numbers.find((widget) => widget.name === output) ?? numbers[0])?.value ?? own;
}

/**
 * The link at a node's input, or null; a node that is being made has no graph yet.
 *
 * @param {GraphNode} node
 * @param {string} name
 */
export function linkTo(node, name) {
  const slot = node.findInputSlot(name);
  return slot < 0 || !node.graph ? null : node.getInputLink(slot);
}

/**
 * How the frontend names a node among its outputs: its id, in a subgraph after the subgraph's.
 *
 * @param {GraphNode} node
 */
function locator({ graph, id }) {
  return !graph || graph.isRootGraph !== false ? String(id) : `${graph.id}:${id}`;
}
