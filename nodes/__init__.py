"""The pack's nodes."""

from comfy_api.latest import ComfyExtension, io

from . import (
    attention,
    conditioning,
    converters,
    demo,
    guidance,
    layout,
    planner,
    preview,
    sampling,
    separation,
    training,
)

NODES: list[type[io.ComfyNode]] = [
    *layout.NODES,
    *converters.NODES,
    *planner.NODES,
    *conditioning.NODES,
    *attention.NODES,
    *guidance.NODES,
    *sampling.NODES,
    *preview.NODES,
    *separation.NODES,
    *training.NODES,
    *demo.NODES,
]


class RealCompoExtension(ComfyExtension):
    """What ComfyUI loads."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
