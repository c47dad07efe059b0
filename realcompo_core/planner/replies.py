"""Replies of language models as layouts.

Replies are untrusted text: parsed, checked and mended where only one meaning is possible, never
executed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from ..errors import InputError, within
from ..layout.model import Box, Layout, LayoutObject
from ..words.plain_text import letters, pieces, plain
from ..words.spelling import Spelling, places_of, spelled
from ..words.tokenized import locate
from ..words.tokens import DETERMINERS, Phrase, find
from .conventions import BoxKey, Convention, PhraseKey, Unit
from .questions import MAXIMUM_OBJECTS
from .values import NUMBER, Found, values_of

MAXIMUM_REPLY = 100_000  # characters
OVERSHOOT = 0.02 + 1e-9  # of the picture: how far a box may reach out of it and be clipped
OUTER = " \t\n.,;:!?'\""
BEFORE = re.compile(r"(?<![^\W_])([^\W_]+)\s+$")  # the last word before a place
PHRASE_KEYS = tuple(key.value for key in PhraseKey)
BOX_KEYS = (*(key.value for key in BoxKey), "bounding_box")
THINKING = re.compile(r"<think(?:ing)?>|\[THINK\]")
THOUGHT = re.compile(r"</think(?:ing)?>|\[/THINK\]")
NUMERAL = re.compile(rf"\s*({NUMBER})\s*%?\s*")
NAME = r"""[^\n"()\[\]{}]{1,200}?"""
# `('a cat', [0.1, 0.2, 0.5, 0.9])`, over any line breaks.
PAIR = re.compile(
    rf"""[(\[]\s*['"](?P<phrase>{NAME}(?:\n{NAME})?)['"]\s*,\s*"""
    rf"""[(\[]\s*(?P<box>{NUMBER}(?:\s*,\s*{NUMBER}){{3}})\s*,?\s*[)\]]\s*,?\s*[)\]]"""
)
OBJECTS = re.compile(r"^[ \t*#>-]*objects[ \t*]*:", re.IGNORECASE | re.MULTILINE)
OTHER = re.compile(
    r"^[ \t*#>-]*(?:position|background prompt|negative prompt|caption)s?[ \t*]*:",
    re.IGNORECASE | re.MULTILINE,
)

Entry = tuple[Any, Any]  # a phrase and its numbers, unchecked


def read_reply(reply: str, prompt: str, convention: Convention) -> Layout:
    """Return a model's reply as a layout for a prompt, boxes normalised.

    Understood are JSON, bare or fenced or in prose, ``{"objects": [{"phrase": ..., "box":
    [...]}]}`` or the list alone, its entries as pairs, one a line or as ``{"a cat": [...]}`` too,
    and LMD's and RealCompo's ``Objects: [('a cat', [x, y, w, h]), ...]``. Lines such as ``Position:
    [2, 5]`` are passed over, for token positions are never taken from a model. A phrase that
    differs from the prompt in case, articles, counts or number takes the prompt's words, and a box
    that reaches out by up to 2% is clipped. Raises :class:`InputError` for anything else.
    """
    if len(reply) > MAXIMUM_REPLY:
        expected = f"at most {MAXIMUM_REPLY} characters"
        raise InputError("reply", expected, str(len(reply)), "Reply with JSON alone.")
    found = _entries(_answer(reply))
    expected = f"1 to {MAXIMUM_OBJECTS} objects"
    if not found:
        fix = "Give every object of the description one entry, or name one in the prompt."
        raise InputError("reply", expected, "no object", fix)
    if len(found) > MAXIMUM_OBJECTS:
        fix = "Give every object of the description one entry."
        raise InputError("reply", expected, str(len(found)), fix)
    _check_unit([numbers for _, numbers in found], convention)
    text = plain(prompt)
    objects = [_object(i, *entry, text, convention) for i, entry in enumerate(found, 1)]
    layout = Layout(tuple(objects))
    locate(layout, text, pieces)
    return layout


def _answer(reply: str) -> str:
    """What a model says after thinking; raises :class:`InputError` where it never stopped."""
    ends = [match.end() for match in THOUGHT.finditer(reply)]
    text = reply[ends[-1] :] if ends else reply
    thinking = THINKING.search(text)
    if not thinking:
        return text
    if not text[: thinking.start()].strip():
        fix = "Raise the limit of tokens at the model's server, or use a model that thinks less."
        raise InputError("reply", "an answer", "thinking that does not end", fix)
    return text[: thinking.start()]


def _entries(text: str) -> list[Entry]:
    """The phrase and numbers of each object.

    The last list of a reply counts, for models think first.
    """
    parts = list(values_of(text))
    strict = [(part, _strict(found)) for part, found in parts]
    entries = _last(strict) or _pairs(text) or _last(parts)
    if entries is not None:
        return entries
    fix = 'Reply with {"objects": [{"phrase": "words of the description", "box": [four numbers]}]}.'
    raise InputError("reply", "a JSON list of objects", _short(text.strip()), fix)


def _strict(found: Sequence[Found]) -> list[Found]:
    return [one for one in found if one.strict]


def _last(parts: Sequence[tuple[str, Sequence[Found]]]) -> list[Entry] | None:
    """The last list with entries, [] where all are empty, None where there is none."""
    last: list[Entry] | None = None
    for part, found in parts:
        for entries in _lists(part, found):
            last = entries or last or []
    return last


def _lists(text: str, found: Sequence[Found]) -> Iterator[list[Entry]]:
    """The entries of every list in a text.

    Objects that follow each other, one a line, are one list.
    """
    lines: list[Found] = []
    for one in found:
        listed = _listed(one.value)
        if listed is not None:
            yield listed
            lines = []
        elif _is_entry(one.value) or _is_mapping(one.value):
            lines = [*lines, one] if _follows(text, lines, one) else [one]
    if lines and _stand_alone(text, lines):
        yield _all_entries([line.value for line in lines])


def _follows(text: str, lines: Sequence[Found], one: Found) -> bool:
    """Whether only commas, dashes and spaces stand between an object and the last line."""
    return bool(lines) and not text[lines[-1].end : one.start].strip(" \t\r\n,;-*")


def _all_entries(items: Sequence[Any]) -> list[Entry]:
    entries: list[Entry] = []
    for item in items:
        entries += _entries_of(item)
    return entries


def _listed(value: Any) -> list[Entry] | None:
    """The entries of a decoded list of objects, or of an object that holds one.

    None for other values.
    """
    if isinstance(value, dict):
        held = [[item] if _is_mapping(item) else item for item in value.values()]
        lists = [found for item in held if (found := _list_of(item)) is not None]
        return lists[0] if len(lists) == 1 and not _is_entry(value) else None
    return _list_of(value)


def _list_of(value: Any) -> list[Entry] | None:
    if not isinstance(value, list):
        return None
    good = all(_is_entry(item) or _is_mapping(item) for item in value)
    return _all_entries(value) if good else None


def _stand_alone(text: str, lines: Sequence[Found]) -> bool:
    """Whether objects are no part of a list that breaks off."""
    before = text[: lines[0].start].rstrip()[-1:]
    after = text[lines[-1].end :].lstrip()[:1]
    return before not in tuple("[{(,") and after not in tuple("[{(,]")


def _is_entry(item: Any) -> bool:
    if isinstance(item, list):
        return len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], list)
    if not isinstance(item, dict):
        return False
    return any(key in item for key in (*PHRASE_KEYS, *BOX_KEYS))


