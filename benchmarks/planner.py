"""How well the offline planner does what sentences ask.

    python -m benchmarks.planner                       generated sentences
    python -m benchmarks.planner --truth FILE.jsonl    sentences with known plans
    python -m benchmarks.planner --prompts FILE.txt --truth FILE.jsonl

Generated are relations of two objects and counts, in the manner of T2I-CompBench's spatial and
numeracy prompts, and sentences with verbs, surroundings and comparisons. Whether a relation holds
is judged from the boxes alone, by their centres, overlap and gap. ``--truth`` scores prompts of
your own, one JSON object a line, as ``planner_truth.py`` describes; it reads GenEval's metadata
too. ``--prompts`` plans the lines of a text file: those that the truth knows are scored, the others
are shown. Exits with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from random import Random

from realcompo_core.errors import InputError
from realcompo_core.layout.model import Box, Layout
from realcompo_core.planner.rules import plan

from . import ROOT
from .planner_free import free_truths
from .planner_truth import Truth, faults_of, read_truths

GOAL = 0.95
GOAL_FREE = 0.9  # of sentences with known plans
SEED = 20240226
GAP = 0.3  # of the picture: how far apart "next to" may be
NOUNS = """
         balloon bee bird boat book bottle bowl butterfly cake candle car cat chair chicken clock
    computer couch cow cup     desk dog fish fly fork fox frog giraffe girl goat guitar hat horse
    key knife lamp lion man microwave mouse     painting person phone pig plate rabbit
    refrigerator sheep shoe sofa suitcase table train turtle TV umbrella vase     wallet watch
    woman apple egg orange elephant airplane
