"""Sampling with two branches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy_api.latest import io

from ..realcompo_core.sampling.attention import Layers
from ..realcompo_core.sampling.settings import BalancerSettings, Mode, Recipe, parse_weights
from ..realcompo_core.sampling.trace import Trace as TraceValue
from .attention import DOWNSAMPLE, LAYERS
from .host.sampling.balance_preview import balance_preview
from .host.sampling.guider import BranchInputs, RealCompoGuider
from .types import CATEGORY, Balancer, Node, Trace, bounded

DEFAULTS = BalancerSettings()


class RealCompoBalancer(Node):
    """How the two branches are balanced."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoBalancer",
            display_name="RealCompo Balancer",
            category=CATEGORY,
            description="How the text branch and the spatial branch are balanced.",
            inputs=[
                io.Combo.Input(
                    "mode",
                    options=[mode.value for mode in Mode],
                    default=DEFAULTS.mode.value,
                    tooltip="dynamic follows the objects' attention; fixed keeps one weight; the rest use one branch.",
                ),
                io.Combo.Input(
                    "recipe",
                    options=[recipe.value for recipe in Recipe],
                    default=DEFAULTS.recipe.value,
                    tooltip="Mode dynamic only. balanced is our own; paper and official follow the paper and its code.",
                ),
                io.Float.Input(
                    "text_weight",
                    **bounded(BalancerSettings, "text_weight"),
                    step=0.05,
                    tooltip="Mode fixed only: the text branch's share, 0 to 1. More looks better, less places better.",
                ),
                io.Float.Input(
                    "warmup",
                    **bounded(BalancerSettings, "warmup"),
                    step=0.01,
                    tooltip="Modes dynamic and fixed: first share of the steps, done by the spatial branch alone. "
                    "More places better; 0 for stylised models.",
                ),
                io.Int.Input(
                    "every",
                    **bounded(BalancerSettings, "every"),
                    tooltip="Mode dynamic only: read attention at every n-th step. 2 is faster, follows less closely.",
                ),
                io.Float.Input(
                    "step_scale",
                    **bounded(BalancerSettings, "step_scale"),
                    step=0.1,
                    tooltip="Mode dynamic only: factor on the recipe's step. More follows attention more.",
                ),
                io.Float.Input(
                    "limit",
                    **bounded(BalancerSettings, "limit"),
                    step=0.5,
                    tooltip="Recipe balanced only: bound of the balance, in logits. 4 means at most 98% of one branch.",
                ),
                io.Float.Input(
                    "prior",
                    **bounded(BalancerSettings, "prior"),
                    step=0.5,
                    tooltip="Recipe balanced only: how strongly the start prefers the spatial branch inside boxes and "
                    "the text branch outside, in logits, at most the limit. 0 starts half and half.",
                ),
                io.Int.Input(
                    "downsample", **bounded(BalancerSettings, "downsample"), tooltip=DOWNSAMPLE
                ),
                io.Combo.Input(
                    "layers",
                    options=[x.value for x in Layers],
                    default=DEFAULTS.layers.value,
                    tooltip=LAYERS,
                ),
                io.Boolean.Input(
                    "checkpointing",
                    default=DEFAULTS.checkpointing,
                    tooltip="Less memory for attention's gradient, for more time. The image stays the same.",
                ),
                io.Float.Input(
                    "lean",
                    optional=True,
                    **bounded(BalancerSettings, "lean"),
                    step=0.5,
                    tooltip="Recipe balanced only: moves the start towards the text branch everywhere, in logits; "
                    "below 0 towards the spatial branch.",
                ),
                io.Float.Input(
                    "release",
                    optional=True,
                    **bounded(BalancerSettings, "release"),
                    step=1.0,
                    tooltip="Recipe balanced only: how far the text branch takes over in the course of a run, in "
                    "logits, where attention is in its region. More looks better, places less strictly.",
                ),
                io.String.Input(
                    "object_weights",
                    optional=True,
                    tooltip="Mode dynamic only: how much each object of the layout counts, in its order: 2, 1, 0.5. "
                    "Empty: all the same.",
                ),
                *loss_inputs(),
                io.Boolean.Input(
                    "online",
                    optional=True,
                    default=DEFAULTS.online,
                    tooltip="Recipe balanced only: balance by the evaluations that the next step makes anyway, one "
                    "step late. Off: look one step ahead first, by two more passes through the models a step.",
                ),
                io.Float.Input(
                    "guidance",
                    optional=True,
                    **bounded(BalancerSettings, "guidance"),
                    step=0.1,
                    tooltip="Recipe balanced only: how far the spatial branch's attention moves the latent itself in "
                    "warm-up; 1 is about as far as the sampler's own steps. More shapes and places objects more "
                    "strictly; too much harms the picture.",
                ),
            ],
            outputs=[
                Balancer.Output(
                    id="balancer", display_name="balancer", tooltip="For a RealCompo sampler."
                )
            ],
        )

    @classmethod
    def run(
        cls, mode: str, recipe: str, layers: str, object_weights: str = "", **numbers: Any
    ) -> io.NodeOutput:
        weights = parse_weights(object_weights)
        return io.NodeOutput(
            BalancerSettings(
                Recipe(recipe), Mode(mode), layers=Layers(layers), object_weights=weights, **numbers
            )
        )


