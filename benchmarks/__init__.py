"""What the pack costs and what its pictures are worth, in a real ComfyUI or on servers."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
