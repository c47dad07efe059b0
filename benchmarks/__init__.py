"""What the pack costs and what its pictures are worth, in the real ComfyUI that the host tests boot or on servers."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
