"""Phrases found in prompts, with a small CLIP-like tokenizer.

Lower case, sub-words, chunks with start and end.
"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realcompo_core.errors import InputError
from realcompo_core.layout.model import Box, Layout, LayoutObject
from realcompo_core.words.spelling import UNKNOWN, Piece, spelled
from realcompo_core.words.tokenized import Tokenized, locate, locate_in, matched
from realcompo_core.words.tokens import (
    DETERMINERS,
    Phrase,
    Tokenizer,
    Word,
    find,
    singulars,
    words_of,
)

PIECE = 4  # letters: "elephant" is "elep" and "hant</w>"


def clip(chunk: int = 75) -> Tokenizer:
    """A tokenizer of ``chunk`` tokens between each start and end token."""

    def tokenize(text: str) -> list[Piece]:
        words = re.findall(r"'s|[^\W\d_]+|\d|[^\w\s]+", text.lower())
        texts = [
            word[i : i + PIECE] + "</w>" * (i + PIECE >= len(word))
            for word in words
            for i in starts(word)
        ]
        return [Piece(piece, (1 + i + 2 * (i // chunk),)) for i, piece in enumerate(texts)]

    return tokenize


def starts(word: str) -> range:
    return range(0, len(word), PIECE)


def places(prompt: str, *phrases: str, chunk: int = 75) -> list[tuple[int, ...]]:
    """Positions of each phrase, all of them in one layout."""
    layout = Layout(tuple(LayoutObject(phrase, Box(0, 0, 1, 1)) for phrase in phrases))
    return list(locate(layout, prompt, clip(chunk)))


# Words


def test_pieces_join_into_words() -> None:
    assert words_of(clip()("An elephant!")) == [
        Word("an", (1,)),
        Word("elephant", (2, 3)),
        Word("!", (4,)),
    ]


def test_a_word_without_an_end_is_still_a_word() -> None:
    assert words_of([Piece("a</w>", (1,)), Piece("ele", (2,))]) == [
        Word("a", (1,)),
        Word("ele", (2,)),
    ]


def test_sub_word_tokens_all_belong_to_their_word() -> None:
    assert places("a red elephant", "elephant") == [(3, 4)]


def test_a_word_inside_another_is_not_found() -> None:
    with pytest.raises(InputError):
        places("an elephant", "elep")


@pytest.mark.parametrize(
    "phrase", ["red cube,", "red cube", "a red cube.", "“red cube”", "RED Cube!"]
)
def test_outer_punctuation_and_case_do_not_matter(phrase: str) -> None:
    assert places("a red cube, on grass", phrase) == [(2, 3)]


def test_inner_punctuation_belongs_to_the_phrase() -> None:
    assert places("an x-ray of a cat", "x-ray") == [(2, 3, 4)]
    assert places("the cat's hat", "cat's hat") == [(2, 3, 4)]


def test_positions_jump_where_a_word_straddles_two_chunks() -> None:
    assert places("a red elephant", "red elephant", chunk=3) == [(2, 3, 6)]


def test_a_piece_may_stand_for_several_rows() -> None:
    assert words_of([Piece("<style></w>", (4, 5, 6))]) == [Word("<style>", (4, 5, 6))]


# Determiners, plurals and strictness


@pytest.mark.parametrize("phrase", ["a cat", "the cat", "cat", "their 3 cat", "one cat"])
def test_determiners_are_never_among_the_positions(phrase: str) -> None:
    assert places("a cat sleeps", phrase) == [(2,)]
    assert places("the cat sleeps", phrase) == [(2,)]


def test_a_phrase_of_one_determiner_stands_for_itself() -> None:
    assert places("the one", "the") == [(1,)]


@pytest.mark.parametrize(
    ("prompt", "phrase"),
    [("two corgis run", "a corgi"), ("a corgi run", "two corgis"), ("two corgis run", "corgis")],
)
def test_singular_and_plural_find_each_other(prompt: str, phrase: str) -> None:
    corgi = (2, 3)  # "corg" "i" or "is"
    assert places(prompt, phrase) == [corgi]


@pytest.mark.parametrize(
    ("plural", "singular"),
    [
        ("men", "man"),
        ("wolves", "wolf"),
        ("knives", "knife"),
        ("puppies", "puppy"),
        ("boxes", "box"),
        ("cats", "cat"),
        ("churches", "church"),
        ("potatoes", "potato"),
        ("houses", "house"),
        ("buses", "bus"),
        ("corgis", "corgi"),
        ("emus", "emu"),
    ],
)
def test_plurals_have_their_singular(plural: str, singular: str) -> None:
    assert {plural, singular} <= singulars(plural)


@pytest.mark.parametrize("word", ["glass", "princess", "cat"])
def test_singulars_stay_as_they_are(word: str) -> None:
    assert singulars(word) == {word}


def test_the_strictest_match_wins() -> None:
    assert places("a corgi and the corgi", "the corgi") == [(6, 7)]
    assert places("two cats and a cat", "a cat") == [(5,)]
    assert places("two cats and a cat", "the cat") == [(5,)]


def test_a_longer_phrase_is_matched_as_a_whole() -> None:
    assert places("a cube and a red cube", "a red cube", "a cube") == [(5, 6), (2,)]


def test_an_exact_phrase_shares_its_place_rather_than_taking_anothers() -> None:
    assert places("a cat and two cats", "a cat") == [(2,)]
    assert places("a cat and two cats", "two cats", "two cats") == [(5,), (5,)]
    assert places("two cats and one cat", "two cats", "two cats", "one cat") == [(2,), (2,), (5,)]
    assert places("two men and a man", "two men", "a man", "two men") == [(2,), (5,), (2,)]


# Characters: what tokenizers cut where no reader would


def contracting(text: str) -> list[Piece]:
    """Tokens as CLIP's: contractions are cut off anywhere, letters are joined, and a token holds
    so many bytes of a word, so that two may share a letter.
    """
    cut = re.findall(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|(?:[^\w\s]|_)+", text, re.IGNORECASE)
    found: list[Piece] = []
    first = 1
    for word in cut:
        owners = [first + number // PIECE for number in range(len(word.encode()))]
        start = 0
        for i, letter in enumerate(word):
            end = start + len(letter.encode())
            rows = tuple(dict.fromkeys(owners[start:end]))
            found.append(Piece(letter + "</w>" * (i + 1 == len(word)), rows))
            start = end
        first = owners[-1] + 1
    return found


def count(text: str) -> int:
    """How many tokens a text has."""
    return max(piece.positions[-1] for piece in contracting(text))


def rows(prompt: str, phrase: str) -> tuple[int, ...]:
    layout = Layout((LayoutObject(phrase, Box(0, 0, 1, 1)),))
    return locate(layout, prompt, contracting)[0]


@pytest.mark.parametrize(
    "word", ["Diffusion", "dog", "table", "man", "llama", "red", "very", "sun"]
)
def test_a_quote_before_a_word_hides_nothing(word: str) -> None:
    """Quotes before d, s, t, m, ll, re and ve: tokens of a contraction that is none."""
    prompt = f"a sign with '{word}' on it"
    inner = rows(prompt, word)
    before = count("a sign with")
    behind = count(prompt) - count("' on it")
    assert inner == tuple(range(before + 1, behind + 1))
    assert rows(prompt, f"'{word}'")[: len(inner)] == inner


def test_contractions_stay_what_they_are() -> None:
    assert rows("the dog's red bowl", "dog's red bowl") == (2, 3, 4, 5)
    assert rows("the dog's red bowl", "red bowl") == (4, 5)
    with pytest.raises(InputError):
        rows("the dogs bowl", "og")


SAME = {
    ("the dog\u2019s bowl", "dog's bowl"),
    ("the dog's bowl", "dog\u2019s bowl"),
    ("a red cube", "red_cube"),
    ("a red_cube", "red cube"),
    ("a sign with \u201ccafe\u201d on it", "cafe"),
    ("a robot (old) in rain", "robot old"),
    ("a robot old in rain", r"robot \(old\)"),
}


@pytest.mark.parametrize(("prompt", "phrase"), sorted(SAME))
def test_words_that_look_the_same_are_the_same(prompt: str, phrase: str) -> None:
    assert rows(prompt, phrase)


def test_a_chinese_phrase_is_found_by_its_characters() -> None:
    """A sentence is one word to the tokenizer; the tokens of two characters may be one."""
    prompt = "\u4e00\u53ea\u732b\u548c\u72d7"
    cat, dog = rows(prompt, "\u732b"), rows(prompt, "\u72d7")
    assert cat == (2, 3) and dog == (4,) and rows(prompt, "\u732b\u548c\u72d7") == (2, 3, 4)


def test_other_alphabets_are_readable_in_messages() -> None:
    with pytest.raises(InputError) as caught:
        rows("cr\u00e8me br\u00fbl\u00e9e", "cake")
    assert "cr\u00e8me[1,2]" in caught.value.got
    assert rows("cr\u00e8me br\u00fbl\u00e9e", "CR\u00c8ME") == (1, 2)


NUMBERS = {
    "1960s poster": "1960s poster",
    "35mm film": "35mm film",
    "two-tiered cake": "two-tiered cake",
    "a five-year-old girl": "five-year-old girl",
    "200 BC coin": "200 BC coin",
}


@pytest.mark.parametrize(("phrase", "words"), NUMBERS.items(), ids=NUMBERS)
def test_numbers_are_counts_only_as_whole_words(phrase: str, words: str) -> None:
    size = count(words)
    first = count("we see") + count(phrase) - size + 1
    assert rows(f"we see {phrase}", phrase) == tuple(range(first, first + size))


# Repeated phrases


def test_repeated_phrases_take_their_places_in_order() -> None:
    assert places("a cat, a dog, a cat", "a cat", "a dog", "a cat") == [(2,), (5,), (8,)]


def test_objects_may_share_the_only_place() -> None:
    assert places("two corgis run", "a corgi", "a corgi") == [(2, 3), (2, 3)]


def test_more_objects_than_places_are_ambiguous() -> None:
    with pytest.raises(
        InputError, match="one place in the prompt for each of its 3 objects, got 2 places"
    ) as caught:
        places("a cat and a cat", "a cat", "a cat", "a cat")
    assert caught.value.field == "phrase 'a cat'"


# Explicit tokens and errors


def test_explicit_tokens_override_the_search() -> None:
    layout = Layout(
        (
            LayoutObject("not there", Box(0, 0, 1, 1), tokens=(3, 2)),
            LayoutObject("cat", Box(0, 0, 1, 1)),
        )
    )
    assert locate(layout, "a red cat", clip()) == ((3, 2), (3,))


def test_explicit_tokens_do_not_use_up_a_place() -> None:
    layout = Layout(
        (LayoutObject("cat", Box(0, 0, 1, 1), tokens=(1,)), LayoutObject("cat", Box(0, 0, 1, 1)))
    )
    assert locate(layout, "a cat and a cat", clip()) == ((1,), (2,))


@pytest.mark.parametrize("tokens", [(4,), (0,), (2, 99)])
def test_explicit_tokens_must_be_of_the_prompt(tokens: tuple[int, ...]) -> None:
    layout = Layout((LayoutObject("cat", Box(0, 0, 1, 1), tokens=tokens),))
    with pytest.raises(
        InputError, match=r"tokens of 'cat': expected .* a\[1\] red\[2\] cat\[3\], got"
    ) as caught:
        locate(layout, "a red cat", clip())
    assert caught.value.got == str(list(tokens))


def test_a_missing_phrase_shows_the_tokens_with_their_positions() -> None:
    with pytest.raises(InputError, match="phrase 'a dog'") as caught:
        places("a red elephant.", "a dog")
    assert caught.value.got == "a prompt with a[1] red[2] elephant[3,4] .[5]"


@pytest.mark.parametrize(
    ("prompt", "phrase"), [("", "cat"), ("a cat", "_"), ("a cat", "cat a"), ("cat", "cat cat")]
)
def test_what_is_not_there_is_not_found(prompt: str, phrase: str) -> None:
    with pytest.raises(InputError, match="words of the prompt"):
        places(prompt, phrase)


# Several encoders of one prompt


def encoder(prompt: str, first: int, unknown: str = "") -> Tokenized:
    """An encoder in rows from ``first`` on, by a vocabulary that lacks these letters."""

    def tokenize(text: str) -> list[Piece]:
        known = "".join(UNKNOWN if letter in unknown else letter for letter in text)
        return [Piece(piece.text, (piece.positions[0] + first,)) for piece in clip()(known)]

    return Tokenized.of(prompt, tokenize)


def layout_of(*phrases: str) -> Layout:
    return Layout(tuple(LayoutObject(phrase, Box(0, 0, 1, 1)) for phrase in phrases))


def test_a_phrase_has_its_places_in_all_encoders() -> None:
    encoders = [encoder("a red cat", 0), encoder("a red cat", 77)]
    assert locate_in(layout_of("red cat", "cat"), encoders) == ((2, 3, 79, 80), (3, 80))
    assert matched(layout_of("red cat"), encoders) == "red cat: red[2,79] cat[3,80]"


def test_a_phrase_of_one_encoder_alone_is_found() -> None:
    encoders = [encoder("a red cat", 0), encoder("oil on canvas", 0)]
    assert locate_in(layout_of("red cat", "oil"), encoders) == ((2, 3), (1,))
    assert matched(layout_of("oil"), encoders) == "oil: oil[1]"


def test_letters_that_a_vocabulary_lacks_are_not_guessed() -> None:
    encoders = [encoder("a red \u732b", 0), encoder("a red \u732b", 77, unknown="\u732b\u72d7")]
    assert locate_in(layout_of("\u732b", "red"), encoders) == ((3,), (2, 79))
    with pytest.raises(InputError, match="phrase '\u72d7'"):
        locate_in(layout_of("\u72d7"), encoders)
    with pytest.raises(InputError, match="words of the prompt"):
        locate_in(layout_of("\u732b"), encoders[1:])


def test_explicit_tokens_may_be_of_any_encoder() -> None:
    named = Layout((LayoutObject("not there", Box(0, 0, 1, 1), tokens=(2, 80)),))
    encoders = [encoder("a red cat", 0), encoder("a red cat", 77)]
    assert locate_in(named, encoders) == ((2, 80),)


# Any prompt

WORDS = st.sampled_from(["a", "the", "two", "red", "cat", "cats", "elephant", "men"]) | st.text(
    "abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=10
)


def rows_of(words: list[str], chunk: int) -> list[tuple[int, ...]]:
    """Positions of each word, counted apart from the tokenizer."""
    counts = [len(starts(word)) for word in words]
    return [
        tuple(1 + i + 2 * (i // chunk) for i in range(sum(counts[:n]), sum(counts[: n + 1])))
        for n in range(len(words))
    ]


def content(phrase: list[str]) -> int:
    """Where a phrase's content words begin."""
    return next((i for i, word in enumerate(phrase) if word not in DETERMINERS), len(phrase) - 1)


