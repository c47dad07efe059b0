"""What the pack costs, measured in a real ComfyUI inside this process: the one that the host tests boot."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "host"))
