"""T2I-CompBench's images by way of real servers.

Names, places in workflows, stops, failures, and Ray.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
from PIL import Image

from benchmarks.compbench import __main__ as compbench
from benchmarks.compbench.__main__ import main
from benchmarks.compbench.graph import Graph, Place
from benchmarks.compbench.jobs import Job, jobs_of, read_layouts, read_prompts
from benchmarks.compbench.template import Names, Template, read_template
from realcompo_core.errors import InputError
from testkit import ROOT, comfyui
from testkit.client import Client

pytestmark = pytest.mark.xdist_group("server")

WORKFLOW = Path(__file__).with_name("compbench.json")
LAYOUTS = {
    "a red circle and a blue square on grass": (
        "red circle: 0.1 0.3 0.45 0.7\nblue square: 0.55 0.3 0.9 0.7"
    ),
    "a yellow ring on the sand.": {
        "objects": [{"phrase": "yellow ring", "box": [0.3, 0.3, 0.7, 0.7]}]
    },
}
IMAGES = 6


def ask(server: Client, path: str) -> Any:
    with urlopen(f"{server.url}/{path}") as reply:
        return json.load(reply)


def arguments(
    folder: Path, *more: str, layouts: dict | None = None, images: int = IMAGES
) -> list[str]:
    """A command line for the prompts above, and the files that it names."""
    folder.mkdir(exist_ok=True)
    (folder / "prompts.txt").write_bytes("\r\n".join(LAYOUTS).encode())
    (folder / "layouts.json").write_text(json.dumps(layouts or LAYOUTS))
    files = [
        str(folder / "prompts.txt"),
        "--layouts",
        str(folder / "layouts.json"),
        "--workflow",
        str(WORKFLOW),
    ]
    return [*files, "--out", str(folder / "out"), "--images", str(images), *more]


@contextmanager
def started(given: Sequence[str]) -> Iterator[subprocess.Popen]:
    """The command in a process of its own, which ends with the test, and so do the files that it
    leaves when killed.
    """
    command = [sys.executable, "-m", "benchmarks.compbench", *given]
    heeding = partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # what is started in the background ignores it
    pipes = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
        "preexec_fn": heeding,
    }
    with (
        TemporaryDirectory(ignore_cleanup_errors=True) as short,  # Ray's sockets bear no long path
        subprocess.Popen(command, cwd=ROOT, env=os.environ | {"TMPDIR": short}, **pipes) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def names(folder: Path) -> list[str]:
    samples = folder / "out" / "samples"
    return sorted(os.listdir(samples), key=number_of) if samples.exists() else []


def number_of(name: str) -> int:
    """As the evaluators read it."""
    return int(name.rpartition("_")[2].partition(".")[0])


def pictures(folder: Path) -> dict[str, bytes]:
    found = {}
    for name in names(folder):
        with Image.open(folder / "out" / "samples" / name) as image:
            found[name] = image.convert("RGB").tobytes()
    return found


def wait_for_images(folder: Path, process: subprocess.Popen, count: int) -> None:
    wait_until(lambda: len(names(folder)) >= count, process)


def wait_until(condition: Callable[[], Any], process: subprocess.Popen | None = None) -> Any:
    """What a condition comes to be, while a process, if any, still runs."""
    deadline = time.monotonic() + 200
    while not (found := condition()):
        assert process is None or process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def server_below(driver: int) -> psutil.Process:
    """The ComfyUI that a run has started.

    The first of its line, for it may be starting a process itself.
    """
    main_file = str(comfyui.folder() / "main.py")
    return next(
        process
        for process in psutil.Process(driver).children(recursive=True)
        if runs(process, main_file)
    )


def runs(process: psutil.Process, file: str) -> bool:
    try:
        return file in process.cmdline()
    except psutil.Error:  # it has just ended
        return False


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def changed(folder: Path, **inputs: Any) -> Path:
    """The workflow with other inputs of its sampler."""
    nodes = json.loads(WORKFLOW.read_text())
    nodes["7"]["inputs"] |= inputs
    (folder / "changed.json").write_text(json.dumps(nodes))
    return folder / "changed.json"


@pytest.fixture(scope="module")
def whole(server: Client, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The pictures of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    assert main(arguments(folder, "--server", server.url)) == 0
    return pictures(folder)


# Prompts, names and layouts


def test_images_are_named_and_numbered_as_the_evaluators_read_them(whole: dict[str, bytes]) -> None:
    prompts = list(LAYOUTS)
    assert [name.split("_")[0] for name in whole] == [prompts[0]] * IMAGES + [prompts[1]] * IMAGES
    assert [number_of(name) for name in whole] == list(range(2 * IMAGES))
    assert f"{prompts[1]}_{IMAGES:06d}.png" in whole
    assert len(set(whole.values())) == 2 * IMAGES and all(
        len(data) == 128 * 128 * 3 for data in whole.values()
    )


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("The clock reads 11:44.", "The clock reads 11:44._000007.png"),
        ("a spherical piñata", "a spherical piñata_000007.png"),
        ("black and/or white_cat", "black and or white cat_000007.png"),
        ("../a cat", ".. a cat_000007.png"),
    ],
)
def test_a_prompt_stays_as_it_is_where_a_file_name_can_hold_it(prompt: str, name: str) -> None:
    assert Job(7, prompt, 0).name == name


def test_seeds_depend_on_prompt_and_image_only() -> None:
    two, three = (jobs_of(["a", "b"], None, images, 42) for images in (2, 3))
    assert [(job.number, job.seed) for job in two] == [(0, 42), (1, 43), (2, 1042), (3, 1043)]
    assert [job.seed for job in three if job.prompt == "b"][:2] == [1042, 1043]


def test_prompt_files_are_read_as_the_benchmark_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffa cat\r\na café. \r\n\r\na dog\tanimal\r\n".encode())
    assert read_prompts(path) == ["a cat", "a café. ", "a dog"]


@pytest.mark.parametrize(
    ("layouts", "told"),
    [
        (
            '{"prompt": "a cat", "layout": "cat: 0 0 1 1"}\n'
            '{"prompt": "a cat", "layout": "cat: 0 0 1 0.5"}',
            "two for",
        ),
        (
            '{"prompt": "a cat", "layout": "cat: 0.9 0 0.1 1"}',
            "layouts, 'a cat', line 1, box: expected",
        ),
        ('{"prompt": "a cat"}', "line 1: expected"),
        ('{"prompt": "a dog", "layout": "dog: 0 0 1 1"}', "none for 'a cat'"),
        ("cat: 0 0 1 1", "line 1: expected JSON"),
    ],
)
def test_bad_layouts_are_told_before_anything_runs(tmp_path: Path, layouts: str, told: str) -> None:
    path = tmp_path / "layouts.jsonl"
    path.write_text(layouts)
    with pytest.raises(InputError, match=told):
        jobs_of(["a cat"], read_layouts(path), 1, 0)


def test_prompts_that_no_file_name_holds_are_told() -> None:
    with pytest.raises(InputError, match="at most 255 bytes"):
        jobs_of(["a very " * 40 + "long prompt"], None, 1, 0)


# Where prompt, seed and layout go in a workflow


def template(
    path: Path, definitions: dict, names: Names | None = None, *, with_layouts: bool = True
) -> Template:
    return read_template(path, definitions, names or Names(), with_layouts=with_layouts)


def test_places_are_found_in_a_saved_workflow(definitions: dict) -> None:
    found = template(ROOT / "workflows" / "realcompo_layout_gligen.json", definitions)
    assert (found.prompts, found.seeds, found.layouts) == (
        (Place("4", "text"),),
        (Place("8", "seed"),),
        (Place("3", "layout"),),
    )
    queued = found.filled(Job(0, "a cat", 5, "cat: 0 0 1 1"))
    assert queued["4"]["inputs"]["text"] == "a cat" and queued["8"]["inputs"]["seed"] == 5
    assert queued["3"]["inputs"]["layout"] == "cat: 0 0 1 1"
    assert not {"RealCompoTracePreview", "RealCompoLayoutPreview"} & {
        node["class_type"] for node in queued.values()
    }


def test_the_example_is_a_workflow_on_real_checkpoints(definitions: dict) -> None:
    """The command in the help names it.

    Prompts, seeds and the image are found in it, no layout is wanted.
    """
    path = ROOT / "workflows" / "realcompo_layout_planned.json"
    assert f"workflows/{path.name}" in (compbench.__doc__ or "")
    found = template(path, definitions, with_layouts=False)
    assert (found.prompts, found.seeds, found.layouts) == (
        (Place("14", "value"),),
        (Place("8", "seed"),),
        (),
    )
    queued = found.filled(Job(0, "a cat", 5, None))
    assert queued["14"]["inputs"]["value"] == "a cat" and queued["8"]["inputs"]["seed"] == 5


STOCK = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a"}},
    "2": {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "a corgi"}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ["2", 0]}},
    "4": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "blurry"}},
    "5": {
        "class_type": "ControlNetApplyAdvanced",
        "inputs": {"positive": ["3", 0], "negative": ["4", 0]},
    },
    "6": {
        "class_type": "KSampler",
        "inputs": {"positive": ["5", 0], "negative": ["5", 1], "seed": 1},
    },
    "7": {"class_type": "VAEDecode", "inputs": {"samples": ["6", 0]}},
    "8": {"class_type": "SaveImage", "inputs": {"images": ["7", 0]}},
}


def saved(folder: Path, **changes: dict) -> Path:
    """The stock workflow with other inputs of some nodes."""
    nodes = {
        key: node | {"inputs": node["inputs"] | changes.get(f"n{key}", {})}
        for key, node in STOCK.items()
    }
    (folder / "workflow.json").write_text(json.dumps(nodes))
    return folder / "workflow.json"


def test_the_prompt_is_found_through_links(tmp_path: Path, definitions: dict) -> None:
    found = template(saved(tmp_path), definitions, with_layouts=False)
    assert (found.prompts, found.seeds) == ((Place("2", "value"),), (Place("6", "seed"),))


def test_a_place_may_be_named(tmp_path: Path, definitions: dict) -> None:
    names = Names(prompts=["CLIPTextEncode.text"], seeds=["6.seed"])
    found = template(
        saved(tmp_path, n3={"text": "a corgi"}), definitions, names, with_layouts=False
    )
    assert found.prompts == (Place("3", "text"), Place("4", "text"))


@pytest.mark.parametrize(
    ("changes", "names", "told"),
    [
        (
            {"n6": {"spatial_positive": ["4", 0]}},
            Names(),
            "one input for the prompt, got several: 2.value, 4.text",
        ),
        (
            {"n6": {"positive": "nothing"}, "n5": {"positive": "nothing"}},
            Names(),
            "one input for the prompt, got none",
        ),
        ({"n3": {"seed": 2}}, Names(), "one input for the seed, got several: 3.seed, 6.seed"),
        ({"n7": {"samples": ["99", 0]}}, Names(), "none behind 7.samples"),
        ({}, Names(seeds=["6.noise"]), "got 6.noise, which is not there"),
        ({}, Names(prompts=["3.text"]), "got 3.text, which is linked"),
        ({}, Names(image="5"), "one input for the seed, got none"),
        ({}, Names(image="Nothing"), "one node that saves the image, got none"),
    ],
)
def test_what_is_unclear_is_told(
    tmp_path: Path, definitions: dict, changes: dict, names: Names, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        template(saved(tmp_path, **changes), definitions, names, with_layouts=False)


def test_layouts_and_workflow_must_fit(tmp_path: Path, definitions: dict) -> None:
    with pytest.raises(
        InputError, match=r"a layout for every prompt, got none, and a workflow whose 2\.layout"
    ):
        template(WORKFLOW, definitions, with_layouts=False)
    with pytest.raises(InputError, match="one input for the layout, got none"):
        template(saved(tmp_path), definitions)


def test_settings_tell_workflows_apart_not_the_prompts_they_were_saved_with(tmp_path: Path) -> None:
    def settings(**values: Any) -> dict:
        graph = Graph(
            {"1": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 20} | values}}, {}
        )
        return Template(graph, (), (Place("1", "seed"),), (), "1").settings()

    assert settings() == settings(seed=2) != settings(steps=30)


# Stops, failures and settings


def test_a_killed_run_goes_on_where_it_was(
    server: Client, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """Killed with a server of its own, which ends too; the rest is made by the running server."""
    with started(arguments(tmp_path, "--start-servers", "1", "--cpu")) as process:
        wait_for_images(tmp_path, process, 4)
        its_server = server_below(process.pid)
    psutil.wait_procs([its_server], timeout=60)
    assert not is_alive(its_server)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "samples").iterdir()}
    assert 4 <= len(before) < len(whole) and pictures(tmp_path).items() <= whole.items()
    (tmp_path / "out" / "part-1").write_bytes(b"half an image")

    earlier = len(ask(server, "history"))
    assert main(arguments(tmp_path, "--server", server.url)) == 0
    assert pictures(tmp_path) == whole
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(ask(server, "history")) - earlier == len(whole) - len(before)


def test_an_interrupted_run_takes_its_image_back(server: Client, tmp_path: Path) -> None:
    given = arguments(
        tmp_path, "--server", server.url, "--workflow", str(changed(tmp_path, steps=1000))
    )
    with started(given) as process:
        running = wait_until(lambda: ask(server, "queue")["queue_running"], process)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "stopped\nThe same command goes on from here" in told
    wait_until(lambda: not ask(server, "queue")["queue_running"])
    [[_, prompt_id, *_]] = running
    assert ask(server, "history")[prompt_id]["status"]["messages"][-1][0] == "execution_interrupted"


def test_a_run_keeps_to_its_settings(
    server: Client, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    given = arguments(tmp_path, "--server", server.url, images=1)
    assert main(given) == 0 and len(names(tmp_path)) == 2
    assert main([*given, "--seed", "7"]) == 2
    assert "expected those it was begun with, got other seed" in capsys.readouterr().err
    assert main([*given, "--seed", "7", "--changed"]) == 0 and len(names(tmp_path)) == 2
    assert [
        run["seed"] for run in json.loads((tmp_path / "out" / "run.json").read_text())["runs"]
    ] == [42, 7]
    (tmp_path / "out" / "samples" / "notes.txt").touch()
    assert main([*given, "--seed", "7"]) == 2
    assert "expected images of this run only, got 'notes.txt'" in capsys.readouterr().err


def test_failures_are_recorded_and_tried_again(
    server: Client, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    first, second = LAYOUTS
    wrong = {first: "purple cross: 0.1 0.3 0.45 0.7", second: LAYOUTS[second]}
    common = ("--server", server.url, "--tries", "2")
    assert main(arguments(tmp_path, *common, layouts=wrong, images=2)) == 1
    assert "2 images could not be made" in capsys.readouterr().err
    failures = [
        json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()
    ]
    assert [(failure["number"], failure["prompt"], failure["seed"]) for failure in failures] == [
        (0, first, 42),
        (1, first, 43),
    ]
    assert all(
        len(failure["errors"]) == 2 and "purple cross" in failure["errors"][1]
        for failure in failures
    )
    assert [number_of(name) for name in names(tmp_path)] == [2, 3]

    assert main(arguments(tmp_path, *common, "--changed", images=2)) == 0
    assert [number_of(name) for name in names(tmp_path)] == [0, 1, 2, 3]
    assert not (tmp_path / "out" / "failures.jsonl").exists()


def test_an_error_that_cannot_change_is_not_tried_again(server: Client, tmp_path: Path) -> None:
    """Twice for the first image of a prompt, never for its others."""
    first, second = LAYOUTS
    wrong = {first: "purple cross: 0.1 0.3 0.45 0.7", second: LAYOUTS[second]}
    earlier = len(ask(server, "history"))
    given = arguments(tmp_path, "--server", server.url, "--tries", "9", layouts=wrong, images=3)
    assert main(given) == 1
    assert len(ask(server, "history")) - earlier == 2 + 3
    lines = (tmp_path / "out" / "failures.jsonl").read_text().splitlines()
    failures = [json.loads(line) for line in lines]
    assert [failure["number"] for failure in failures] == [0, 1, 2]
    assert all(len(failure["errors"]) == 2 for failure in failures)


def test_a_planner_makes_the_layouts(server: Client, tmp_path: Path) -> None:
    """Without given layouts; the images of a prompt share its plan."""
    nodes = json.loads(WORKFLOW.read_text())
    planner = {"prompt": "a corgi", "profile": "offline", "seed": 3}
    nodes["2"] = {"class_type": "RealCompoLayoutPlanner", "inputs": planner}
    (tmp_path / "planned.json").write_text(json.dumps(nodes))
    (tmp_path / "prompts.txt").write_text(
        "a red circle to the left of a blue square\na yellow ring\n"
    )
    files = [
        str(tmp_path / "prompts.txt"),
        "--workflow",
        str(tmp_path / "planned.json"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*files, "--server", server.url, "--images", "2"]) == 0
    assert [number_of(name) for name in names(tmp_path)] == [0, 1, 2, 3]
    places = json.loads((tmp_path / "out" / "run.json").read_text())["runs"][0]["places"]
    assert places == {
        "prompts": ["2.prompt", "3.text"],
        "seeds": ["7.seed"],
        "layouts": [],
        "image": "9",
    }
    [queued] = [run["prompt"][2] for run in list(ask(server, "history").values())[-1:]]
    assert queued["2"]["inputs"] == planner | {"prompt": "a yellow ring"}


def test_an_image_that_takes_too_long_is_stopped(server: Client, tmp_path: Path) -> None:
    assert (
        main(
            arguments(tmp_path, "--server", server.url, "--tries", "1", "--limit", "0.01", images=1)
        )
        == 1
    )
    [one, _] = (tmp_path / "out" / "failures.jsonl").read_text().splitlines()
    assert "TimeoutError after 0.01 s" in json.loads(one)["errors"][0] and not names(tmp_path)
    queue = ask(server, "queue")
    assert not queue["queue_pending"] and len(queue["queue_running"]) <= 1


def test_a_workflow_that_the_server_refuses_ends_the_run(
    server: Client, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    given = arguments(
        tmp_path, "--server", server.url, "--workflow", str(changed(tmp_path, steps=0))
    )
    assert main(given) == 1
    assert "RealCompoKSampler: Value 0 smaller than min of 1 (steps)" in capsys.readouterr().err
    assert not names(tmp_path) and not (tmp_path / "out" / "failures.jsonl").exists()


def test_a_server_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(arguments(tmp_path, "--server", "http://127.0.0.1:1")) == 1
    assert "no ComfyUI answers at http://127.0.0.1:1" in capsys.readouterr().err


def test_half_a_picture_counts_as_none(whole: dict[str, bytes]) -> None:
    from benchmarks.compbench.worker import _whole_png

    Image.new("RGB", (64, 64), "red").save(png := io.BytesIO(), "PNG")
    assert _whole_png(png.getvalue()) == png.getvalue()
    with pytest.raises(OSError):
        _whole_png(png.getvalue()[:-30])


def test_on_ray_a_lost_worker_loses_no_image(
    server: Client, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """Two workers, one with the running server and one with a server of its own, which is killed
    with it.
    """
    with started(
        arguments(tmp_path, "--server", server.url, "--start-servers", "1", "--cpu")
    ) as process:
        wait_for_images(tmp_path, process, 2)
        its_server = server_below(process.pid)
        victim = its_server.parent()
        assert victim.cmdline()[0].startswith("ray::Worker")
        victim.kill()
        psutil.wait_procs([victim, its_server], timeout=60)
        assert not is_alive(victim) and not is_alive(its_server)
        told, _ = process.communicate(timeout=600)
    assert process.returncode == 0, told
    assert pictures(tmp_path) == whole
