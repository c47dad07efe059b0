"""The offline planner on sentences with free verbs, surroundings, comparisons and quotes.

The right plan of each.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks import planner as bench
from benchmarks.planner_truth import Truth, Wanted, faults_of, read_truths
from realcompo_core.errors import InputError
from realcompo_core.planner.rules import plan
from realcompo_core.planner.scenes import read
from realcompo_core.planner.vocabulary import form_of, is_adjective
from realcompo_core.words.plain_text import plain


def phrases(prompt: str) -> list[str]:
    return list(dict.fromkeys(placed.phrase for placed in plan(prompt).objects))


def links(prompt: str) -> list[tuple[str, str, str]]:
    scene = read(plain(prompt))
    return [
        (scene.things[k.first].phrase, k.kind.value, scene.things[k.second].phrase)
        for k in scene.links
    ]


SURROUNDINGS = {
    "A realistic photo of a scene with two bowls": ["two bowls"],
    "a scene with a cat on the left": ["a cat"],
    "a white moon and a black sky": ["a white moon", "a black sky"],
    "a green ocean and a blue seaweed": ["a green ocean", "a blue seaweed"],
    "a wooden floor and a fluffy rug": ["a wooden floor", "a fluffy rug"],
    "a bench in a sunny park": ["a bench"],
    "a kitchen with a white tile floor and a blue sloped ceiling": [
        "a white tile floor",
        "a blue sloped ceiling",
    ],
    "a dog next to the traffic light": ["a dog", "the traffic light"],
    "a bird above the street light": ["a bird", "the street light"],
    "the round clock is on the right of the wooden picture frame": [
        "the round clock",
        "the wooden picture frame",
    ],
    "a cat on the left of the picture": ["a cat"],
    "a vase on stone, in the light": ["a vase"],
    "two owls in a neat row on a branch": ["two owls", "a branch"],
}
COMPARISONS = {
    "a cat which is larger than a dog and bigger than a car": ["a cat", "a dog", "a car"],
    "a cup smaller than a plate": ["a cup", "a plate"],
    "a tree taller than house": ["a tree", "house"],
    "a rose more colorful than the fence": ["a rose", "the fence"],
}
VERBS = {
    "The wooden ladle and glass lid boil the noodles": [
        "The wooden ladle",
        "glass lid",
        "the noodles",
    ],
    "the glass vase and metallic watering can hold the flowers": [
        "the glass vase",
        "metallic watering can",
        "the flowers",
    ],
    "a dog can catch the ball": ["a dog", "the ball"],
    "two owls sit on a branch": ["two owls", "a branch"],
    "three candles stand beside a clock": ["three candles", "a clock"],
    "two shirts hang above a sofa": ["two shirts", "a sofa"],
    "a tall oak tree and a short sapling": ["a tall oak tree", "a short sapling"],
    "a room with old flooring and two lamps": ["old flooring", "two lamps"],
    "a child is playing with a kite and trying to catch it": ["a child", "a kite"],
    "a girl runs to fetch the ball": ["a girl", "the ball"],
    "there were two boats on the lake": ["two boats", "the lake"],
    "there was a dog beside a kennel": ["a dog", "a kennel"],
    "two cows graze on the hill as two trucks drive by": ["two cows", "the hill", "two trucks"],
    "a dog dressed as a pirate": ["a dog"],
    "a hut for three zebras": ["a hut", "three zebras"],
    "a present for her": ["a present"],
    "hovering cow abducting aliens": ["hovering cow", "aliens"],
    "a panda making coffee": ["a panda", "coffee"],
    "the chef sliced onions": ["the chef", "onions"],
    "a snow covered roof under a moon": ["a snow covered roof", "a moon"],
    "a truck next to a run down bus": ["a truck", "a run down bus"],
    "a rocking chair and hiking boots": ["a rocking chair", "hiking boots"],
    "a woman is pouring milk": ["a woman", "milk"],
    "The jagged, rocky cliffs rise over a lush, green meadow": [
        "The jagged, rocky cliffs",
        "a lush, green meadow",
    ],
    "a black and white checkered blanket": ["a black and white checkered blanket"],
    "two oranges side-by-side in a bowl": ["two oranges", "a bowl"],
    "a bear is riding on top of a suitcase": ["a bear", "a suitcase"],
}
QUOTES = {
    "A sign that says 'Text to Image'.": ["A sign"],
    "A shop with \u201cFresh Bread\u201d written on it": ["A shop"],
    "a \"big\" cat and a 'small' dog": ['a "big" cat', "a 'small' dog"],
    "dogs' toys beside the cat's bowl": ["dogs' toys", "the cat's bowl"],
}
TABLE = SURROUNDINGS | COMPARISONS | VERBS | QUOTES


@pytest.mark.parametrize(("prompt", "expected"), TABLE.items(), ids=TABLE)
def test_the_things_of_a_free_sentence(prompt: str, expected: list[str]) -> None:
    assert phrases(prompt) == expected


COUNTS = {
    "4 fire hydrant and 5 clock": {"4 fire hydrant": 4, "5 clock": 5},
    "2 person": {"2 person": 2},
    "a 2 story house": {"a 2 story house": 1},
    "2 story house": {"2 story house": 1},
    "a 1960s poster": {"a 1960s poster": 1},
    "a couple dances": {"a couple": 1},
    "a couple of dancers": {"dancers": 2},
}


@pytest.mark.parametrize(("prompt", "expected"), COUNTS.items(), ids=COUNTS)
def test_counts_before_singulars(prompt: str, expected: dict[str, int]) -> None:
    assert Counter(placed.phrase for placed in plan(prompt).objects) == expected


LINKS = {
    "a cup to the upper left of a vase": [
        ("a cup", "left of", "a vase"),
        ("a cup", "above", "a vase"),
    ],
    "a cup to the lower right of a vase": [
        ("a vase", "left of", "a cup"),
        ("a vase", "above", "a cup"),
    ],
    "a cup in the upper left of a box": [("a cup", "in", "a box")],
    "a woman is riding a horse": [("a woman", "on", "a horse")],
    "the surfer rides a wave": [("the surfer", "on", "a wave")],
    "a woman is pouring milk": [("a woman", "next to", "milk")],
    "above the table hangs a lamp": [("a lamp", "above", "the table")],
}


@pytest.mark.parametrize(("prompt", "expected"), LINKS.items(), ids=LINKS)
def test_relations_of_a_free_sentence(prompt: str, expected: list[tuple[str, str, str]]) -> None:
    assert links(prompt) == expected


def test_a_corner_beside_a_thing_is_outside_of_it() -> None:
    cup, vase = (placed.box for placed in plan("a cup to the upper left of a vase").objects)
    assert cup.x1 <= vase.x0 and cup.y1 <= vase.y0


@pytest.mark.parametrize(
    "prompt",
    [
        "Ein Hund sitzt neben einer Katze auf dem Sofa",
        "Un chat noir sur un canap\u00e9 rouge",
        "Dos gatos y un perro en la mesa",
        "Un gatto nero su una sedia con un cane",
        "кошка сидит на диване",
        "\u4e00\u53ea\u732b\u5750\u5728\u7ea2\u8272\u7684\u6c99\u53d1\u4e0a",
    ],
)
def test_other_languages_are_told(prompt: str) -> None:
    with pytest.raises(InputError, match="expected an English sentence"):
        plan(prompt)


@pytest.mark.parametrize(
    "prompt", ["a photo of Notre Dame de la Garde", "une pomme", "a man in a hat holds an apple"]
)
def test_foreign_names_are_no_other_language(prompt: str) -> None:
    assert plan(prompt).objects


@pytest.mark.parametrize("word", ["seaweed", "sapling", "flooring", "bed", "lens", "owl"])
def test_words_that_only_look_like_verbs(word: str) -> None:
    assert form_of(word) is None


@pytest.mark.parametrize("word", ["rocky", "lush", "cube-shaped", "dark-red", "glorious"])
def test_adjectives_by_list_and_ending(word: str) -> None:
    assert is_adjective(word)


SENTENCES = Path(__file__).parents[2] / "benchmarks" / "planner_sentences.jsonl"


def test_free_sentences_that_no_rule_was_made_from() -> None:
    """At most one in ten with a lost object, a verb as an object or a torn phrase."""
    truths = read_truths(SENTENCES)
    faulty = [truth.prompt for truth in truths if faults_of(plan(truth.prompt), truth)]
    assert len(truths) == 120 and len(faulty) <= 12, faulty


def test_files_of_prompts_and_known_plans_are_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    truth, prompts = tmp_path / "truth.jsonl", tmp_path / "prompts.txt"
    truth.write_text(
        '{"prompt": "two red cups left of a plate", "objects": [{"noun": "cup", "count": 2, '
        '"adjectives": ["red"]}, {"noun": "plate"}], "relations": [["cup", "left of", "plate"]]}\n'
        '{"tag": "position", "include": [{"class": "cat", "count": 1}, {"class": "dog", '
        '"count": 1, "position": ["above", 0]}], "prompt": "a dog above a cat"}\n'
        '{"prompt": "three owls", "objects": [{"noun": "owl", "count": 4}]}\n'
    )
    report = bench.score_files(None, truth)
    assert report["right_of"] == {"known plans": [1, 2], "position": [1, 1]}
    assert [failure["prompt"] for failure in report["failures"]] == ["three owls"]
    prompts.write_text("a dog above a cat\na kettle\n")
    assert bench.score_files(prompts, truth)["sentences"] == 1
    assert "'a kettle' -> a kettle" in capsys.readouterr().out


FAULTS = {
    "lost": ("an owl", "owl; clock"),
    "extra": ("an owl and a clock", "owl"),
    "count": ("two owls", "3 owl"),
    "torn": ("an owl", "red owl"),
    "swollen": ("a red owl", "owl"),
}


@pytest.mark.parametrize(("kind", "case"), FAULTS.items(), ids=FAULTS)
def test_every_kind_of_fault_is_seen(kind: str, case: tuple[str, str]) -> None:
    prompt, wanted = case
    objects = []
    for phrase in wanted.split("; "):
        *described, noun = phrase.split()
        count = int(described.pop(0)) if described and described[0].isdigit() else None
        objects.append(Wanted((noun,), count, frozenset(described)))
    assert kind in dict(faults_of(plan(prompt), Truth(prompt, tuple(objects))))


def test_a_wrong_relation_is_seen() -> None:
    truth = Truth("an owl left of a cup", (Wanted(("owl",)), Wanted(("cup",))), ((0, "above", 1),))
    assert faults_of(plan("an owl left of a cup"), truth) == [("relation", "above")]


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "truth.jsonl").write_text('{"prompt": "a cat", "objects": []}\n{"prompt": 1}\n')
    with pytest.raises(ValueError, match="line 2"):
        read_truths(tmp_path / "truth.jsonl")
