"""Prompts for finetuning: one prompt with its objects, or prompts made from a list of concepts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from ..errors import InputError
from ..words.tokens import DETERMINERS

OBJECTS, ATTRIBUTES = ("a", "b", "c"), ("x", "y", "z")
TEMPLATES = (
    "a photo of a {a} and a {b}",
    "a photo of a {a} with a {b}",
    "a photo of a {a}, a {b} and a {c}",
)
SINGLE = "a photo of a {a}"
MAXIMUM_CONCEPTS = 10_000
FIELD = re.compile(r"\{(\w*)\}")
# An attribute right before a concept is part of its phrase.
PHRASE = re.compile(r"(?:\{[xyz]\} )?\{[abc]\}")
ARTICLE = re.compile(r"\b(a) (?=[aei]|o(?!ne\b)|u(?!ni))", re.IGNORECASE)  # an apple, but a unicorn


@dataclass(frozen=True)
class Example:
    """A prompt and its objects, each by words of the prompt."""

    prompt: str
    phrases: tuple[str, ...]


class Curriculum(Protocol):
    """Where a training run gets its prompts; the same ``random`` draws the same prompts."""

    def example(self, random: Random) -> Example:
        """Draw a prompt with two objects or more."""

    def single(self, random: Random) -> Example:
        """Draw a prompt with one object, for the norm loss."""


@dataclass(frozen=True)
class OnePrompt:
    """The same prompt at every step."""

    pair: Example

    def example(self, random: Random) -> Example:
        """Return the prompt."""
        return self.pair

    def single(self, random: Random) -> Example:
        """Draw a prompt of one of its objects."""
        return filled(SINGLE, [random.choice(self.pair.phrases)], ())


@dataclass(frozen=True)
class ConceptList:
    """Prompts from templates, in which ``{a} {b} {c}`` are concepts, ``{x} {y} {z}`` attributes.

    Each prompt's concepts differ, and so do its attributes. An attribute right before a concept
    belongs to its phrase. Raises :class:`InputError` for templates that can't be filled.
    """

    concepts: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    templates: tuple[str, ...] = TEMPLATES

    def __post_init__(self) -> None:
        if not 2 <= len(self.concepts) <= MAXIMUM_CONCEPTS:
            expected, got = f"2 to {MAXIMUM_CONCEPTS} different concepts", str(len(self.concepts))
            raise InputError("concepts", expected, got, "Write one concept a line.")
        if not self.templates:
            fix = f"Write one a line, such as `{TEMPLATES[0]}`."
            raise InputError("templates", "a template", "none", fix)
        for template in self.templates:
            self._check(template)

    def example(self, random: Random) -> Example:
        """Draw a template and fill it."""
        template = random.choice(self.templates)
        objects, qualities = fields(template)
        concepts = random.sample(self.concepts, len(objects))
        attributes = random.sample(self.attributes, len(qualities))
        return filled(template, concepts, attributes)

    def single(self, random: Random) -> Example:
        """Draw a prompt of one concept."""
        return filled(SINGLE, [random.choice(self.concepts)], ())

    def _check(self, template: str) -> None:
        names = FIELD.findall(template)
        objects, qualities = fields(template)
        distinct = set(names)
        if len(names) > len(distinct) or distinct - {*OBJECTS, *ATTRIBUTES} or len(objects) < 2:
            expected = "{a} and {b}, perhaps {c} and {x} {y} {z}, once each"
            fix = f"Write it like `{TEMPLATES[0]}`."
            raise InputError("templates", expected, repr(template), fix)
        _check_enough("concepts", len(objects), len(self.concepts), template)
        _check_enough("attributes", len(qualities), len(self.attributes), template)


def _check_enough(field: str, needed: int, given: int, template: str) -> None:
    if needed > given:
        expected = f"{needed} {field} or more for the template {template!r}"
        fix = f"Add {field}, or take that template out."
        raise InputError(field, expected, str(given), fix)


def fields(template: str) -> tuple[list[str], list[str]]:
    """Return the concept fields and the attribute fields of a template, in order."""
    names = FIELD.findall(template)
    objects = [name for name in names if name in OBJECTS]
    qualities = [name for name in names if name in ATTRIBUTES]
    return objects, qualities


def filled(template: str, concepts: Sequence[str], attributes: Sequence[str]) -> Example:
    """Fill a template's fields in order; the article before a word fits it."""
    objects, qualities = fields(template)
    values = dict(zip(objects, map(bare, concepts), strict=True))
    values |= zip(qualities, attributes, strict=True)

    def insert(text: str) -> str:
        return FIELD.sub(lambda match: values[match[1]], text)

    phrases = tuple(insert(match[0]) for match in PHRASE.finditer(template))
    return Example(ARTICLE.sub(r"\1n ", insert(template)), phrases)


def bare(phrase: str) -> str:
    """Return a phrase without its leading articles and counts: ``the red cube`` is ``red cube``."""
    words = phrase.split()
    while len(words) > 1 and words[0].lower() in DETERMINERS:
        words = words[1:]
    return " ".join(words)


def listed(text: str) -> tuple[str, ...]:
    """Return a text's different entries, one a line or between commas; ``#`` begins a comment."""
    lines = (line.partition("#")[0] for line in text.splitlines())
    entries = (" ".join(entry.split()) for line in lines for entry in line.split(","))
    return tuple(dict.fromkeys(entry for entry in entries if entry))


def lines(text: str) -> tuple[str, ...]:
    """Return the lines of a text that are not empty."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())
