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


def coupled(model: Any) -> Any:
    """Attention couple: the positive has rows of another prompt too, heard in the right half."""

    def add_rows(n: Tensor, context: Tensor, value: Tensor, options: dict) -> tuple:
        found: list[list[Tensor]] = [[], [], []]
        for side, *parts in _by_conditioning(options, n, context, value):
            times = 2 if side == 0 else 1
            others = [parts[0], parts[1].flip(1), parts[2].flip(1)]
            for rows, own, other in zip(found, parts, others, strict=True):
                rows.extend([own, other][:times])
        return tuple(torch.cat(rows) for rows in found)

    def drop_rows(out: Tensor, options: dict) -> Tensor:
        height, width = options["activations_shape"][-2:]
        right = (torch.arange(height * width) % width >= width // 2)[:, None].to(out)
        sides, kept, start = options["cond_or_uncond"], [], 0
        count = len(out) // sum(2 if side == 0 else 1 for side in sides)
        for side in sides:
            own, other = out[start : start + count], out[start + count : start + 2 * count]
            kept.append(own * (1 - right) + other * right if side == 0 else own)
            start += 2 * count if side == 0 else count
        return torch.cat(kept)

    clone = model.clone()
    clone.set_model_attn2_patch(add_rows)
    clone.set_model_attn2_output_patch(drop_rows)
    return clone


def values_apart(model: Any) -> Any:
    """Negative prompts inside prompts: text has two rows a token, one of keys and one of values."""

    def split(n: Tensor, context: Tensor, value: Tensor, options: dict) -> tuple:
        return n, context[:, ::2], value[:, 1::2]

    clone = model.clone()
    clone.set_model_attn2_patch(split)
    return clone


def doubled(conditioning: list) -> list:
    """Return a prompt as such a pack encodes it: each row of text twice."""
    return [[text.repeat_interleave(2, dim=1), options] for text, options in conditioning]


def tiled(model: Any) -> Any:
    """The model is evaluated at tiles of the latent, all of them in one batch."""

    def evaluate(apply: Callable, args: dict) -> Tensor:
        x, c = args["input"], args["c"]
        corners = _tiles(x)
        cut = torch.cat([_tile(x, corner) for corner in corners])
        given = {
            key: value.repeat(len(corners), *[1] * (value.ndim - 1))
            for key, value in c.items()
            if isinstance(value, Tensor)
        }
        out = apply(cut, args["timestep"].repeat(len(corners)), **c | given)
        total, count = torch.zeros_like(x), torch.zeros_like(x)
        for corner, part in zip(corners, out.chunk(len(corners)), strict=True):
            _tile(total, corner).add_(part)
            _tile(count, corner).add_(1)
        return total / count

    clone = model.clone()
    clone.set_model_unet_function_wrapper(evaluate)
    return clone


def apart(model: Any) -> Any:
    """Little memory: each row of a batch is evaluated by itself."""
    return _evaluating(model, lambda rows: [[row] for row in range(rows)])


def padded(model: Any) -> Any:
    """An engine of a fixed batch size: the batch is filled up by repeating its first row."""
    return _evaluating(model, lambda rows: [[*range(rows), *[0] * (5 - rows)]])


def reordered(model: Any) -> Any:
    """Rows are evaluated in another order than the host says."""
    return _evaluating(model, lambda rows: [list(reversed(range(rows)))])


def merging(model: Any) -> Any:
    """Token merging before cross-attention: a layer has fewer cells than its map."""

    def merge(n: Tensor, context: Tensor, value: Tensor, options: dict) -> tuple:
        return n.unflatten(1, (-1, 2)).mean(dim=2), context, value

    def unmerge(out: Tensor, options: dict) -> Tensor:
        return out.repeat_interleave(2, dim=1)

    clone = model.clone()
    clone.set_model_attn2_patch(merge)
    clone.set_model_attn2_output_patch(unmerge)
    return clone


def reversing(model: Any) -> Any:
    """Every layer hears each text twice, once from its end: no row has a prompt as stock has it."""

    def mirror(n: Tensor, context: Tensor, value: Tensor, options: dict) -> tuple:
        both = torch.cat([context, context.flip(1)], dim=1)
        return n, both, both

    clone = model.clone()
    clone.set_model_attn2_patch(mirror)
    return clone


def _by_conditioning(options: dict, *rows: Tensor) -> list[tuple]:
    """Each conditioning's side, and its own rows of some tensors."""
    sides = options["cond_or_uncond"]
    return list(zip(sides, *(part.chunk(len(sides)) for part in rows), strict=True))


def _tiles(x: Tensor) -> list[tuple[int, int]]:
    """Corners of tiles of at most 8 x 8 cells that overlap by 2 where they can."""
    rows, columns = (range(0, max(size - 8, 0) + 6, 6) for size in x.shape[-2:])
    height, width = x.shape[-2:]
    return [(min(y, max(height - 8, 0)), min(x, max(width - 8, 0))) for y in rows for x in columns]


def _tile(x: Tensor, corner: tuple[int, int]) -> Tensor:
    top, left = corner
    return x[..., top : top + 8, left : left + 8]


def _evaluating(model: Any, batches: Callable[[int], list[list[int]]]) -> Any:
    """Evaluate a batch as other ones: lists of its rows."""
    from comfy.patcher_extension import WrappersMP

    def apply(executor: Any, x: Tensor, t: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
        out = torch.zeros_like(x)
        for rows in batches(len(x)):
            chosen = [part[rows] if isinstance(part, Tensor) else part for part in rest]
            named = {
                key: part[rows] if isinstance(part, Tensor) else part
                for key, part in kwargs.items()
            }
            out[rows] = executor(x[rows], t[rows], *chosen, **named)
        return out

    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "stand in", apply)
    return clone


STAND_INS: dict[str, Change] = {
    "momentum in options": momentum_in_options,
    "momentum in a closure": momentum_in_a_closure,
    "evaluated again": evaluated_again,
    "needing both": needing_both,
    "drawing": drawing,
    "skipping": skipping,
    "writing in place": writing_in_place,
    "coupled": coupled,
    "tiled": tiled,
}

# Those that change how rows are evaluated, and no picture but by rounding.
OTHERWISE_BATCHED: dict[str, Change] = {"apart": apart, "padded": padded, "reordered": reordered}

# Those of which attention can't be read: they leave no row or cell of a layer as stock has it.
UNREADABLE: dict[str, Change] = {"merging": merging, "reversing": reversing}

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

# More of them, for random graphs; an older host has not all.
MORE_NODES: dict[str, dict[str, Any]] = {
    "FreeU": {},
    "FreeU_V2": {},
    "PatchModelAddDownscale": {"block_number": 1, "end_percent": 0.7},
    "ContextWindowsManual": {"context_length": 4, "context_overlap": 2, "dim": 3},
    "SelfAttentionGuidance": {},
    "UNetSelfAttentionMultiply": {"q": 1.3},
    "UNetCrossAttentionMultiply": {"k": 1.3},
    "CFGZeroStar": {},
    "CFGNorm": {},
    "FreSca": {},
    "Mahiro": {},
    "TCFG": {},
    "RenormCFG": {},
    "Epsilon Scaling": {},
    "TemporalScoreRescaling": {},
    "DifferentialDiffusion": {},
    "NAGuidance": {},
    "ModelSamplingDiscrete": {"sampling": "v_prediction"},
    "ModelSamplingContinuousEDM": {},
}


def patched(host: Host, scene: Scene, model: list, name: str) -> list:
    """Return a scene's model as a node of the host or a stand-in changes it."""
    functions = STAND_INS | OTHERWISE_BATCHED | UNREADABLE
    if name not in functions:
        settings = (NODES | MORE_NODES)[name]
        return scene.add(name, model=model, **host.defaults(name) | settings)[0]
    host.functions[name] = functions[name]
    return scene.apply(model, name)
