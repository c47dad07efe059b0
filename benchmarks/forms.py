"""What costs the text branch more: a kind of object or a form of sentence that training lacked?

``python -m benchmarks.forms``: one object each, through real nodes, by the base alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from statistics import mean

from demo.judging.prompts import Prompt, sentence
from demo.toy.captions import Caption, ground_words, noun_words
from demo.toy.picture import GROUNDS, HELD_OUT_PAIRS, TRAINING_PAIRS, ToyScene, place
from testkit.quiet_host import quiet_host

from .arms import Arm
from .quality import Studio

SEED, PROMPTS, BATCH = 5, 14, 2
KINDS = {"trained": TRAINING_PAIRS, "held-out": tuple(sorted(HELD_OUT_PAIRS))}
FORMS = ("trained", "development", "held-out")


def asked(kinds: str, form: str) -> Iterator[Prompt]:
    """Draw prompts for one object and its ground."""
    random = Random(SEED)
    for _ in range(PROMPTS):
        things = place(random, [random.choice(KINDS[kinds])]) or ()
        scene = ToyScene(things, random.choice(GROUNDS))
        text = sentence(random, form, scene) if form != "trained" else plain(random, scene)
        yield Prompt("texture", text, scene, None, asks_ground=True)


def plain(random: Random, scene: ToyScene) -> Caption:
    """Draw a sentence as in training: "a red ball on grass"."""
    words = noun_words(random, scene.things[0], (0,))
    return Caption((*words, *ground_words(random, scene.ground)))


def share_right(studio: Studio, of: Iterator[Prompt]) -> float:
    """Return the share of the text branch's pictures that are all right."""
    arm = Arm("text only", stock="text")
    scores: list[dict] = []
    for seed, prompt in enumerate(of):
        scores += studio.scores(prompt, arm, seed)
    return mean(score["success"] for score in scores)


def main() -> None:
    """Print the share for every kind of object and every form of sentence."""
    with quiet_host() as host:
        studio = Studio(host, batch=BATCH)
        for kinds in KINDS:
            for form in FORMS:
                right = share_right(studio, asked(kinds, form))
                of = f"{PROMPTS * BATCH} pictures"
                print(f"{kinds} kinds, {form} sentences: {right:.0%} of {of} right", flush=True)


if __name__ == "__main__":
    main()