def _is_mapping(item: Any) -> bool:
    """Whether a value gives each phrase its box: {"a cat": [0.1, 0.2, 0.5, 0.9]}."""
    if not isinstance(item, dict) or not item:
        return False
    return all(_is_box(value) or _are_boxes(value) for value in item.values())


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and None not in map(_number, value)


def _are_boxes(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(_is_box, value))


def _entries_of(item: Any) -> Iterator[Entry]:
    if isinstance(item, list):
        yield item[0], item[1]
    elif _is_entry(item):
        phrase = next((item[key] for key in PHRASE_KEYS if key in item), None)
        yield phrase, next((item[key] for key in BOX_KEYS if key in item), None)
    else:
        for phrase, value in item.items():
            for box in [value] if _is_box(value) else value:
                yield phrase, box


def _pairs(text: str) -> list[Entry]:
    """The ``('a cat', [x, y, w, h])`` of a text's ``Objects:`` part, or of the whole text where
    there is none.
    """
    head = OBJECTS.search(text)
    text = text[head.end() :] if head else text
    rest = OTHER.search(text)
    text = text[: rest.start()] if rest else text
    found = list(PAIR.finditer(text))
    if found:
        _check_between(text, found)
    pairs = []
    for match in found:
        numbers: list[Any] = [float(number) for number in match["box"].split(",")]
        pairs.append((" ".join(match["phrase"].split()), numbers))
    return pairs


