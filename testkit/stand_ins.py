"""Functions that do to a model what other packs' nodes do, each in a small clone of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .host import Host
from .scene import Scene

Change = Callable[[Any], Any]


def momentum_in_options(model: Any) -> Any:
    """Guidance with momentum; the state is in the model options, as a sampler hands them on."""

    def guide(args: dict) -> Tensor:
        state = args["model_options"].setdefault("stand_in", {"moved": 0.0})
        moved = args["cond"] - args["uncond"] + 0.5 * state["moved"]
        state["moved"] = moved
        return args["uncond"] + moved * args["cond_scale"]

    clone = model.clone()
    clone.set_model_sampler_cfg_function(guide)
    return clone


def momentum_in_a_closure(model: Any) -> Any:
    """Two functions around guidance that share a variable: what one saw, the other adds."""
    seen, steps = None, []

    def before(args: dict) -> list[Tensor]:
        nonlocal seen
        cond, uncond = args["conds_out"]
        steps.append(float(args["sigma"].max()))
        if len(steps) > 1 and steps[-1] > steps[-2]:
            seen = None  # another run
        return [cond if seen is None else cond + 0.3 * (cond - seen), uncond]

    def after(args: dict) -> Tensor:
        nonlocal seen
        seen = args["cond_denoised"]
        return args["denoised"]

    clone = model.clone()
    clone.set_model_sampler_pre_cfg_function(before)
    clone.set_model_sampler_post_cfg_function(after)
    return clone


def evaluated_again(model: Any) -> Any:
    """Perturbed attention: the model is evaluated once more, with other attention."""
    import comfy.model_patcher
    import comfy.samplers

    def after(args: dict) -> Tensor:
        options = comfy.model_patcher.set_model_options_patch_replace(
            args["model_options"].copy(), lambda q, k, v, *_, **__: v, "attn1", "middle", 0
        )
        conds = [args["cond"]]
        found = comfy.samplers.calc_cond_batch(
            args["model"], conds, args["input"], args["sigma"], options
        )
        return args["denoised"] + 2.0 * (args["cond_denoised"] - found[0])

    clone = model.clone()
    clone.set_model_sampler_post_cfg_function(after)
    return clone


def needing_both(model: Any) -> Any:
    """Normalised attention guidance: positive and negative must be in one batch."""

    def guide(out: Tensor, options: dict) -> Tensor:
        sides = options["cond_or_uncond"]
        if set(sides) != {0, 1}:
            return out
        parts = dict(zip(sides, out.chunk(len(sides)), strict=True))
        parts[0] = parts[0] + 2.0 * (parts[0] - parts[1])
        return torch.cat([parts[side] for side in sides])

    clone = model.clone()
    clone.set_model_attn1_output_patch(guide)
    clone.model_options["disable_cfg1_optimization"] = True
    return clone


def drawing(model: Any) -> Any:
    """Token merging and the like: every evaluation draws from the global random state."""

    def disturb(q: Tensor, k: Tensor, v: Tensor, options: dict) -> tuple[Tensor, Tensor, Tensor]:
        return q, k, v * (1 + 0.2 * torch.randn(1, 1, v.shape[-1]).to(v))

    clone = model.clone()
    clone.set_model_attn1_patch(disturb)
    return clone


def skipping(model: Any) -> Any:
    """A cache around a model's prediction: every second one is the last one again."""
    from comfy.patcher_extension import WrappersMP

    def outer(executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        executor.class_obj.model_options["transformer_options"]["stand_in"] = []
        return executor(*args, **kwargs)

    def predict(executor: Any, x: Tensor, sigma: Tensor, options: dict, *args: Any) -> Tensor:
        kept = options["transformer_options"]["stand_in"]
        kept.append(kept[-1] if len(kept) % 2 else executor(x, sigma, options, *args))
        return kept[-1]

    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "stand in", outer)
    clone.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "stand in", predict)
    return clone


def writing_in_place(model: Any) -> Any:
    """FreeU's second version: a block's output is changed in place, by what it was."""

    def patch(h: Tensor, skip: Tensor, options: dict) -> tuple[Tensor, Tensor]:
        half = h.shape[1] // 2
        h[:, :half] = h[:, :half] * (1.1 + 0.1 * h.mean(dim=1, keepdim=True).tanh())
        skip *= 0.9
        return h, skip

    clone = model.clone()
    clone.set_model_output_block_patch(patch)
    return clone


STAND_INS: dict[str, Change] = {
    "momentum in options": momentum_in_options,
    "momentum in a closure": momentum_in_a_closure,
    "evaluated again": evaluated_again,
    "needing both": needing_both,
    "drawing": drawing,
    "skipping": skipping,
    "writing in place": writing_in_place,
}

# Nodes of the host, with settings at which they do something at this size.
NODES: dict[str, dict[str, Any]] = {
    "PerturbedAttentionGuidance": {"scale": 3.0},
    "APG": {"eta": 1.0, "norm_threshold": 5.0, "momentum": 0.5},
    "TomePatchModel": {"ratio": 0.5},
    "EasyCache": {
        "reuse_threshold": 3.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
        "verbose": False,
    },
    "LazyCache": {
        "reuse_threshold": 3.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
        "verbose": False,
    },
    "HyperTile": {"tile_size": 32, "swap_size": 2, "max_depth": 0, "scale_depth": False},
    "RescaleCFG": {"multiplier": 0.7},
}


def patched(host: Host, scene: Scene, model: list, name: str) -> list:
    """Return a scene's model as a node of the host or a stand-in changes it."""
    if name in NODES:
        return scene.add(name, model=model, **NODES[name])[0]
    host.functions[name] = STAND_INS[name]
    return scene.apply(model, name)
