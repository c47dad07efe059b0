"""Stand-ins for what is not here: files that a server loads as custom nodes."""

from pathlib import Path

STAND_INS = Path(__file__).parent
