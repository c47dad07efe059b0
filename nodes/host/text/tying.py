"""A layout tied to a conditioning, for both branches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ....realcompo_core.errors import InputError
from ....realcompo_core.layout.model import Layout
from ....realcompo_core.words.grounding import OPTION, Grounding, without_objects
from ....realcompo_core.words.tokenized import matched
from .encoding import Conditioning, encode, encode_like, with_options
from .gligen import gligen_option
from .tokenizer import Prompt, prompt_of


@dataclass(frozen=True)
class Tied:
    """The conditionings of both branches, and which words each phrase has matched."""

    text: Conditioning
    spatial: Conditioning
    found: str


def encode_tied(clip: Any, text: str, layout: Layout, gligen: Any) -> Tied:
    """Encode a prompt and tie a layout to its words.

    Raises :class:`InputError` for a phrase that isn't in it, before anything is encoded.
    """
    prompt = prompt_of(clip, text)
    grounding = Grounding.of(layout, prompt.encoders)
    return _tied(encode(clip, text), clip, prompt, grounding, gligen)


def tie(
    conditioning: Conditioning, clip: Any, text: str, text_l: str, layout: Layout, gligen: Any
) -> Tied:
    """Tie a layout to the words of a conditioning that was encoded elsewhere from this text.

    ``text_l`` is the text of SDXL's CLIP-L where it had one of its own. Raises :class:`InputError`
    for a phrase that is in none, and for a conditioning of another number of rows than this CLIP
    makes of the text.
    """
    prompt = prompt_of(clip, text, text_l)
    grounding = Grounding.of(layout, prompt.encoders)
    for encoded, _ in conditioning:
        _check_rows(encoded.shape[1], prompt.rows)
    return _tied(conditioning, clip, prompt, grounding, gligen)


def _tied(
    conditioning: Conditioning, clip: Any, prompt: Prompt, grounding: Grounding, gligen: Any
) -> Tied:
    others = without_objects(grounding, prompt.encoders)
    background = encode_like(clip, others, conditioning)
    options: dict[str, Any] = {OPTION: replace(grounding, background=background)}
    spatial = dict(options)
    if gligen is not None:
        spatial["gligen"] = gligen_option(gligen, clip, grounding.layout)
    return Tied(
        with_options(conditioning, options),
        with_options(conditioning, spatial),
        matched(grounding.layout, prompt.encoders),
    )


def _check_rows(got: int, expected: int) -> None:
    if got != expected:
        rows = f"{expected} rows, as this CLIP makes of the text"
        fix = (
            "Give the CLIP and the whole text that were encoded. Tie the layout before nodes that "
            "join conditionings."
        )
        raise InputError("conditioning", rows, f"{got} rows", fix)
