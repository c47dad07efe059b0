// @ts-check

/**
 * One editor: its state, its elements and the text that it edits, wherever that lives.
 *
 * `host` is the node: read() and write(text); settle(), after a finished change; facts() {size {width,
 * height}, picture (a URL or null), linked (the text comes from a connection)}; graph, for events that
 * are not the editor's; pictures {get(), set(file or null)}, for a picture of the user's own.
 *
 * @import { Deed, State } from "./state.js"
 * @import { LayoutObject } from "./text.js"
 * @import { Size } from "./view.js"
 *
 * @typedef {{ size: Size, picture: string | null, linked: boolean }} Facts
 *
 * @typedef {object} GraphEvents
 * @property {() => void} select
 * @property {(event: WheelEvent) => void} wheel
 * @property {(event: PointerEvent) => void} pointer
 *
 * @typedef {object} Host
 * @property {() => string} read
 * @property {(text: string) => void} write
 * @property {() => void} settle
 * @property {() => Facts} facts
 * @property {{ get: () => string | null, set: (file: File | null) => void }} pictures
 * @property {GraphEvents} graph
 */

import { listen } from "./input.js";
import * as deeds from "./state.js";
import { TextError, parse, serialise } from "./text.js";
import { build, placePhrase, show } from "./view.js";

const MOST_ZOOM = 8;

export class Panel {
  /** @param {Host} host */
  constructor(host) {
    this.host = host;
    this.view = build();
    this.zoom = 1;
    this.snap = true;
    this.asText = false;
    /** @type {WeakMap<LayoutObject[], string>} */
    this.texts = new WeakMap(); // the text that each list of objects was read from
    this.editing = -1;
    this.unsettled = false;
    /** @type {string | null} */
    this.error = null;
    this.text = "";
    this.facts = host.facts();
    this.state = deeds.open([]);
    this.stored = this.state.objects;
    this.reset();
    listen(this.view, this, host.graph);
  }

  get root() {
    return this.view.root;
  }

  get editable() {
    return !this.error && !this.facts.linked;
  }

  get hasOwnPicture() {
    return Boolean(this.host.pictures.get());
  }

  /** Start anew from the host's text, without a history. */
  reset() {
    this.read((objects) => deeds.open(objects));
  }

  /** Follow the host: its text, size and picture may have changed. */
  refresh() {
    if (this.host.read() === this.text) return this.show();
    this.read((objects) => deeds.replace(this.state, { objects }));
  }

  /**
   * Change the state; a finished change is written to the host.
   *
   * @param {Deed} deed
   * @param {object} details
   */
  apply(deed, details = {}) {
    this.state = deed(this.state, details);
    if (!this.state.gesture && this.state.objects !== this.stored) {
      this.stored = this.state.objects;
      this.text = this.texts.get(this.stored) ?? serialise(this.stored);
      this.unsettled = true;
      this.host.write(this.text);
    }
    this.show();
  }

  /**
   * The user has typed the text itself.
   *
   * @param {string} text
   */
  write(text) {
    this.unsettled = true;
    this.host.write(text);
    this.refresh();
  }

  /** A change is complete: the graph's own undo may see it. */
  settle() {
    if (!this.unsettled || this.state.gesture) return;
    this.unsettled = false;
    this.host.settle();
  }

  editPhrase() {
    const { objects, selected } = this.state;
    if (!objects[selected] || !this.editable) return;
    placePhrase(this.view, objects[selected], selected);
    this.editing = selected;
    this.view.words.focus({ preventScroll: true });
    this.view.words.select();
  }

  /** @param {string} phrase */
  rename(phrase) {
    if (this.editable) this.apply(deeds.rename, { index: this.editing, phrase });
  }

  /** @param {{ focus?: boolean }} options */
  closePhrase({ focus = false } = {}) {
    if (this.view.phrase.hidden) return;
    this.rename(this.view.words.value.trim());
    this.view.phrase.hidden = true;
    if (focus) this.view.keys.focus({ preventScroll: true });
    this.settle();
  }

  toggleSnap() {
    this.snap = !this.snap;
    this.show();
  }

  toggleText() {
    this.asText = !this.asText;
    this.show();
    (this.asText ? this.view.text : this.view.keys).focus({ preventScroll: true });
  }

  /**
   * Zoom by a factor (0: fit) and keep the place under a pointer where it is.
   *
   * @param {number} factor
   * @param {{ clientX?: number, clientY?: number }} pointer
   */
  zoomBy(factor, { clientX, clientY } = {}) {
    const { port, stage } = this.view;
    const before = stage.getBoundingClientRect();
    const screen = before.width / (stage.offsetWidth || 1); // the graph's own zoom
    const [x, y] = [clientX ?? before.left + before.width / 2, clientY ?? before.top + before.height / 2];
    const [u, v] = [(x - before.left) / before.width, (y - before.top) / before.height];
    this.zoom = Math.min(Math.max(this.zoom * factor, 1), MOST_ZOOM);
    this.show();
    const after = stage.getBoundingClientRect();
    port.scrollLeft += (after.left + u * after.width - x) / screen;
    port.scrollTop += (after.top + v * after.height - y) / screen;
  }

  /** @param {File | null} file */
  takePicture(file) {
    if (file && !file.type.startsWith("image/")) return;
    this.host.pictures.set(file);
    this.show();
  }

  /** @param {(objects: LayoutObject[]) => State} change */
  read(change) {
    this.view.phrase.hidden = true;
    this.text = this.host.read();
    this.error = null;
    try {
      this.state = change(parse(this.text));
      this.stored = this.state.objects;
      this.texts.set(this.stored, this.text);
    } catch (error) {
      if (!(error instanceof TextError)) throw error;
      this.error = error.message;
    }
    this.show();
  }

  show() {
    const { text, view, asText } = this;
    this.facts = this.host.facts();
    const own = this.host.pictures.get();
    const note = this.facts.linked ? "The layout comes from a connection." : null;
    const { zoom, snap, error, editable } = this;
    show(view, this.state, { ...this.facts, zoom, snap, error, note, asText, editable, ownPicture: own, picture: own ?? this.facts.picture });
    if (view.text.value !== text) view.text.value = text;
    view.text.readOnly = Boolean(this.facts.linked);
  }
}
