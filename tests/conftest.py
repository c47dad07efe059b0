"""Shared by all tests."""

import sys
from pathlib import Path

# Last on the path: the pack's own `nodes` must never stand before ComfyUI's.
sys.path.append(str(Path(__file__).resolve().parents[1]))
