"""A layout for a prompt, from a language model or by rules."""

from __future__ import annotations

from collections import Counter
from typing import Any

from comfy_api.latest import io, ui

from ..realcompo_core.errors import InputError
from ..realcompo_core.layout.model import Layout as LayoutValue
from ..realcompo_core.layout.text import to_json
from ..realcompo_core.planner import rules as offline
from ..realcompo_core.planner.comparison import lacking
from .host.server import profiles
from .host.server.planning import PLANS
from .host.server.profiles import OFFLINE
from .types import CATEGORY, AsyncNode, Layout


class RealCompoLayoutPlanner(AsyncNode):
    """Plans a layout from the prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoLayoutPlanner",
            display_name="RealCompo Layout Planner",
            category=CATEGORY,
            description="Make a layout out of a prompt: by built-in rules, or by a language model "
            "that the server's owner set up.",
            inputs=[
                io.String.Input(
                    "prompt",
                    multiline=True,
                    tooltip="The prompt, the same that RealCompo Layout Conditioning gets. "
                    "Say how many and where: two corgis to the left of a tabby cat.",
                ),
                io.Combo.Input(
                    "profile",
                    options=profiles.names(),
                    default=OFFLINE,
                    tooltip="offline plans by rules, without any network. Others are language "
                    "models from realcompo_planner.toml in ComfyUI's user folder.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**31 - 1,
                    control_after_generate=False,
                    tooltip="Language models only: another number asks for another layout. "
                    "The same number, prompt and profile are not asked twice.",
                ),
            ],
            outputs=[
                Layout.Output(
                    id="layout",
                    display_name="layout",
                    tooltip="The planned objects and their boxes.",
                ),
                io.String.Output(
                    id="json",
                    display_name="JSON",
                    tooltip="The same as JSON, to be edited in RealCompo Layout.",
                ),
                io.String.Output(
                    id="status",
                    display_name="status",
                    tooltip="Which planner it was, and what it placed.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, profile: str) -> bool | str:
        try:
            profiles.check(profile or OFFLINE)  # None where another node says it
        except InputError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, profile: str, **_: Any) -> int:
        """Return another number when the profiles' file has changed, so that it is read again."""
        return 0 if profile == OFFLINE else profiles.changed()

    @classmethod
    async def run(cls, prompt: str, profile: str, seed: int) -> io.NodeOutput:
        if profile == OFFLINE:
            layout = offline.plan(prompt)
            status = f"offline planner: {described(layout)}"
        else:
            layout, how = await PLANS.get(profiles.profile(profile), prompt, seed)
            status = f"{how}: {described(layout)}{warning(layout, prompt)}"
        return io.NodeOutput(layout, to_json(layout), status, ui=ui.PreviewText(status))


def described(layout: LayoutValue) -> str:
    """Return what a layout holds: "3 objects: two corgis (2), a tabby cat"."""
    counts = Counter(placed.phrase for placed in layout.objects)
    number = f"{len(layout.objects)} object{'s' if len(layout.objects) > 1 else ''}"
    return f"{number}: " + ", ".join(
        f"{phrase} ({n})" if n > 1 else phrase for phrase, n in counts.items()
    )


def warning(layout: LayoutValue, prompt: str) -> str:
    """Return what the prompt seems to name beyond a model's layout, as a line of its own.

    "" for nothing.
    """
    short = lacking(layout, prompt)
    return f"\nMissing, as it seems: {', '.join(short)}" if short else ""


NODES = [RealCompoLayoutPlanner]
