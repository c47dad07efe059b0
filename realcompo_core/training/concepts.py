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
PHRASE = re.compile(
    r"(?:\{[xyz]\} )?\{[abc]\}"
)  # an attribute right before a concept is part of its phrase
ARTICLE = re.compile(r"\b(a) (?=[aei]|o(?!ne\b)|u(?!ni))", re.IGNORECASE)  # an apple, but a unicorn


@dataclass(frozen=True)
class Example:
    """A prompt and its objects, each by words of the prompt."""

    prompt: str
    phrases: tuple[str, ...]


class Curriculum(Protocol):
    """Where a training run gets its prompts; the same ``random`` draws the same prompts."""

    def example(self, random: Random) -> Example:
        """A prompt with two objects or more."""

    def single(self, random: Random) -> Example:
        """A prompt with one object, for the norm loss."""


@dataclass(frozen=True)
class OnePrompt:
    """The same prompt at every step."""

    pair: Example

    def example(self, random: Random) -> Example:
        return self.pair

    def single(self, random: Random) -> Example:
        return filled(SINGLE, [random.choice(self.pair.phrases)], ())


@dataclass(frozen=True)
class ConceptList:
    """Prompts from templates: ``{a}``, ``{b}``, ``{c}`` stand for concepts, ``{x}``, ``{y}``, ``{z}`` for attributes.

    Each prompt's concepts differ, and so do its attributes. An attribute right before a concept belongs to its
    phrase. Raises :class:`InputError` for templates that can't be filled.
    """

    concepts: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    templates: tuple[str, ...] = TEMPLATES

    def __post_init__(self) -> None:
        if not 2 <= len(self.concepts) <= MAXIMUM_CONCEPTS:
            expected = f"2 to {MAXIMUM_CONCEPTS} different concepts"
            raise InputError(
                "concepts", expected, str(len(self.concepts)), "Write one concept a line."
            )
        if not self.templates:
            raise InputError(
                "templates", "a template", "none", f"Write one a line, such as `{TEMPLATES[0]}`."
            )
        for template in self.templates:
            self._check(template)

    def example(self, random: Random) -> Example:
        template = random.choice(self.templates)
        objects, attributes = fields(template)
        return filled(
            template,
            random.sample(self.concepts, len(objects)),
            random.sample(self.attributes, len(attributes)),
        )

    def single(self, random: Random) -> Example:
        return filled(SINGLE, [random.choice(self.concepts)], ())

    def _check(self, template: str) -> None:
        names = FIELD.findall(template)
        objects, attributes = fields(template)
        known = (
            tuple(names) and set(names) <= {*OBJECTS, *ATTRIBUTES} and len(names) == len(set(names))
        )
        if not known or len(objects) < 2:
            fix = f"Write it like `{TEMPLATES[0]}`."
            raise InputError(
                "templates",
                "{a} and {b}, perhaps {c} and {x} {y} {z}, once each",
                repr(template),
                fix,
            )
        for needed, given, field in (
            (objects, self.concepts, "concepts"),
            (attributes, self.attributes, "attributes"),
        ):
            if len(needed) > len(given):
                expected = f"{len(needed)} {field} or more for the template {template!r}"
                raise InputError(
                    field, expected, str(len(given)), f"Add {field}, or take that template out."
                )


def fields(template: str) -> tuple[list[str], list[str]]:
    """The concept fields and the attribute fields of a template, in order."""
    names = FIELD.findall(template)
    return [name for name in names if name in OBJECTS], [
        name for name in names if name in ATTRIBUTES
    ]


def filled(template: str, concepts: Sequence[str], attributes: Sequence[str]) -> Example:
    """A template with its fields filled in order; the article before a word fits it."""
    objects, qualities = fields(template)
    values = dict(zip(objects, map(bare, concepts), strict=True)) | dict(
        zip(qualities, attributes, strict=True)
    )

    def insert(text: str) -> str:
        return FIELD.sub(lambda match: values[match[1]], text)

    phrases = tuple(insert(match[0]) for match in PHRASE.finditer(template))
    return Example(ARTICLE.sub(r"\1n ", insert(template)), phrases)


def bare(phrase: str) -> str:
    """A phrase without its leading articles and counts: ``the red cube`` is ``red cube``."""
    words = phrase.split()
    while len(words) > 1 and words[0].lower() in DETERMINERS:
        words = words[1:]
    return " ".join(words)


def listed(text: str) -> tuple[str, ...]:
    """The different entries of a text, one a line or between commas; ``#`` begins a comment."""
    lines = (line.partition("#")[0] for line in text.splitlines())
    entries = (" ".join(entry.split()) for line in lines for entry in line.split(","))
    return tuple(dict.fromkeys(entry for entry in entries if entry))


def lines(text: str) -> tuple[str, ...]:
    """The lines of a text that are not empty."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())