def _check_between(text: str, found: Sequence[re.Match]) -> None:
    """Nothing but commas may stand between pairs, and no begun pair after them.

    None is dropped in silence.
    """
    gaps = [text[one.end() : other.start()] for one, other in pairwise(found)]
    after = text[found[-1].end() :].lstrip()
    begun = after.startswith(",") and after[1:].lstrip()[:1] in tuple("([{'\"")
    opened = text[: found[0].start()].rstrip().endswith("[")
    unclosed = opened and not after.lstrip(", \n").startswith("]")
    odd_gaps = [gap for gap in gaps if gap.strip(" \n\t,")]
    if begun or unclosed or odd_gaps:
        odd = odd_gaps[0] if odd_gaps else after
        expected = "a whole list of ('phrase', [four numbers])"
        raise InputError(
            "reply", expected, _short(odd.strip()), "Reply with the whole list, without gaps."
        )


def _check_unit(boxes: Sequence[Any], convention: Convention) -> None:
    """Raise :class:`InputError` for numbers from 0 to 1 where the profile says pixels.

    Boxes of half a pixel.
    """
    written: list[Any] = []
    for box in boxes:
        written += box if isinstance(box, list) else []
    known = [number for number in map(_number, written) if number is not None]
    if convention.unit is Unit.NORMALISED or not known or max(known) > 1:
        return
    side = convention.unit.side
    fix = f'Count from 0 to {side}, or set unit = "normalised" in the profile.'
    raise InputError("box", f"numbers from 0 to {side}", f"none above {max(known):g}", fix)


def _object(
    number: int, phrase: Any, numbers: Any, text: str, convention: Convention
) -> LayoutObject:
    with within(f"object {number}"):
        if not isinstance(phrase, str):
            fix = 'Add "phrase": "words of the description".'
            raise InputError("phrase", "a text", _short(phrase), fix)
        return LayoutObject(_in_prompt(phrase, text), _box(numbers, convention))


def _box(numbers: Any, convention: Convention) -> Box:
    side = convention.unit.side
    four = [_number(part) for part in numbers] if isinstance(numbers, list) else []
    known = [number for number in four if number is not None]
    if len(four) != 4 or len(known) != 4:
        fix = f"Give all four. The profile says {convention}."
        if numbers is None:
            fix = f'Name the box "{convention.box_key.value}". The profile says {convention}.'
        raise InputError("box", f"four numbers from 0 to {side}", _short(numbers), fix)
    try:
        return Box(*map(_clipped, convention.corners(known)))
    except InputError as error:
        expected = f"{convention.order.numbers}, an area inside 0 to {side}"
        fix = f"Keep the box inside the picture. The profile says {convention}."
        raise InputError("box", expected, str(known), fix) from error


def _number(value: Any) -> float | None:
    """The finite number that a value is or writes, None for others."""
    if isinstance(value, str):
        match = NUMERAL.fullmatch(value)
        return float(match[1]) if match and math.isfinite(float(match[1])) else None
    if type(value) is not float or not math.isfinite(value):
        return None
    return value


def _clipped(value: float) -> float:
    """Return the edge of the picture for what lies a little outside."""
    inside = min(max(value, 0.0), 1.0)
    return inside if abs(value - inside) <= OVERSHOOT else value


def _in_prompt(phrase: str, text: str) -> str:
    """Return the prompt's own words for a phrase.

    Raises :class:`InputError` for several ways to read it.
    """
    wanted = Phrase.of(phrase.strip(OUTER), letters)
    spelling = spelled(letters(text))
    exact = list(_spans(wanted.whole, spelling))[:1]
    bare = [(hit[0], hit[-1] + 1) for hit in find(wanted, spelling)]
    counted = [(_with_determiners(text, start), end) for start, end in bare]
    for spans in (exact, counted, bare):
        readings = [" ".join(text[start:end].split()) for start, end in spans]
        if len({reading.lower() for reading in readings}) == 1:
            return readings[0]
    fix = "Copy the object's words from the description exactly as they stand there."
    raise InputError("phrase", "words of the description", _short(phrase), fix)


def _spans(needle: Spelling, text: Spelling) -> Iterator[tuple[int, int]]:
    """Start and end in the text of every place of a phrase."""
    for place in places_of(needle, text):
        rows = text.rows(*place)
        yield rows[0], rows[-1] + 1


def _with_determiners(text: str, start: int) -> int:
    """The articles and counts that stand before a word belong to it."""
    while (before := BEFORE.search(text[:start])) and before[1].lower() in DETERMINERS:
        start = before.start(1)
    return start


def _short(value: Any) -> str:
    """A value for a message, on one line.

    What a list or an object holds is shown where that is short and flat.
    """
    if isinstance(value, dict) or (isinstance(value, list) and (len(value) > 8 or _is_deep(value))):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    shown = repr(value[:100]) if isinstance(value, str) else str(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _is_deep(value: list) -> bool:
    return any(isinstance(item, list | dict | str) for item in value)
