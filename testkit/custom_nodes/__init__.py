"""Stand-ins for other packs and for what is too large to be here: files that a server loads as custom nodes."""

from pathlib import Path

STAND_INS = Path(__file__).parent
