"""Settings: the default, the range and the words of each are written once, here in their fields.

A class of settings is a frozen dataclass whose fields are made by :func:`setting`. Widgets,
tooltips, English texts, help pages and ``docs/settings.md`` are all made from these fields.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from ..errors import InputError
from .attention import Keys, Layers


@dataclass(frozen=True)
class Setting:
    """What a user is told about a setting, and how far it may be moved.

    ``text`` is the tooltip. ``more`` follows it where there is room: in help pages and in docs.
    ``low``, ``high`` and ``step`` are for numbers only.
    """

    default: Any
    text: str
    low: float = -math.inf
    high: float = math.inf
    step: float = 1
    more: str = ""

    @property
    def bounded(self) -> bool:
        """Whether this is a number with a range."""
        return math.isfinite(self.high)

    def check(self, name: str, value: Any) -> None:
        """Raise :class:`InputError` for a number out of range; the error calls it ``name``."""
        if self.bounded and not self.low <= value <= self.high:
            expected = f"a number from {self.low:g} to {self.high:g}"
            raise InputError(name, expected, str(value), "Move it into that range.")


def setting(default: Any, text: str, **options: Any) -> Any:
    """Return the field of a settings dataclass; the arguments are those of :class:`Setting`."""
    return field(default=default, metadata={"setting": Setting(default, text, **options)})


def settings_of(of: Any) -> dict[str, Setting]:
    """Return the settings of a settings class, or of an object of it, by name, in their order."""
    return {each.name: each.metadata["setting"] for each in fields(of)}


def check_ranges(settings: Any) -> None:
    """Raise :class:`InputError` for the first of the settings that is out of its range."""
    for name, each in settings_of(settings).items():
        each.check(name, getattr(settings, name))


def from_widgets(of: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return widgets' values as arguments of the settings class: choices turn into its enums."""
    defaults = {name: each.default for name, each in settings_of(of).items()}
    found = dict(values)
    for name, value in values.items():
        if isinstance(defaults[name], Enum):
            found[name] = type(defaults[name])(value)
    return found


def downsample_setting() -> Any:
    """Return the field that chooses the size of the attention maps that are read."""
    return setting(
        0,
        "How many times smaller than the latent the attention maps are. 0 chooses for you: a "
        "quarter of the latent where the model has such maps.",
        low=0,
        high=64,
        more="SD 1.5 has maps at 1, 2, 4 and 8, SDXL at 2 and 4. Smaller numbers give finer maps, "
        "which are often noisier. A transformer (Flux, Qwen-Image, Z-Image) has one size, 2 for "
        "most: 0 reads the layers that place objects, as far as is known, and 2 reads all.",
    )


def layers_setting() -> Any:
    """Return the field that chooses which attention layers of that size are read."""
    return setting(
        Layers.ALL,
        "Which attention layers of that size are read: those on the way down, in the middle, on "
        "the way up, or all. In a transformer (Flux, Qwen-Image) down, middle and up are its "
        "early, middle and late third. Choose all unless you are experimenting.",
    )


def keys_setting() -> Any:
    """Return the field that chooses what a transformer's attention is shared out among."""
    return setting(
        Keys.ALL,
        "What a pixel's attention is shared out among. all: image and text, as the model does it. "
        "text: the text alone, which takes less time and memory. Transformers (Flux, Qwen-Image) "
        "only; elsewhere it is the text alone anyway.",
    )