""".split()  # noqa: SIM905
COMPOUNDS = (
    "traffic light",
    "wine glass",
    "hot dog",
    "teddy bear",
    "fire hydrant",
    "stop sign",
    "bed",
    "building",
)
ATTRIBUTES = (
    "",
    "",
    "",
    "red",
    "small",
    "shiny",
    "wooden",
    "black and white",
    "big, round",
    "old brown",
    "rusty",
    "polka-dot",
)
OPENINGS = (
    "",
    "",
    "",
    "a photo of ",
    "there is ",
    "an oil painting of ",
    "a realistic picture of ",
)
PLURALS = {
    "man": "men",
    "woman": "women",
    "person": "people",
    "mouse": "mice",
    "sheep": "sheep",
    "fish": "fish",
    "knife": "knives",
    "fly": "flies",
    "watch": "watches",
    "fox": "foxes",
    "couch": "couches",
    "butterfly": "butterflies",
    "wine glass": "wine glasses",
    "TV": "TVs",
}
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")


def is_left(a: Box, b: Box) -> bool:
    """a's centre lies left of b's, more to the side than up or down, and the boxes hardly
    overlap.
    """
    dx, dy = offset(a, b)
    return dx > abs(dy) and overlap(a, b) < 0.1


def is_above(a: Box, b: Box) -> bool:
    dx, dy = offset(a, b)
    return dy > abs(dx) and overlap(a, b) < 0.1


def is_next_to(a: Box, b: Box) -> bool:
    across = max(a.x0, b.x0) - min(a.x1, b.x1)
    along = max(a.y0, b.y0) - min(a.y1, b.y1)
    return max(across, along) <= GAP and overlap(a, b) < 0.1


def is_in_front(a: Box, b: Box) -> bool:
    """a reaches lower than b and hides part of it, not all."""
    return a.y1 > b.y1 and a.y0 < b.y1 and b.y0 < a.y0 and 0 < overlap(a, b) < 0.5


def is_inside(a: Box, b: Box) -> bool:
    return b.x0 <= a.x0 and b.y0 <= a.y0 and a.x1 <= b.x1 and a.y1 <= b.y1


def swapped(holds: Callable[[Box, Box], bool]) -> Callable[[Box, Box], bool]:
    return lambda a, b: holds(b, a)


# The first seven are T2I-CompBench's.
RELATIONS: dict[str, Callable[[Box, Box], bool]] = {
    "on the left of": is_left,
    "on the right of": swapped(is_left),
    "on the top of": is_above,
    "on the bottom of": swapped(is_above),
    "next to": is_next_to,
    "near": is_next_to,
    "on side of": is_next_to,
    "to the left of": is_left,
    "to the right of": swapped(is_left),
    "left of": is_left,
    "above": is_above,
    "below": swapped(is_above),
    "on top of": is_above,
    "on": is_above,
    "under": swapped(is_above),
    "beside": is_next_to,
    "in front of": is_in_front,
    "behind": swapped(is_in_front),
    "hidden by": swapped(is_in_front),
    "inside": is_inside,
}


@dataclass(frozen=True)
class Question:
    """A sentence and what must be true of its layout; ``kind`` groups the answers."""

    kind: str
    prompt: str
    holds: Callable[[Layout], bool]


def spatial(random: Random, each: int) -> Iterator[Question]:
    """ "a X on the left of a Y": ``each`` sentences for every relation."""
    for relation, holds in RELATIONS.items():
        for _ in range(each):
            first, second = two_nouns(random)
            middle = random.choice(("", "", "is ", "sitting ", "which stands ")) + relation
            prompt = (
                f"{random.choice(OPENINGS)}{named(random, first)} {middle} {named(random, second)}"
            )
            yield Question(relation, prompt, relation_check(first, second, holds))


def numeracy(random: Random, each: int) -> Iterator[Question]:
    """ "three cats", "2 cups and five boats": ``each`` sentences for every count."""
    for count, name in enumerate(NUMBERS, 1):
        for _ in range(each):
            first, second = two_nouns(random)
            wanted = {first: count}
            phrases = [counted(random.choice((name, str(count))), first, count)]
            if random.random() < 0.5:
                other = random.randrange(len(NUMBERS)) + 1
                wanted[second] = other
                phrases.append(counted(NUMBERS[other - 1], second, other))
            yield Question(
                f"count {count}",
                random.choice(OPENINGS) + " and ".join(phrases),
                count_check(wanted),
            )


def two_nouns(random: Random) -> tuple[str, str]:
    """Nouns that can be told apart by their endings."""
    while True:
        first, second = random.sample([*NOUNS, *COMPOUNDS], 2)
        if not first.endswith(second) and not second.endswith(first):
            return first, second


def named(random: Random, noun: str) -> str:
    phrase = f"{random.choice(ATTRIBUTES)} {noun}".strip()
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def counted(number: str, noun: str, count: int) -> str:
    return f"{number} {noun if count == 1 else plural(noun)}"


def plural(noun: str) -> str:
    return PLURALS.get(noun, noun + "s")


def boxes_of(layout: Layout, noun: str) -> list[Box]:
    """Boxes of the objects whose phrase ends in a noun, singular or plural."""
    endings = (f" {noun}", f" {plural(noun)}")
    return [placed.box for placed in layout.objects if f" {placed.phrase}".endswith(endings)]


def relation_check(
    first: str, second: str, holds: Callable[[Box, Box], bool]
) -> Callable[[Layout], bool]:
    def check(layout: Layout) -> bool:
        one, other = boxes_of(layout, first), boxes_of(layout, second)
        return len(layout.objects) == 2 and len(one) == len(other) == 1 and holds(one[0], other[0])

    return check


def count_check(wanted: dict[str, int]) -> Callable[[Layout], bool]:
    """As many objects of each noun as asked, no others, and none on another."""

    def check(layout: Layout) -> bool:
        boxes = [placed.box for placed in layout.objects]
        apart = all(overlap(a, b) < 0.01 for a, b in combinations(boxes, 2))
        right = all(len(boxes_of(layout, noun)) == count for noun, count in wanted.items())
        return right and apart and len(boxes) == sum(wanted.values())

    return check


def offset(a: Box, b: Box) -> tuple[float, float]:
    """From a's centre to b's."""
    return (b.x0 + b.x1 - a.x0 - a.x1) / 2, (b.y0 + b.y1 - a.y0 - a.y1) / 2


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    shared = max(min(a.x1, b.x1) - max(a.x0, b.x0), 0) * max(min(a.y1, b.y1) - max(a.y0, b.y0), 0)
    return shared / (area(a) + area(b) - shared)


def area(box: Box) -> float:
    return (box.x1 - box.x0) * (box.y1 - box.y0)


def questions(each: int) -> list[Question]:
    """Return ``each`` sentences of every kind, the same at every call."""
    random = Random(SEED)
    asked = [*spatial(random, each), *numeracy(random, each)]
    return asked + [known(truth) for truth in free_truths(random, each)]


def known(truth: Truth) -> Question:
    """Return a sentence with a known plan as a question."""

    def check(layout: Layout) -> bool:
        return not faults_of(layout, truth)

    return Question(truth.kind or "known plans", truth.prompt, check)


def answer(question: Question) -> str | None:
    """Return None where the layout is right, else what came out."""
    try:
        layout = plan(question.prompt)
    except InputError as error:
        return str(error)
    return (
        None if question.holds(layout) else "; ".join(f"{e.phrase} {e.box}" for e in layout.objects)
    )


def measure(each: int) -> dict:
    """Return shares of right layouts for relations, counts and the rest, per kind, and every
    failure.
    """
    report = score(questions(each))
    right_of = report["right_of"]
    counts = [kind for kind in right_of if kind.startswith("count ")]
    others = [kind for kind in right_of if kind not in counts and kind not in RELATIONS]
    return report | {
        "seed": SEED,
        "relations": _share(right_of, list(RELATIONS)),
        "counts": _share(right_of, counts),
        "others": _share(right_of, others),
    }


def score(asked: list[Question]) -> dict:
    """Return how many layouts are right, of how many, for each kind, and every failure."""
    right_of: dict[str, list[int]] = {}
    failures = []
    for question in asked:
        failure = answer(question)
        tally = right_of.setdefault(question.kind, [0, 0])
        tally[0] += failure is None
        tally[1] += 1
        if failure is not None:
            found = {"kind": question.kind, "prompt": question.prompt, "layout": failure}
            failures.append(found)
    return {"sentences": len(asked), "right_of": right_of, "failures": failures}


def _share(right_of: dict[str, list[int]], kinds: list[str]) -> float:
    right = sum(right_of[kind][0] for kind in kinds)
    return right / sum(right_of[kind][1] for kind in kinds)


def score_files(prompts: Path | None, truth: Path | None) -> dict:
    """Score the prompts that the truth knows; show the plans of others.

    Raises ValueError for a wrong line.
    """
    truths = {known.prompt: known for known in (read_truths(truth) if truth else [])}
    lines = list(truths)
    if prompts:
        lines = [line for line in prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
    asked = [known(truths[line]) for line in lines if line in truths]
    for line in lines:
        if line not in truths:
            print(f"{line!r} -> {shown(line)}")
    return score(asked)


def shown(prompt: str) -> str:
    """Return what is planned for a prompt, or why nothing is."""
    try:
        return "; ".join(f"{e.phrase} {e.box}" for e in plan(prompt).objects)
    except InputError as error:
        return str(error)


def main() -> int:
    """Run the benchmark of the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--each", type=int, default=200, help="generated sentences of every kind (200)")
    add("--prompts", type=Path, help="a text file, one prompt a line")
    add("--truth", type=Path, help="known plans, one JSON object a line")
    add("--output", type=Path, default=ROOT / "output" / "bench" / "planner.json")
    options = parser.parse_args()
    files = options.prompts or options.truth
    report = score_files(options.prompts, options.truth) if files else measure(options.each)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    for failure in report["failures"]:
        print(f"FAILED {failure['kind']}: {failure['prompt']!r} -> {failure['layout']}")
    for kind, (right, asked) in report["right_of"].items():
        print(f"{kind:24} {right:4} of {asked} ({right / asked:.1%})")
    if files:
        return _verdict(report)
    shares = ", ".join(f"{name} {report[name]:.1%}" for name in ("relations", "counts", "others"))
    print(f"{shares}; {options.output}")
    return int(min(report["relations"], report["counts"], report["others"]) < GOAL)


def _verdict(report: dict) -> int:
    right = sum(found for found, _ in report["right_of"].values())
    if not report["sentences"]:
        return 0
    print(f"{right} of {report['sentences']} right ({right / report['sentences']:.1%})")
    return int(right / report["sentences"] < GOAL_FREE)


if __name__ == "__main__":
    sys.exit(main())