def loss_inputs() -> list[io.Input]:
    """The weights of the losses that the balance follows."""
    tooltips = {
        "text_loss": "Mode dynamic only: how much the text branch's attention counts. 0: only the spatial branch's.",
        "spatial_loss": "Mode dynamic only: how much the spatial branch's attention counts. 0: only the text branch's, "
        "and no guidance.",
        "separate": "Mode dynamic only: how much it counts that no two objects share their attention. 0: not at all.",
        "enhance": "Mode dynamic only: how much it counts that every object has attention somewhere. 0: not at all.",
    }
    return [
        io.Float.Input(
            name, optional=True, **bounded(BalancerSettings, name), step=0.1, tooltip=tooltip
        )
        for name, tooltip in tooltips.items()
    ]


def branch_inputs() -> list[io.Input]:
    """The inputs of two branches that every RealCompo sampler needs."""
    return [
        io.Model.Input("model", tooltip="The text branch: the model whose look you want."),
        io.Conditioning.Input(
            "positive", tooltip="The prompt for the text branch, with the layout."
        ),
        io.Conditioning.Input("negative", tooltip="What to avoid, for the text branch."),
        io.Conditioning.Input(
            "spatial_positive",
            tooltip="The prompt for the spatial branch, with the layout and its GLIGEN boxes or ControlNet.",
        ),
    ]


def optional_inputs() -> list[io.Input]:
    """The inputs that every RealCompo sampler has a default for."""
    return [
        io.Model.Input(
            "spatial_model",
            optional=True,
            tooltip="The spatial branch: the model that places well. Left empty, the text branch's model.",
        ),
        io.Conditioning.Input(
            "spatial_negative",
            optional=True,
            tooltip="What to avoid, for the spatial branch. Left empty, the text branch's.",
        ),
        Balancer.Input(
            "balancer", optional=True, tooltip="From RealCompo Balancer. Left empty, its defaults."
        ),
    ]


def make_guider(
    node: type[Node],
    trace: TraceValue,
    model: Any,
    positive: list,
    negative: list,
    spatial_positive: list,
    cfg: float,
    spatial_model: Any = None,
    spatial_negative: list | None = None,
    balancer: BalancerSettings | None = None,
) -> RealCompoGuider:
    """A guider from the inputs declared above, with defaults for what is left empty."""
    text = BranchInputs(model, positive, negative)
    spatial = BranchInputs(
        spatial_model or model,
        spatial_positive,
        negative if spatial_negative is None else spatial_negative,
    )
    return RealCompoGuider(
        text, spatial, cfg, balancer or BalancerSettings(), trace, node.define_schema().display_name
    )


CFG = "How closely the prompt is followed, on the blended prediction. 1 leaves the negatives out with most samplers."
TRACE = "What happened, step by step: for RealCompo Trace Preview."


