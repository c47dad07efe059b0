"""Sampling with two branches."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..realcompo_core.sampling.settings import BalancerSettings
from ..realcompo_core.sampling.trace import Trace as TraceValue
from .host.sampling.balance_preview import balance_preview
from .host.sampling.guider import BranchInputs, RealCompoGuider
from .host.sampling.ksampler import KSampling, sampler_names, scheduler_names
from .types import CATEGORY, Balancer, Node, Trace


def branch_inputs() -> list[io.Input]:
    """Return the inputs of two branches that every RealCompo sampler needs."""
    return [
        io.Model.Input("model", tooltip="The text branch: the model whose look you want."),
        io.Conditioning.Input(
            "positive",
            tooltip="The prompt for the text branch: from text of RealCompo Layout Conditioning.",
        ),
        io.Conditioning.Input("negative", tooltip="What to avoid, for the text branch."),
        io.Conditioning.Input(
            "spatial_positive",
            tooltip="The prompt for the spatial branch: from spatial of RealCompo Layout "
            "Conditioning, with its GLIGEN boxes or through a ControlNet.",
        ),
    ]


def cfg_input() -> io.Input:
    """Return the input of the guidance by the prompt."""
    return io.Float.Input(
        "cfg",
        default=7.5,
        min=0.0,
        max=100.0,
        step=0.1,
        round=0.01,
        tooltip="How closely the prompt is followed. Higher obeys more; too high burns the image. "
        "1 leaves the negative prompts out with most samplers.",
    )


def optional_inputs() -> list[io.Input]:
    """Return the inputs that every RealCompo sampler has a default for."""
    return [
        io.Model.Input(
            "spatial_model",
            optional=True,
            tooltip="The spatial branch: the model that places objects well. Left empty, the "
            "text branch's model.",
        ),
        io.Conditioning.Input(
            "spatial_negative",
            optional=True,
            tooltip="What to avoid, for the spatial branch. Left empty, the same as for the text "
            "branch.",
        ),
        Balancer.Input(
            "balancer", optional=True, tooltip="From RealCompo Balancer. Left empty, its defaults."
        ),
    ]


def spatial_cfg_input() -> io.Input:
    """Return the input of the guidance of the spatial branch alone."""
    return io.Float.Input(
        "spatial_cfg",
        optional=True,
        default=0.0,
        min=0.0,
        max=100.0,
        step=0.1,
        round=0.01,
        tooltip="How closely the spatial branch follows its prompt. 0 means as cfg. Models that "
        "were distilled for guidance (Flux, Turbo) want 1 beside a model that wants more.",
    )


def trace_output() -> io.Output:
    """Return the output that tells what happened."""
    return Trace.Output(
        id="trace",
        display_name="trace",
        tooltip="What happened, step by step: for RealCompo Trace Preview. It fills while the "
        "sampler runs.",
    )


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
    spatial_cfg: float = 0.0,
) -> RealCompoGuider:
    """Return a guider from the inputs declared above, with defaults for what is left empty."""
    if spatial_negative is None:
        spatial_negative = negative
    text = BranchInputs(model, positive, negative)
    spatial = BranchInputs(
        spatial_model or model, spatial_positive, spatial_negative, spatial_cfg or None
    )
    name = node.define_schema().display_name
    return RealCompoGuider(text, spatial, cfg, balancer or BalancerSettings(), trace, name)


class RealCompoGuiderNode(Node):
    """Two branches as a guider for SamplerCustomAdvanced."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoGuider",
            display_name="RealCompo Guider",
            category=CATEGORY,
            description="Sample two models at once with SamplerCustomAdvanced, any sampler and "
            "any sigmas.",
            inputs=[*branch_inputs(), cfg_input(), *optional_inputs(), spatial_cfg_input()],
            outputs=[
                io.Guider.Output(
                    id="guider",
                    display_name="guider",
                    tooltip="For the input guider of SamplerCustomAdvanced.",
                ),
                trace_output(),
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
        return io.Schema(
            node_id="RealCompoKSampler",
            display_name="RealCompo KSampler",
            category=CATEGORY,
            description="Sample two models at once: one for the look, one that puts objects where "
            "you want them.",
            inputs=[
                *branch_inputs(),
                io.Latent.Input("latent_image", tooltip="The latent to start from."),
                *sampling_inputs(),
                *optional_inputs(),
                io.Boolean.Input(
                    "show_balance",
                    optional=True,
                    default=False,
                    tooltip="Show which branch leads beside the preview while sampling: blue for "
                    "text, orange for spatial. Needs previews switched on in ComfyUI's settings "
                    "(Live preview method).",
                ),
                spatial_cfg_input(),
            ],
            outputs=[
                io.Latent.Output(
                    id="latent", display_name="latent", tooltip="The result, for VAE Decode."
                ),
                trace_output(),
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
        sampling = KSampling(seed, steps, sampler_name, scheduler, denoise)
        return io.NodeOutput(sampling.sample(guider, latent_image, callback), trace)


def sampling_inputs() -> list[io.Input]:
    """Return the stock KSampler's widgets."""
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="The random seed: the same seed gives the same image.",
        ),
        io.Int.Input(
            "steps", default=50, min=1, max=10000, tooltip="How many steps take the noise away."
        ),
        cfg_input(),
        io.Combo.Input(
            "sampler_name",
            options=sampler_names(),
            default="ddim",
            tooltip="The sampling algorithm.",
        ),
        io.Combo.Input(
            "scheduler",
            options=scheduler_names(),
            default="normal",
            tooltip="How the noise is spread over the steps.",
        ),
        io.Float.Input(
            "denoise",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="How much noise is put on the latent first. Lower keeps more of the picture "
            "that you start from.",
        ),
    ]


NODES = [RealCompoGuiderNode, RealCompoKSampler]
