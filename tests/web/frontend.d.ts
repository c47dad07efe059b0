/** What the editor uses of ComfyUI's frontend, which has no types for extensions to install. */

interface ImageEntry {
  filename: string;
  subfolder: string;
  type: string;
}

interface NodeOutput {
  images?: ImageEntry[];
  background?: ImageEntry[];
  text?: string[];
}

interface Widget {
  name: string;
  value: unknown;
  options: Record<string, unknown>;
  hidden?: boolean;
  serialize?: boolean;
  callback?: (...details: unknown[]) => unknown;
}

interface DOMWidget extends Widget {
  element: HTMLElement;
}

interface Link {
  origin_id: number;
  origin_slot: number;
}

interface GraphNode {
  id: number;
  constructor: Function & { comfyClass: string };
  graph?: Graph | null;
  subgraph?: Graph;
  size: [number, number];
  widgets?: Widget[];
  outputs?: { name: string; type: string }[];
  onExecuted?: (output: NodeOutput, ...more: unknown[]) => void;
  onConnectionsChange?: (...details: unknown[]) => unknown;
  onConfigure?: (...details: unknown[]) => unknown;
  addDOMWidget(name: string, type: string, element: HTMLElement, options: object): DOMWidget;
  computeSize(): [number, number];
  setSize(size: number[]): void;
  findInputSlot(name: string): number;
  getInputLink(slot: number): Link | null;
  getOutputNodes(slot: number): GraphNode[] | null;
}

interface Graph {
  id?: string;
  isRootGraph?: boolean;
  rootGraph?: Graph;
  nodes?: GraphNode[];
  subgraphs?: Map<string, Graph>;
  getNodeById(id: number | string): GraphNode | null | undefined;
  setDirtyCanvas(foreground: boolean, background: boolean): void;
}

interface GraphCanvas {
  canvas: HTMLCanvasElement;
  graph?: Graph | null;
  selectNode(node: GraphNode): void;
  emitBeforeChange(): void;
  emitAfterChange(): void;
  processMouseWheel(event: WheelEvent): void;
  processMouseDown(event: PointerEvent): void;
  processMouseMove(event: PointerEvent): void;
  processMouseUp(event: PointerEvent): void;
}

interface Extension {
  name: string;
  setup?(): void;
  afterConfigureGraph?(): void;
  nodeCreated?(node: GraphNode): void;
}

interface App {
  canvas: GraphCanvas;
  graph?: Graph;
  rootGraph?: Graph;
  nodeOutputs?: Record<string, NodeOutput | undefined>;
  registerExtension(extension: Extension): void;
}

interface Api {
  addEventListener(name: string, heard: (event: CustomEvent) => void): void;
  apiURL(route: string): string;
}

declare module "*/scripts/app.js" {
  export const app: App;
}

declare module "*/scripts/api.js" {
  export const api: Api;
}