@given(st.lists(WORDS, min_size=1, max_size=12), st.integers(3, 20), st.data())
def test_any_part_of_a_prompt_is_found_at_its_content_words(
    words: list[str], chunk: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(words) - 1))
    phrase = words[start : data.draw(st.integers(start + 1, len(words)))]
    first = next(i for i in range(len(words)) if words[i : i + len(phrase)] == phrase)
    rows = rows_of(words, chunk)[first + content(phrase) : first + len(phrase)]
    assert places(" ".join(words), " ".join(phrase), chunk=chunk) == [sum(rows, ())]


@given(st.lists(WORDS, max_size=8), st.lists(WORDS, min_size=1, max_size=3))
def test_every_place_found_holds_the_phrase_s_nouns(prompt: list[str], phrase: list[str]) -> None:
    words = words_of(clip()(" ".join(prompt)))
    core = phrase[content(phrase) :]
    for hit in find(Phrase.of(" ".join(phrase), clip()), spelled(clip()(" ".join(prompt)))):
        found = [word.text for word in words if set(word.positions) & set(hit)]
        assert sum(len(starts(word)) for word in found) == len(hit)
        assert all(singulars(wish) & singulars(got) for wish, got in zip(core, found, strict=True))


def test_longer_phrases_choose_first() -> None:
    assert places("a red cube and a cube", "cube", "red cube") == [(6,), (2, 3)]
