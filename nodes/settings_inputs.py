"""Widgets that are made from settings, so that each setting's words and range are written once."""

from __future__ import annotations

from enum import Enum
from typing import Any

from comfy_api.latest import io

from ..realcompo_core.sampling.fields import Setting, settings_of

NUMBERS = {int: io.Int.Input, float: io.Float.Input}


def settings_inputs(of: type, *names: str, **options: Any) -> list[io.Input]:
    """Return a widget for each of the named settings of a settings class, in this order.

    ``options`` are more arguments of every widget, such as ``optional``.
    """
    found = settings_of(of)
    return [widget(name, found[name], **options) for name in names]


def widget(name: str, setting: Setting, **options: Any) -> io.Input:
    """Return the widget of one setting: a number, a switch, a choice or a text by its default."""
    default, texts = setting.default, {"tooltip": setting.text, **options}
    if isinstance(default, Enum):
        choices = [choice.value for choice in type(default)]
        return io.Combo.Input(name, options=choices, default=default.value, **texts)
    if isinstance(default, bool):
        return io.Boolean.Input(name, default=default, **texts)
    if setting.bounded:
        kind = type(default)
        limits = {"min": kind(setting.low), "max": kind(setting.high), "step": kind(setting.step)}
        return NUMBERS[kind](name, default=default, **limits, **texts)
    return io.String.Input(name, **texts)