class RealCompoGuiderNode(Node):
    """Two branches as a guider for SamplerCustomAdvanced."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoGuider",
            display_name="RealCompo Guider",
            category=CATEGORY,
            description="Two balanced branches as a guider, for SamplerCustomAdvanced and any sampler and sigmas.",
            inputs=[
                *branch_inputs(),
                io.Float.Input(
                    "cfg", default=7.5, min=0.0, max=100.0, step=0.1, round=0.01, tooltip=CFG
                ),
                *optional_inputs(),
            ],
            outputs=[
                io.Guider.Output(
                    id="guider", display_name="guider", tooltip="For SamplerCustomAdvanced."
                ),
                Trace.Output(id="trace", display_name="trace", tooltip=TRACE),
            ],
        )

    @classmethod
    def run(cls, **inputs: Any) -> io.NodeOutput:
        trace = TraceValue()
        return io.NodeOutput(make_guider(cls, trace, **inputs), trace)


class RealCompoKSampler(Node):
    """The stock KSampler with two branches."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        samplers, schedulers = comfy.samplers.KSampler.SAMPLERS, comfy.samplers.KSampler.SCHEDULERS
        return io.Schema(
            node_id="RealCompoKSampler",
            display_name="RealCompo KSampler",
            category=CATEGORY,
            description="Sample with a realistic and a spatial model at once, balanced pixel by pixel.",
            inputs=[
                *branch_inputs(),
                io.Latent.Input("latent_image", tooltip="The latent to start from."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The seed of the noise, and of recipe official's start: same seed, same image.",
                ),
                io.Int.Input("steps", default=50, min=1, max=10000, tooltip="Denoising steps."),
                io.Float.Input(
                    "cfg", default=7.5, min=0.0, max=100.0, step=0.1, round=0.01, tooltip=CFG
                ),
                io.Combo.Input(
                    "sampler_name",
                    options=samplers,
                    default="ddim",
                    tooltip="The sampling algorithm.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=schedulers,
                    default="normal",
                    tooltip="How noise is taken away.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of noise that is put on the latent: below 1 the image's structure stays.",
                ),
                *optional_inputs(),
                io.Boolean.Input(
                    "show_balance",
                    optional=True,
                    default=False,
                    tooltip="While sampling, show the balance beside the preview: blue where the text branch leads, "
                    "orange where the spatial branch does. Needs previews switched on in ComfyUI.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    id="latent", display_name="latent", tooltip="The denoised latent."
                ),
                Trace.Output(id="trace", display_name="trace", tooltip=TRACE),
            ],
        )

    @classmethod
    def run(
        cls,
        latent_image: dict,
        seed: int,
        steps: int,
        sampler_name: str,
        scheduler: str,
        denoise: float,
        show_balance: bool = False,
        **inputs: Any,
    ) -> io.NodeOutput:
        trace = TraceValue()
        guider = make_guider(cls, trace, **inputs)
        callback = balance_preview(guider.model_patcher, steps, trace) if show_balance else None
        with _untouched_rng(guider.model_patcher.load_device):
            latent = _ksample(
                guider, latent_image, seed, steps, sampler_name, scheduler, denoise, callback
            )
        return io.NodeOutput(latent, trace)


def _ksample(
    guider: RealCompoGuider,
    latent: dict,
    seed: int,
    steps: int,
    sampler_name: str,
    scheduler: str,
    denoise: float,
    callback: Callable | None,
) -> dict:
    """Step for step what the stock KSampler does, with our guider in place of the stock one."""
    patcher = guider.model_patcher
    ratios = {
        key: latent[key]
        for key in ("downscale_ratio_spacial", "downscale_ratio_temporal")
        if key in latent
    }
    samples = comfy.sample.fix_empty_latent_channels(patcher, latent["samples"], **ratios)
    noise = comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
    stock = comfy.samplers.KSampler(
        patcher, steps, patcher.load_device, sampler_name, scheduler, denoise
    )
    samples = guider.sample(
        noise,
        samples,
        comfy.samplers.sampler_object(sampler_name),
        stock.sigmas,
        denoise_mask=latent.get("noise_mask"),
        callback=callback or latent_preview.prepare_callback(patcher, steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    kept = {key: value for key, value in latent.items() if key not in ratios}
    return kept | {
        "samples": samples.to(comfy.model_management.intermediate_device(), _intermediate_dtype())
    }


def _intermediate_dtype() -> torch.dtype:
    """What the host keeps latents in between nodes; older hosts keep what sampling gives."""
    return getattr(comfy.model_management, "intermediate_dtype", lambda: torch.float32)()


def _untouched_rng(device: torch.device) -> Any:
    """The host draws noise from torch's global generator; give it back as it was."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


NODES = [RealCompoBalancer, RealCompoGuiderNode, RealCompoKSampler]
