"""A stand-in that lets a server load the small models of ``testkit.random_models``: real text encoders are far larger."""

import sys
from pathlib import Path

NODE_CLASS_MAPPINGS = {}

sys.path.append(str(Path(__file__).resolve().parents[1] / "root"))

from ..random_models import load_small_text_encoders  # noqa: E402

load_small_text_encoders()
