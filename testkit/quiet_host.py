"""A quiet ComfyUI with small random models."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .host import CPU, Host


@contextmanager
def quiet_host(flags: Sequence[str] = CPU) -> Generator[Host]:
    """Boot ComfyUI on folders of its own.

    From then on it says nothing below a warning, and draws no progress bars.
    """
    with tempfile.TemporaryDirectory() as base:
        # A boot warns of optional packages that this pack doesn't use.
        logging.disable(logging.WARNING)
        host = Host(Path(base), flags)
        logging.disable(logging.INFO)
        import comfy.utils

        comfy.utils.PROGRESS_BAR_ENABLED = False
        yield host
        host.close()
