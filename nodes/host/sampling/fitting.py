"""Whether conditionings fit the model that they are for, as far as that is known before a run."""

from __future__ import annotations

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import nn

from ....realcompo_core.errors import InputError
from ..model.compiling import COMPILE_KEY

FAMILIES = {768: "SD1.5", 1024: "SD2", 1280: "the SDXL refiner", 2048: "SDXL"}
# Where a network's settings tell how many values it takes for each token of the text.
WIDTHS = (
    "context_dim",
    "context_in_dim",
    "cap_feat_dim",
    "cond_seq_dim",
    "joint_attention_dim",
    "text_feat_dim",
)
CHANGING = (WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL)


def check_conditionings(
    patcher: ModelPatcher, field: str, conditionings: list, lent: bool = False
) -> None:
    """Raise :class:`InputError` for a conditioning of another family than the model's.

    ``lent`` says that the branch has none of its own, and takes the text branch's.
    """
    width = _text_width(patcher)
    if width is None:
        return
    for encoded, options in conditionings:
        if encoded is not None and encoded.shape[-1] != width:
            raise _foreign_text(field, width, encoded.shape[-1], lent)
        _check_gligen(field, width, options.get("gligen"))
        _check_control(field, width, options.get("control"))


def _text_width(patcher: ModelPatcher) -> int | None:
    """How many values each token has for this model; None where another pack may change that."""
    if "model_function_wrapper" in patcher.model_options:
        return None
    keys = {key for kind in CHANGING for key in patcher.wrappers.get(kind, {})}
    if keys - {COMPILE_KEY}:
        return None
    config = getattr(getattr(patcher.model, "model_config", None), "unet_config", {})
    widths = [config[name] for name in WIDTHS if isinstance(config.get(name), int)]
    return widths[0] if len(widths) == 1 else None


def _foreign_text(field: str, width: int, got: int, lent: bool) -> InputError:
    fix = "Encode it with the CLIP that was loaded with this branch's model."
    if lent:
        fix = (
            "spatial_negative is empty, so the text branch's negative was taken. Connect one to "
            "it that is encoded with the CLIP of the spatial branch's model."
        )
    expected = f"a prompt that was encoded for {_family(width)}"
    return InputError(field, expected, f"one for {_family(got)}", fix)


def _check_gligen(field: str, width: int, gligen: tuple | None) -> None:
    made_for = None if gligen is None else getattr(gligen[1].model, "key_dim", width)
    if made_for not in (None, width):
        expected, got = f"a GLIGEN model for {_family(width)}", f"one for {_family(made_for)}"
        fix = "Leave gligen empty in RealCompo Layout Conditioning, or place with a ControlNet."
        raise InputError(field, expected, got, fix)


def _check_control(field: str, width: int, control: Any) -> None:
    while control is not None:
        made_for = _control_width(getattr(control, "control_model", None))
        if made_for not in (None, width):
            expected, got = f"a ControlNet for {_family(width)}", f"one for {_family(made_for)}"
            fix = "Load a ControlNet that was trained for this branch's model."
            raise InputError(field, expected, got, fix)
        control = getattr(control, "previous_controlnet", None)


def _control_width(network: Any) -> int | None:
    """How many values each token has for a ControlNet; None of one that reads no text."""
    if not isinstance(network, nn.Module):
        return None
    for name, part in network.named_modules():
        if name.endswith("attn2.to_k"):
            return getattr(part, "in_features", None)
    return None


def _family(width: int) -> str:
    known = FAMILIES.get(width)
    values = f"{width} values a token"
    return values if known is None else f"{known} ({values})"
