"""The pack's nodes."""

from comfy_api.latest import ComfyExtension, io

from . import (
    attention,
    balancer,
    conditioning,
    converters,
    demo,
    guidance,
    layout,
    planner,
    preview,
    regional_attention,
    samplers,
    sepen_guidance,
    sepen_training,
)

NODES: list[type[io.ComfyNode]] = [
    *layout.NODES,
    *converters.NODES,
    *planner.NODES,
    *conditioning.NODES,
    *attention.NODES,
    *guidance.NODES,
    *regional_attention.NODES,
    *balancer.NODES,
    *samplers.NODES,
    *preview.NODES,
    *sepen_guidance.NODES,
    *sepen_training.NODES,
    *demo.NODES,
]


class RealCompoExtension(ComfyExtension):
    """What ComfyUI loads."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the nodes that ComfyUI shows."""
        return NODES
