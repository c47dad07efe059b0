"""A quiet ComfyUI with small random models."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from comfy_host import Host

from . import ROOT

MODELS = ROOT / ".host" / "models"


@contextmanager
def quiet_host() -> Iterator[Host]:
    """Boot ComfyUI on folders of its own; from then on it says nothing below a warning, and draws no bars."""
    MODELS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as base:
        (Path(base) / "models").symlink_to(MODELS, target_is_directory=True)
        logging.disable(logging.WARNING)  # a boot warns of optional packages that this pack doesn't use
        host = Host(Path(base))
        logging.disable(logging.INFO)
        _prepare()
        yield host


def _prepare() -> None:
    import comfy.utils

    from demo.random_models import write

    comfy.utils.PROGRESS_BAR_ENABLED = False
    write(MODELS)
