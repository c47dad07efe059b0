"""The pack's own socket types, declared once, and what all its nodes share."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..realcompo_core.errors import naming

CATEGORY = "RealCompo"

Layout = io.Custom("REALCOMPO_LAYOUT")
Balancer = io.Custom("REALCOMPO_BALANCER")
MoreBalancerSettings = io.Custom("REALCOMPO_BALANCER_SETTINGS")
Trace = io.Custom("REALCOMPO_TRACE")
AttentionMaps = io.Custom("REALCOMPO_ATTENTION_MAPS")
Concepts = io.Custom("SEPEN_CONCEPTS")
LoraModel = io.Custom("LORA_MODEL")

# Types of core (new ComfyUIs declare the first two) and of other packs. A list of boxes for each
# picture passes as both of the first: that is how core nodes hand boxes on.
BoundingBoxes = io.Custom("BOUNDING_BOX,BOUNDING_BOXES")
BOX_TYPES = [io.Custom(name) for name in ("BOUNDING_BOX", "BOUNDING_BOXES", "BBOX", "SEGS")]
PoseKeypoint = io.Custom("POSE_KEYPOINT")


class Node(io.ComfyNode):
    """A node whose input errors name it: subclasses define ``run`` in place of ``execute``."""

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        with naming(cls.define_schema().display_name):
            return cls.run(**inputs)

    @classmethod
    def run(cls, *args: Any, **inputs: Any) -> io.NodeOutput:
        raise NotImplementedError


class AsyncNode(Node):
    """A node that waits for something: its ``run`` is a coroutine, and other nodes go on."""

    @classmethod
    async def execute(cls, **inputs: Any) -> io.NodeOutput:
        with naming(cls.define_schema().display_name):
            return await cls.run(**inputs)

    @classmethod
    async def run(cls, *args: Any, **inputs: Any) -> io.NodeOutput:
        raise NotImplementedError
