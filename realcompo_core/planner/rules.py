"""A planner that needs no model: prompt -> layout by rules, the same for the same prompt."""

from __future__ import annotations

from ..errors import InputError
from ..layout.model import Layout, LayoutObject
from ..words.plain_text import pieces, plain
from ..words.tokenized import locate
from .arrangement import arrange
from .languages import is_foreign
from .scenes import Scene, read

MAXIMUM_OBJECTS = 30  # as many as GLIGEN takes


def plan(prompt: str) -> Layout:
    """Return the objects that a prompt names, with boxes (normalised) that fit what it says of
    them.

    The rules know counts ("two", "a couple of"), places ("on the left", "in the background") and
    relations ("left of", "above", "on", "in front of", "in", "next to", "between"). They spread
    evenly what is related to nothing. Every phrase stands in the prompt word for word. Raises
    :class:`InputError` for a prompt that names no object, or more than 30, or that is not English.
    """
    text = plain(prompt)
    scene = read(text)
    _check(scene, text)
    objects = []
    for thing, boxes in zip(scene.things, arrange(scene), strict=True):
        objects += [LayoutObject(thing.phrase, box) for box in boxes]
    layout = Layout(tuple(objects))
    locate(layout, text, pieces)
    return layout


def _check(scene: Scene, text: str) -> None:
    if is_foreign(text, [thing.phrase for thing in scene.things]):
        fix = "Write it in English, or choose a language model as the profile."
        raise InputError("prompt", "an English sentence", "another language", fix)
    if not scene.things:
        fix = 'Name what the picture shows: "a cat to the left of a dog".'
        raise InputError("prompt", "words for at least one object", "none that the rules know", fix)
    count = sum(thing.count for thing in scene.things)
    if count > MAXIMUM_OBJECTS:
        raise InputError(
            "prompt", f"at most {MAXIMUM_OBJECTS} objects", str(count), "Name fewer objects."
        )
