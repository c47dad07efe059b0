"""Prompts from a list of concepts.

Exact phrases, fitting articles, and errors that say what is missing.
"""

from random import Random

import pytest

from realcompo_core.errors import InputError
from realcompo_core.training.concepts import (
    TEMPLATES,
    ConceptList,
    Example,
    OnePrompt,
    bare,
    fields,
    filled,
    lines,
    listed,
)
from realcompo_core.words.grounding import Grounding
from realcompo_core.words.plain_text import pieces
from realcompo_core.words.tokenized import Tokenized

CONCEPTS = ("polar bear", "bear", "apple", "bed and breakfast", "hot air balloon", "unicorn")
COLOURS = ("red", "orange", "blue")
COLOURED = "a photo of a {x} {a} and a {y} {b}"


def test_entries_stand_on_lines_or_between_commas() -> None:
    assert listed("polar  bear, cat\n\n# none\ncat # twice\n hot air balloon,") == (
        "polar bear",
        "cat",
        "hot air balloon",
    )


def test_lines_keep_what_stands_twice() -> None:
    assert lines(" a corgi \n\na corgi\n") == ("a corgi", "a corgi")


@pytest.mark.parametrize("template", [*TEMPLATES, COLOURED])
def test_every_phrase_stands_in_its_prompt_with_words_of_its_own(template: str) -> None:
    drawn = ConceptList(CONCEPTS, COLOURS, (template,))
    for seed in range(40):
        example = drawn.example(Random(seed))
        encoders = [Tokenized.of(example.prompt, pieces)]
        tokens = Grounding.anywhere(example.phrases, encoders).tokens
        assert len(example.phrases) == len(fields(template)[0])
        words = example.prompt.replace(",", " ,").split()
        for phrase, positions in zip(example.phrases, tokens, strict=True):
            assert [words[position - 1] for position in positions] == phrase.split()


def test_attributes_belong_to_the_phrase_that_they_stand_before() -> None:
    example = filled("a {x} {a} and a {b} in {y} light", ["cube", "ball"], ["red", "dim"])
    assert example == Example("a red cube and a ball in dim light", ("red cube", "ball"))


@pytest.mark.parametrize(
    ("concept", "text"),
    [
        ("apple", "an apple"),
        ("unicorn", "a unicorn"),
        ("umbrella", "an umbrella"),
        ("one-man band", "a one-man band"),
        ("orange", "an orange"),
        ("the cat", "a cat"),
        ("an egg", "an egg"),
        ("idea", "an idea"),
    ],
)
def test_articles_fit(concept: str, text: str) -> None:
    assert filled("A photo of a {a}", [concept], ()).prompt == f"A photo of {text}"


def test_the_same_random_draws_the_same_and_another_draws_others() -> None:
    drawn = ConceptList(CONCEPTS)
    assert [drawn.example(Random(n)) for n in range(9)] == [
        drawn.example(Random(n)) for n in range(9)
    ]
    assert len({drawn.example(Random(n)) for n in range(30)}) > 10


def test_a_prompts_concepts_differ() -> None:
    drawn = ConceptList(CONCEPTS[:3])
    assert all(len(set(drawn.example(Random(n)).phrases)) > 1 for n in range(30))


def test_one_prompt_is_the_same_at_every_step_and_its_singles_are_its_objects() -> None:
    one = OnePrompt(Example("a red cube and the blue ball", ("a red cube", "the blue ball")))
    assert one.example(Random(0)) == one.example(Random(1)) == one.pair
    singles = {one.single(Random(n)).prompt for n in range(20)}
    assert singles == {"a photo of a red cube", "a photo of a blue ball"}


def test_a_bare_phrase_is_never_empty() -> None:
    assert [bare("the red cube"), bare("two"), bare("a the cat")] == ["red cube", "two", "cat"]


@pytest.mark.parametrize(
    ("concepts", "attributes", "templates", "part"),
    [
        (("cat",), (), TEMPLATES[:1], "2 to 10000 different concepts, got 1"),
        (("cat", "dog"), (), TEMPLATES[2:3], "concepts: expected 3 concepts or more"),
        (("cat", "dog"), ("red",), (COLOURED,), "attributes: expected 2 attributes or more"),
        (("cat", "dog"), (), ("a {a}",), "{a} and {b}"),
        (("cat", "dog"), (), ("a {a} and a {a}",), "once each"),
        (("cat", "dog"), (), ("a {a} and a {d}",), "'a {a} and a {d}'"),
        (("cat", "dog"), (), (), "templates: expected a template, got none"),
    ],
)
def test_lists_that_make_no_prompts(
    concepts: tuple, attributes: tuple, templates: tuple, part: str
) -> None:
    with pytest.raises(InputError) as caught:
        ConceptList(concepts, attributes, templates)
    assert part in str(caught.value)


def test_one_object_is_too_few() -> None:
    with pytest.raises(InputError, match="objects: expected two objects or more, got 1"):
        Grounding.anywhere(("a cat",), [Tokenized.of("a cat", pieces)])


def test_objects_may_not_share_a_word() -> None:
    with pytest.raises(InputError, match="words of its own for each object"):
        Grounding.anywhere(("polar bear", "bear"), [Tokenized.of("a polar bear", pieces)])
