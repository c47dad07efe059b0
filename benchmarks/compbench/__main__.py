"""Images of a prompt file, made by ComfyUI servers, where T2I-CompBench's evaluators read them.

    python -m benchmarks.compbench complex_val.txt --out output/compbench/complex \\
        --workflow workflows/realcompo_layout_planned.json

That workflow takes Stable Diffusion 1.5 and GLIGEN, and plans each prompt's layout offline; any
other that saves one image will do. A running server is driven over HTTP (``--server URL``, several
on Ray), or servers are started (``--start-servers N``). The same command goes on with a run that
was stopped: finished images stay, failed ones are tried again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from realcompo_core.errors import InputError
from testkit.client import ServerError

from .crew import Crew, crew_of
from .folder import Folder
from .jobs import Job, jobs_of, read_layouts, read_prompts
from .template import Names, Template, read_template
from .worker import Effort, Site

SERVER = "http://127.0.0.1:8188"


def run(options: argparse.Namespace) -> int:
    """Make what is missing of a run; returns how many images could not be made."""
    layouts = read_layouts(options.layouts) if options.layouts else None
    jobs = jobs_of(read_prompts(options.prompts), layouts, options.images, options.seed)
    effort = Effort(options.tries, limit=options.limit, patience=options.patience)
    with crew_of(sites(options), effort, options.ray) as crew:
        names = Names(
            options.prompt_input, options.seed_input, options.layout_input, options.image_node
        )
        template = read_template(
            options.workflow, crew.definitions(), names, with_layouts=layouts is not None
        )
        folder = Folder(options.out)
        folder.settle(settings(template, jobs, options), changed=options.changed)
        return make(crew, template, folder, jobs)


def make(crew: Crew, template: Template, folder: Folder, jobs: Sequence[Job]) -> int:
    """Make the missing images, with progress; returns how many could not be made."""
    missing, failed = folder.missing(jobs), 0
    with tqdm(total=len(jobs), initial=len(jobs) - len(missing), unit="image") as progress:
        for outcome in crew.make(template, missing):
            if outcome.image is not None:
                folder.keep(outcome.job, outcome.image)
                progress.update()
            else:
                folder.fail(outcome.job, outcome.errors)
                failed += 1
                progress.set_postfix(failed=failed)
    return failed


def settings(
    template: Template, jobs: Sequence[Job], options: argparse.Namespace
) -> dict[str, Any]:
    """All that the images depend on, but for models and ComfyUI's version."""
    return template.settings() | {
        "prompts": digest([job.prompt for job in jobs]),
        "layouts": digest([job.layout for job in jobs]),
        "images": options.images,
        "seed": options.seed,
    }


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def sites(options: argparse.Namespace) -> list[Site]:
    """The servers that are running, and those to be started."""
    if options.start_servers and not os.environ.get("COMFYUI_PATH"):
        raise InputError(
            "COMFYUI_PATH", "ComfyUI's folder", "nothing", "Set it, or run this with .host/run."
        )
    running = [Site(url) for url in options.server or ([] if options.start_servers else [SERVER])]
    return running + [Site(models=options.models, cpu=options.cpu)] * options.start_servers


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="compbench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("prompts", type=Path, help="a text file, one prompt a line")
    add(
        "--workflow", type=Path, required=True, help="a ComfyUI workflow, as saved or in API format"
    )
    add("--out", type=Path, required=True, help="the run's folder; images go to its samples/")
    add(
        "--layouts",
        type=Path,
        help='.json {"prompt": layout}, or .jsonl {"prompt": ..., "layout": ...} a line',
    )
    add("--images", type=int, default=10, help="images of each prompt (10, as the benchmark's)")
    add("--seed", type=int, default=42, help="image i of prompt p gets seed + 1000 p + i (42)")
    add("--server", nargs="+", metavar="URL", help=f"running ComfyUI servers ({SERVER})")
    add(
        "--start-servers",
        type=int,
        default=0,
        metavar="N",
        help="start N servers of COMFYUI_PATH with this pack",
    )
    add("--models", type=Path, help="the started servers' models folder (COMFYUI_PATH/models)")
    add("--cpu", action="store_true", help="start servers on the CPU")
    add(
        "--ray",
        metavar="ADDRESS",
        help="a Ray cluster, or auto; several servers start one on this machine",
    )
    add(
        "--prompt-input",
        nargs="+",
        default=(),
        metavar="NODE.INPUT",
        help="what takes the prompt, by node id or type",
    )
    add("--seed-input", nargs="+", default=(), metavar="NODE.INPUT", help="what takes the seed")
    add("--layout-input", nargs="+", default=(), metavar="NODE.INPUT", help="what takes the layout")
    add("--image-node", metavar="NODE", help="the node that saves the image")
    add("--tries", type=int, default=3, help="attempts at an image, with growing pauses (3)")
    add("--limit", type=float, default=1800, metavar="SECONDS", help="for one attempt (1800)")
    add(
        "--patience",
        type=float,
        default=300,
        metavar="SECONDS",
        help="for a server to come back (300)",
    )
    add(
        "--changed",
        action="store_true",
        help="go on in a folder that was begun with other settings",
    )
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Exit status: 0 all images are there, 1 some are not, 2 nothing could be begun."""
    options = arguments(given)
    try:
        failed = run(options)
    except InputError as error:
        print(f"compbench: {error}", file=sys.stderr)
        return 2
    except (ServerError, KeyboardInterrupt) as error:
        print(
            f"\ncompbench: {str(error) or 'stopped'}\nThe same command goes on from here.",
            file=sys.stderr,
        )
        return 1
    if failed:
        print(
            f"compbench: {failed} images could not be made, see "
            f"{options.out / 'failures.jsonl'}; the evaluators "
            "count images, so the scores need them. The same command tries them again.",
            file=sys.stderr,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
