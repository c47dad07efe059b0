"""Classifier-free guidance: what a model's own functions do, and what a sampler adds."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ....realcompo_core.sampling.branch import Prediction
from ....realcompo_core.sampling.moving_frame import MovingFrame
from .folding import flat, whole

CFG, POST_CFG = "sampler_cfg_function", "sampler_post_cfg_function"
ALWAYS = "disable_cfg1_optimization"  # evaluate the negative also where guidance needs none
CALC_COND_BATCH = "sampler_calc_cond_batch_function"


@dataclass(frozen=True)
class Added:
    """What a sampler adds to the options of its run (cfg_pp).

    ``functions`` come after guidance. ``entries`` are for every branch's evaluation, whose own
    stock run the sampler would give them too.
    """

    functions: tuple[Callable, ...] = ()
    entries: dict[str, Any] = field(default_factory=dict)


def added_to(own: dict, options: dict) -> Added:
    """Return what a sampler has added to a model's ``own`` options, of those that it runs with."""
    known = own.get(POST_CFG, ())
    functions = tuple(function for function in options.get(POST_CFG, ()) if function not in known)
    entries = {}
    if options.get(ALWAYS, False) and (functions or not own.get(ALWAYS, False)):
        entries[ALWAYS] = True
    if CFG in options and options[CFG] is not own.get(CFG):
        entries[CFG] = options[CFG]
    return Added(functions, entries)


@contextmanager
def lent(options: dict, entries: dict[str, Any]) -> Generator[None]:
    """Put entries into options for a while.

    The options stay one object: functions of other packs keep state in it from one evaluation to
    the next, and find it again.
    """
    missing = object()
    before = {name: options.get(name, missing) for name in entries}
    options.update(entries)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is missing:
                options.pop(name, None)
            else:
                options[name] = value


class SamplersGuidance:
    """Guides a prediction, and lets the functions that the sampler has added work on it.

    Those see the sampler's own latent and predictions, not the ones of the moving ``frame``.
    ``arguments`` are what the host hands them besides.
    """

    def __init__(self, cfg: float, frame: MovingFrame) -> None:
        self.cfg, self.frame = cfg, frame
        self.functions: tuple[Callable, ...] = ()
        self.arguments: dict[str, Any] = {}

    def __call__(self, prediction: Prediction, latent: Tensor, sigma: Tensor) -> Tensor:
        """Return the guided prediction [B, C, H, W], at a latent [B, C, H, W] and sigma [B]."""
        denoised = prediction.guided(self.cfg)
        if not self.functions:
            return denoised
        frame, model = self.frame, self.arguments["model"]
        seen = {
            "cond_denoised": whole(frame.told(prediction.cond), model),
            "uncond_denoised": whole(frame.told(prediction.uncond), model),
            "input": whole(frame.kept(latent, sigma), model),
        }
        fixed = {"cond_scale": self.cfg, "sigma": sigma}
        for function in self.functions:
            told = {"denoised": whole(frame.told(denoised), model)}
            denoised = frame.pictured(flat(function(self.arguments | fixed | seen | told)))
        return denoised
