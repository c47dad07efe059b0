"""Regional attention on a model, under any sampler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....realcompo_core.errors import InputError, naming
from ....realcompo_core.sampling.regional_attention import Hearing, RegionalSettings
from ....realcompo_core.sampling.schedule import Schedule
from ..model.capture import Watched, watch
from ..model.compiling import uncompiled
from ..model.readers.families import reader_of
from ..model.readers.transformer import check_frames
from ..model.regional_attention import Part, RegionalAttention
from .checks import check_layout

KEY = "realcompo_regional"


@dataclass(frozen=True)
class Regional:
    """Keeps the words of the layout in a positive conditioning in their regions.

    Errors name ``node``.
    """

    settings: RegionalSettings
    node: str

    def attach(self, model: ModelPatcher) -> ModelPatcher:
        """Return a clone that any sampler runs so, in place of what it was set to before."""
        clone = model.clone()
        clone.set_attachments(KEY, self)
        wrappers = {
            WrappersMP.SAMPLER_SAMPLE: self._sample,
            WrappersMP.CALC_COND_BATCH: self._predict,
            WrappersMP.APPLY_MODEL: self._apply,
        }
        for kind, wrapper in wrappers.items():
            clone.remove_wrappers_with_key(kind, KEY)
            if not self.settings.idle:
                clone.add_wrapper_with_key(kind, KEY, wrapper)
        return clone

    def _sample(self, executor: Callable, guider: Any, *args: Any) -> Tensor:
        with naming(self.node):
            check_layout("regional", guider.conds.get("positive", []))
        return executor(guider, *args)

    def _predict(
        self,
        executor: Callable,
        model: Any,
        conds: list,
        x: Tensor,
        timestep: Tensor,
        options: dict,
    ) -> list[Tensor]:
        """As the host's ``calc_cond_batch``: say what is to be masked."""
        transformer = options.get("transformer_options", {})
        if self._acts(timestep, transformer.get("sample_sigmas")):
            size = (x.shape[-2], x.shape[-1])
            watched = watch(conds[0] or [], size)
            options = options | {"transformer_options": transformer | {KEY: watched}}
        return executor(model, conds, x, timestep, options)

    def _acts(self, timestep: Tensor, sigmas: Tensor | None) -> bool:
        if sigmas is None:
            return True
        schedule = Schedule(sigmas.tolist())
        return self.settings.acts(schedule.step(float(timestep.max())), schedule.steps)

    def _apply(
        self,
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: dict = {},  # noqa: B006 (the host's signature)
        **kwargs: Any,
    ) -> Tensor:
        """As the host's ``apply_model``, masked where a conditioning of the batch is to be."""
        with naming(self.node):
            attention = self._attention(executor.class_obj, x, transformer_options)
        if attention is None:
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
        options = attention.options(transformer_options)
        text = None if c_crossattn is None else attention.text(c_crossattn)
        with uncompiled(), attention.acting(transformer_options):
            return executor(x, t, c_concat, text, control, options, **kwargs)

    def _attention(self, model: Any, x: Tensor, options: dict) -> RegionalAttention | None:
        watched: dict[UUID, Watched] = options.get(KEY, {})
        sides = zip(options.get("uuids", ()), options.get("cond_or_uncond", ()), strict=True)
        # The host lends a positive with an area, id and all, to the negative.
        size = (x.shape[-2], x.shape[-1])
        parts: list[Part | None] = []
        for uuid, side in sides:
            own = side == 0 and uuid in watched
            parts.append(self._part(watched[uuid], size) if own else None)
        if not any(parts):
            return None
        check_frames(x)
        return RegionalAttention(reader_of(model), parts, x.shape[0], size, self.settings)

    def _part(self, watched: Watched, size: tuple[int, int]) -> Part:
        wordless, blur = watched.grounding.wordless, self.settings.softness * min(size)
        hearing = Hearing.of(watched.objects, wordless, blur)
        expected = tuple(hearing.shares.shape[-2:])
        if expected != size:
            fix = "Remove the patch that evaluates the latent in parts, or this node."
            raise InputError("regional attention", f"a latent of {expected}", str(size), fix)
        return Part(hearing, watched.text, watched.grounding.background)


def regional_of(model: ModelPatcher) -> Regional | None:
    """Return how a model keeps words in regions, None where it does not."""
    return model.get_attachment(KEY)
