"""A layout for a prompt, from a language model or by rules."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Coroutine
from typing import Any, TypeVar

from comfy.model_management import throw_exception_if_processing_interrupted
from comfy_api.latest import io, ui

from ..realcompo_core.errors import InputError, within
from ..realcompo_core.layout.model import Layout as LayoutValue
from ..realcompo_core.layout.text import to_json
from ..realcompo_core.planner import rules as offline
from ..realcompo_core.planner.language_model import complaint, conversation, read_reply
from .host.server import chat, profiles
from .host.server.chat import Unanswered
from .host.server.node_text import tell
from .host.server.profiles import OFFLINE, Profile
from .types import CATEGORY, AsyncNode, Layout

T = TypeVar("T")
POLL = 0.1  # seconds between looks at the interrupt flag
REMEMBERED = 64
REPEATED = 4000  # characters of a reply that its model is shown again


class RealCompoLayoutPlanner(AsyncNode):
    """Plans a layout from the prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoLayoutPlanner",
            display_name="RealCompo Layout Planner",
            category=CATEGORY,
            description="Make a layout out of a prompt: by built-in rules, or by a language model that the server's "
            "owner set up.",
            inputs=[
                io.String.Input(
                    "prompt",
                    multiline=True,
                    tooltip="The prompt, the same that RealCompo Layout Conditioning gets. Say how many and where: "
                    "two corgis to the left of a tabby cat.",
                ),
                io.Combo.Input(
                    "profile",
                    options=profiles.names(),
                    default=OFFLINE,
                    tooltip="offline plans by rules, without any network. Others are language models from "
                    "realcompo_planner.toml in ComfyUI's user folder.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**31 - 1,
                    control_after_generate=False,
                    tooltip="Language models only: another number asks for another layout. The same number, prompt "
                    "and profile are not asked twice.",
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
        """Looks at the profiles again when their file has changed."""
        return 0 if profile == OFFLINE else profiles.changed()

    @classmethod
    async def run(cls, prompt: str, profile: str, seed: int) -> io.NodeOutput:
        if profile == OFFLINE:
            layout, how = offline.plan(prompt), "offline planner"
        else:
            layout, how = await PLANS.get(profiles.profile(profile), prompt, seed)
        status = f"{how}: {described(layout)}"
        return io.NodeOutput(layout, to_json(layout), status, ui=ui.PreviewText(status))


class Plans:
    """The last layouts of language models, by profile with its settings, prompt and seed."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.layouts: OrderedDict[tuple[Profile, str, int], LayoutValue] = OrderedDict()

    async def get(self, profile: Profile, prompt: str, seed: int) -> tuple[LayoutValue, str]:
        """A layout and how it was come by."""
        key = profile, prompt, seed
        if key in self.layouts:
            self.layouts.move_to_end(key)
            return self.layouts[key], f"profile {profile.name!r}, not asked again"
        with within(f"profile {profile.name!r}"):
            try:
                layout, tries = await interruptible(planned(profile, prompt, seed), profile.timeout)
            finally:
                tell("")
        self.layouts[key] = layout
        while len(self.layouts) > self.size:
            self.layouts.popitem(last=False)
        return layout, f"profile {profile.name!r}" + (f", {tries} tries" if tries > 1 else "")


PLANS = Plans(REMEMBERED)


async def planned(profile: Profile, prompt: str, seed: int) -> tuple[LayoutValue, int]:
    """A model's layout and how often it was asked; it is told what is wrong with a reply that can't be used."""
    messages, reply = conversation(prompt, profile.convention), ""
    deadline = asyncio.get_running_loop().time() + profile.timeout
    for number in range(1, profile.retries + 2):
        tell(f"asking profile {profile.name!r}{f', try {number}' if number > 1 else ''}...")
        try:
            reply = await chat.ask(profile, messages, seed)
            return read_reply(reply, prompt, profile.convention), number
        except InputError as error:
            problem = error
        wait = problem.wait if isinstance(problem, Unanswered) else 0.0
        if (
            number > profile.retries
            or wait is None
            or asyncio.get_running_loop().time() + wait >= deadline
        ):
            break
        if not isinstance(problem, Unanswered):
            messages += [{"role": "assistant", "content": reply[:REPEATED]}, complaint(problem)]
        await asyncio.sleep(wait)
    problem.got = chat.scrubbed(problem.got, profile)
    raise problem


async def interruptible(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """The result of some work, which is cancelled at ComfyUI's interrupt or when time is up."""
    task, clock = asyncio.ensure_future(work), asyncio.get_running_loop().time
    deadline = clock() + seconds
    try:
        while not task.done():
            throw_exception_if_processing_interrupted()
            if clock() >= deadline:
                fix = "Raise the profile's timeout, or use a faster model."
                raise Unanswered(f"an answer within {seconds:g} seconds", "none", fix)
            await asyncio.wait({task}, timeout=POLL)
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def described(layout: LayoutValue) -> str:
    """What a layout holds: "3 objects: two corgis (2), a tabby cat"."""
    counts = Counter(placed.phrase for placed in layout.objects)
    number = f"{len(layout.objects)} object{'s' if len(layout.objects) > 1 else ''}"
    return f"{number}: " + ", ".join(
        f"{phrase} ({n})" if n > 1 else phrase for phrase, n in counts.items()
    )


NODES = [RealCompoLayoutPlanner]
