"""The composition benchmark in small: what the paper says of each branch holds in direction."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.arms import ARMS, STATIC
from benchmarks.quality import code_hash, lines_of, scored
from benchmarks.search import candidates
from benchmarks.statistics import MEASURES, above, front, measures, resamples
from testkit.server import ROOT

PROMPTS = 18
MISSING = 3  # prompts that a stopped run has not come to
ARMS_OF_A_QUICK_RUN = 4

pytestmark = pytest.mark.xdist_group("quality")


def quality(output: Path, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "benchmarks.quality", "--quick", "--output", str(output)]
    command += options
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quality")
    done = quality(folder, "--prompts", str(PROMPTS))
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def arms(output: Path) -> dict[str, dict]:
    return report(output)["arms"]


def report(output: Path) -> dict:
    """Under a name of its own: a quick look leaves the whole benchmark's report as it is."""
    return json.loads((output / f"composition-held-out-control-{PROMPTS}x1.json").read_text())


def test_the_report_counts_the_code_that_made_its_scores(
    output: Path, arms: dict[str, dict]
) -> None:
    assert report(output)["code"] == {code_hash(): PROMPTS * len(arms)}


def test_the_text_branch_looks_real_and_the_spatial_branch_places(arms: dict[str, dict]) -> None:
    text, spatial = arms["text only"], arms["spatial only"]
    assert text["realism"] > 0.8 and spatial["realism"] < 0.4
    assert spatial["placed"] > 0.6
    assert text["composition"] < spatial["composition"] - 0.1 and text["placed"] < 0.3


def test_balancing_composes_better_than_text_and_looks_better_than_spatial(
    arms: dict[str, dict],
) -> None:
    text, spatial, dynamic = (
        arms[name] for name in ("text only", "spatial only", "dynamic balanced")
    )
    assert dynamic["composition"] > text["composition"] + 0.05
    assert dynamic["realism"] > spatial["realism"] + 0.15
    assert dynamic["joint"] > max(text["joint"], spatial["joint"])


def test_every_arm_has_every_measure_with_its_interval(arms: dict[str, dict]) -> None:
    for row in arms.values():
        for name in MEASURES:
            low, high = row["ci"][name]
            assert 0 <= low <= row[name] <= high <= 1
        assert set(row["by_category"]) == {
            "colour",
            "shape",
            "texture",
            "spatial",
            "numeracy",
            "complex",
        }


@pytest.fixture(scope="module")
def stopped(output: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as if it had been stopped: some prompts have no scores, and one line is cut off."""
    copy = tmp_path_factory.mktemp("stopped")
    shutil.copytree(output, copy, dirs_exist_ok=True)
    for file in scores_of(copy).glob("*.jsonl"):
        kept = [line for line in file.read_text().splitlines(True) if not missing(line)]
        file.write_text("".join(kept))
    file.write_text("".join(kept)[:-20])
    return copy


def missing(line: str) -> bool:
    return json.loads(line)["prompt"] < MISSING


def scores_of(output: Path) -> Path:
    return next(path for path in output.iterdir() if path.is_dir())


def pixels(output: Path) -> dict[tuple[str, int], str]:
    """A hash of each arm's picture of each prompt."""
    lines = lines_of(scores_of(output))
    hashes = {(each["arm"], each["prompt"]): each["pictures"][0]["pixels"] for each in lines}
    assert len(hashes) == len(lines)  # nothing is scored twice
    return hashes


def test_a_stopped_run_goes_on_where_it_was_and_makes_the_same_pictures(
    output: Path, stopped: Path
) -> None:
    """Bit for bit, in another process; a line that was cut off is scored again."""
    whole, left = pixels(output), pixels(stopped)
    assert len(left) == len(whole) - MISSING * ARMS_OF_A_QUICK_RUN - 1
    done = quality(stopped, "--prompts", str(PROMPTS), "--workers", "1")
    assert done.returncode == 0, done.stderr[-2000:]
    assert pixels(stopped) == whole


def test_scores_of_other_settings_do_not_count(tmp_path: Path) -> None:
    arm = next(arm for arm in ARMS if arm.name == "dynamic balanced")
    line = {"arm": arm.name, "balancer": arm.balancer, "prompt": 1, "pictures": []}
    first = {**line, "prompt": 0}
    others = [
        {**line, "balancer": {**arm.balancer, "lean": -1.0}},
        {**line, "prompt": 3},
        {**line, "arm": "unknown"},
    ]
    (tmp_path / "0.jsonl").write_text(
        "".join(json.dumps(each) + "\n" for each in (*others, line, first))
    )
    # Of two runs at one time: it counts once.
    (tmp_path / "1.jsonl").write_text(json.dumps(line) + "\n")
    assert scored([arm], 3, tmp_path) == [first, line]


# The arithmetic


def test_the_front_is_what_no_other_point_beats_and_above_is_the_height_over_it() -> None:
    points = [(0.2, 0.9), (0.5, 0.5), (0.4, 0.4), (0.9, 0.3)]
    assert front(points) == [(0.2, 0.9), (0.5, 0.5), (0.9, 0.3)]
    assert above((0.35, 0.8), points) == pytest.approx(0.1)
    assert above((0.7, 0.3), points) == pytest.approx(-0.1)


def test_joint_is_the_harmonic_mean_of_means_and_resamples_stay_paired() -> None:
    import numpy as np

    scores = {"composition": np.array([1.0, 0.0]), "realism": np.array([0.5, 0.5])}
    assert measures(scores, np.arange(2))["joint"] == pytest.approx(0.5)
    assert (resamples(5) == resamples(5)).all()


def test_arms_have_names_of_their_own_and_dynamic_ones_say_so() -> None:
    everything = [*ARMS, *candidates()]
    assert len({arm.name for arm in everything}) == len(everything)
    assert not any(arm.dynamic for arm in STATIC)
