"""Where ComfyUI is, and how its modules are found."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def folder() -> Path:
    """Return ComfyUI's folder; raises KeyError outside ``.host/run``, which names it."""
    return Path(os.environ["COMFYUI_PATH"])


def put_on_path() -> None:
    """Let ComfyUI's modules be imported, before this pack's: both have one called ``nodes``."""
    if str(folder()) not in sys.path:
        sys.path.insert(0, str(folder()))
