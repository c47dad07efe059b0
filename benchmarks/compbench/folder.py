"""A run's folder: its settings, its images as the evaluators read them, and what could not be made.

``samples/`` holds whole images and nothing else, for the evaluators take every file there for one.
``run.json`` says what they were made with, ``failures.jsonl`` which could not be made by the last
run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from realcompo_core.errors import InputError

from .jobs import Job

VERSION = 1


@dataclass(frozen=True)
class Folder:
    """The folder at ``path``, made when a run settles in it."""

    path: Path

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    def settle(self, settings: Mapping[str, Any], *, changed: bool) -> None:
        """Begin or go on with a run; ``settings`` are all that the images depend on.

        Raises :class:`InputError` if images stand here that were made with others, unless
        ``changed`` says that this is meant: ``run.json`` then lists the earlier settings too.
        """
        self.samples.mkdir(parents=True, exist_ok=True)
        runs = self._runs()
        if runs and runs[-1] != settings and not changed:
            different = [name for name in settings if runs[-1].get(name) != settings[name]]
            fix = (
                "Give another --out, the same settings, or --changed to keep the finished "
                "images and go on."
            )
            raise InputError(
                f"settings of {self.path}",
                "those it was begun with",
                f"other {', '.join(different)}",
                fix,
            )
        if not runs or runs[-1] != settings:
            text = json.dumps({"version": VERSION, "runs": [*runs, settings]}, indent=2)
            self._write(self.path / "run.json", f"{text}\n".encode())
        (self.path / "failures.jsonl").unlink(missing_ok=True)

    def missing(self, jobs: Sequence[Job]) -> list[Job]:
        """The images still to make.

        Raises :class:`InputError` for files that an evaluator would wrongly read.
        """
        found = set(os.listdir(self.samples))
        strangers = sorted(found - {job.name for job in jobs})
        if strangers:
            fix = "The evaluators read every file there: move it away."
            raise InputError(str(self.samples), "images of this run only", repr(strangers[0]), fix)
        return [job for job in jobs if job.name not in found]

    def keep(self, job: Job, image: bytes) -> None:
        """A finished image, all of it or none."""
        self._write(self.samples / job.name, image)

    def fail(self, job: Job, errors: Sequence[str]) -> None:
        """An image that could not be made, with the error of every attempt."""
        with (self.path / "failures.jsonl").open("a", encoding="utf-8") as file:
            file.write(
                json.dumps(asdict(job) | {"errors": list(errors)}, ensure_ascii=False) + "\n"
            )

    def _runs(self) -> list[dict]:
        path = self.path / "run.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                str(path), "a record of this command", repr(error), "Give another --out."
            ) from error

    def _write(self, path: Path, data: bytes) -> None:
        part = self.path / f"part-{os.getpid()}"  # beside samples, on the same file system
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
