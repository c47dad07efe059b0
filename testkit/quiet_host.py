"""A quiet ComfyUI with small random models."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .host import CPU, Host


@contextmanager
def quiet_host(flags: Sequence[str] = CPU) -> Iterator[Host]:
    """Boot ComfyUI on folders of its own; from then on it says nothing below a warning, and draws no bars."""
    with tempfile.TemporaryDirectory() as base:
        logging.disable(
            logging.WARNING
        )  # a boot warns of optional packages that this pack doesn't use
        host = Host(Path(base), flags)
        logging.disable(logging.INFO)
        import comfy.utils

        comfy.utils.PROGRESS_BAR_ENABLED = False
        yield host
        host.close()
