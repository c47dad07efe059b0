// @ts-check

/**
 * The text of the `layout` widget <-> objects {phrase, box: [left, top, right, bottom], tokens?}.
 *
 * The same formats as the Python side reads (realcompo_core/layout.py): JSON with a version, or one
 * object a line. Unlike there, an object may still lack its phrase: it is being drawn.
 *
 * @import { Box } from "./geometry.js"
 * @typedef {{ phrase: string, box: Box, tokens?: number[] }} LayoutObject
 */

import { round } from "./geometry.js";

export const VERSION = 1;
export const MOST_OBJECTS = 256;
const MOST_CHARACTERS = 1_000_000;
const SHORTEST_SIDE = 1e-4;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const LINE_ENDS = /\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/;

/** What is wrong with a text, in words for the user. */
export class TextError extends Error {}

/**
 * How each version of the JSON is read; the newest is written.
 *
 * @type {Record<number, (data: { objects: unknown[] }) => LayoutObject[]>}
 */
const READERS = { 1: (data) => data.objects.map(readObject) };

/**
 * Objects from the widget's text, perhaps none. Throws TextError.
 *
 * @param {string} text
 * @returns {LayoutObject[]}
 */
export function parse(text) {
  expect(text.length <= MOST_CHARACTERS, `The layout has more than ${MOST_CHARACTERS} characters.`);
  const objects = /^\s*[{[]/.test(text) ? parseJson(text) : parseLines(text);
  expect(objects.length <= MOST_OBJECTS, `The layout has more than ${MOST_OBJECTS} objects.`);
  return objects;
}

/**
 * The JSON of the newest version, one object a line.
 *
 * @param {LayoutObject[]} objects
 */
export function serialise(objects) {
  const lines = objects.map(({ phrase, box, tokens }) => {
    const numbers = `[${box.map(round).join(", ")}]`;
    const chosen = tokens ? `, "tokens": [${tokens.join(", ")}]` : "";
    return `  {"phrase": ${JSON.stringify(phrase)}, "box": ${numbers}${chosen}}`;
  });
  const list = lines.length ? `[\n${lines.join(",\n")}\n]` : "[]";
  return `{"version": ${VERSION}, "objects": ${list}}`;
}

/**
 * @param {string} text
 * @returns {LayoutObject[]}
 */
function parseJson(text) {
  let data;
  try {
    data = JSON.parse(text);
  } catch (error) {
    throw new TextError(`The layout is not JSON: ${/** @type {Error} */ (error).message}`);
  }
  expect(Array.isArray(data?.objects), 'The layout has no list "objects".');
  const version = "version" in data ? data.version : 1;
  expect(Number.isInteger(version) && version in READERS, `This layout is of version ${JSON.stringify(version)}; update ComfyUI-RealCompo.`);
  return READERS[version](data);
}

/**
 * @param {any} item whatever stands in the JSON
 * @param {number} index
 * @returns {LayoutObject}
 */
function readObject(item, index) {
  const where = `Object ${index + 1}`;
  expect(typeof item?.phrase === "string", `${where} has no text "phrase".`);
  const object = { phrase: item.phrase, box: checkBox(item.box, where) };
  if (item.tokens === undefined || item.tokens === null) return object;
  const good = Array.isArray(item.tokens) && item.tokens.length && item.tokens.every((/** @type {any} */ t) => Number.isSafeInteger(t) && t > 0);
  expect(good, `${where}: "tokens" must be positions from 1.`);
  return { ...object, tokens: item.tokens };
}

/** @param {string} text */
function parseLines(text) {
  const lines = text.split(LINE_ENDS).map((line, index) => [line.trim(), `Line ${index + 1}`]);
  return lines.filter(([line]) => line).map(([line, where]) => readLine(line, where));
}

/**
 * @param {string} line
 * @param {string} where
 * @returns {LayoutObject}
 */
function readLine(line, where) {
  const colon = line.lastIndexOf(":");
  const numbers = line.slice(colon + 1).replaceAll(",", " ").trim().split(/\s+/);
  const good = colon >= 0 && numbers.length === 4 && numbers.every((part) => NUMBER.test(part));
  expect(good, `${where} is not "phrase: left top right bottom".`);
  return { phrase: line.slice(0, colon).trim(), box: checkBox(numbers.map(Number), where) };
}

/**
 * @param {unknown} box
 * @param {string} where
 * @returns {Box}
 */
function checkBox(box, where) {
  const numbers = Array.isArray(box) && box.length === 4 && box.every((value) => typeof value === "number");
  expect(numbers, `${where}: "box" must be [left, top, right, bottom].`);
  const checked = /** @type {Box} */ (box);
  expect(checked.every((value) => value >= 0 && value <= 1), `${where}: the box must lie between 0 and 1.`);
  const [left, top, right, bottom] = checked;
  expect(left <= right && top <= bottom, `${where}: the corners of the box are swapped.`);
  expect(Math.min(right - left, bottom - top) >= SHORTEST_SIDE, `${where}: the box has no area.`);
  return checked;
}

/**
 * @param {unknown} condition
 * @param {string} message
 * @returns {asserts condition}
 */
function expect(condition, message) {
  if (!condition) throw new TextError(message);
}
