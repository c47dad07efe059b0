"""What patches of other packs keep to themselves while a model runs."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def unchanged_patches(options: dict) -> Generator[None]:
    """Put back what the patches in these model options have kept, once a reading is done.

    Some keep what they made for one block until the next asks for it (Z-Image's Fun ControlNet),
    and a reading stops in between. The next evaluation would go on with that.
    """
    states = [(patch, dict(vars(patch))) for patch in _patches(options)]
    try:
        yield
    finally:
        for patch, state in states:
            vars(patch).clear()
            vars(patch).update(state)


def _patches(options: dict) -> list:
    found = []
    for patches in options.get("transformer_options", {}).get("patches", {}).values():
        found += [patch for patch in patches if type(getattr(patch, "__dict__", None)) is dict]
    return found
