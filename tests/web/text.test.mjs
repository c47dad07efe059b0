import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { MOST_OBJECTS, TextError, parse, serialise } from "../../nodes/web/text.js";

const cases = JSON.parse(readFileSync(new URL("layouts.json", import.meta.url), "utf8"));
const line = (phrase) => `${phrase}: 0 0 1 1\n`;

// tests/web/test_web.py reads the same cases with the Python side.
for (const { text, objects } of cases) {
  test(`reads ${JSON.stringify(text).slice(0, 90)}`, () => {
    if (objects) assert.deepEqual(parse(text), objects);
    else assert.throws(() => parse(text), TextError);
  });
}

test("an object may still lack its phrase", () => {
  assert.deepEqual(parse('{"objects": [{"phrase": "", "box": [0, 0, 1, 1]}]}'), [{ phrase: "", box: [0, 0, 1, 1] }]);
});

test("what is written is read back, whatever the words", () => {
  const phrases = ["a cat", "", '"', "\\", "</script>", "\u2028", "\ud800", "🐈", "__proto__", "{a|b}", "line\nbreak"];
  const objects = phrases.map((phrase, index) => ({ phrase, box: [0.1, 0.2, 0.3333, 1], ...(index % 2 ? { tokens: [index] } : {}) }));
  assert.deepEqual(parse(serialise(objects)), objects);
  assert.deepEqual(parse(serialise([])), []);
});

test("an object a line, four decimals, the version first", () => {
  const text = serialise([{ phrase: "a", box: [0, 1 / 3, 0.30000000000000004, 1] }, { phrase: "b", box: [0, 0, 1, 1], tokens: [2, 3] }]);
  assert.equal(text, '{"version": 1, "objects": [\n  {"phrase": "a", "box": [0, 0.3333, 0.3, 1]},\n  {"phrase": "b", "box": [0, 0, 1, 1], "tokens": [2, 3]}\n]}');
});

test("what is too much is refused", () => {
  assert.equal(parse(line("a").repeat(MOST_OBJECTS)).length, MOST_OBJECTS);
  assert.throws(() => parse(line("a").repeat(MOST_OBJECTS + 1)), /more than 256 objects/);
  assert.throws(() => parse(line("a".repeat(1e6))), /more than 1000000 characters/);
  assert.throws(() => parse("[".repeat(9e5)), TextError);
});

test("errors say where", () => {
  assert.throws(() => parse(`${line("a")}\nb: 0 0 2 1`), { message: "Line 3: the box must lie between 0 and 1." });
  assert.throws(() => parse('{"objects": [{"phrase": "a", "box": [0, 0, 1, 1]}, {}]}'), { message: 'Object 2 has no text "phrase".' });
  assert.throws(() => parse('{"version": 9, "objects": []}'), { message: "This layout is of version 9; update ComfyUI-RealCompo." });
});
