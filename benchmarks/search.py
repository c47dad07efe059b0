"""Which settings of the balanced recipe are best? Static arms and candidates, development split.

``python -m benchmarks.search [--prompts 24] [--batch 4]``, with the options of
``benchmarks.quality``.
"""

from __future__ import annotations

from .arms import BALANCER, DYNAMIC, STATIC, Arm
from .quality import compare, parser

GRID = {
    "warmup": (0.0, 0.12, 0.16, 0.2, 0.28),
    "lean": (0.0, 1.0, 2.0, 3.0),
    "release": (0.0, 8.0, 25.0, 50.0),
    "step_scale": (0.0, 1.0, 2.0),
    "prior": (0.0, 1.5, 3.0),
    "online": (False, True),
    "guidance": (0.0, 0.5, 1.0, 1.5),
}
CENTRE = {name: BALANCER[name] for name in GRID}


def candidates() -> list[Arm]:
    """Return the centre, and every setting moved away from it alone."""
    found = [CENTRE]
    for name, values in GRID.items():
        found += [CENTRE | {name: value} for value in values]
    arms = {}
    for settings in found:
        name = "dynamic " + " ".join(f"{key}={value}" for key, value in settings.items())
        arms.setdefault(name, Arm(name, settings))
    return list(arms.values())


def main() -> None:
    """Score the static arms, today's and all candidates."""
    options = parser(__doc__)
    options.set_defaults(split="development", prompts=24, batch=4)
    chosen = options.parse_args()
    if chosen.split == "held-out":
        options.error("settings are never chosen on the held-out split")
    compare([*STATIC, *DYNAMIC, *candidates()], chosen, "search")


if __name__ == "__main__":
    main()
