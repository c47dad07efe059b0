"""Layouts of language models: asked, told what is wrong, remembered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any, TypeVar

from comfy.model_management import throw_exception_if_processing_interrupted

from ....realcompo_core.errors import InputError, within
from ....realcompo_core.layout.model import Layout
from ....realcompo_core.planner.questions import complaint, conversation
from ....realcompo_core.planner.replies import read_reply
from . import chat
from .chat import Unanswered
from .node_text import tell
from .profiles import Profile

T = TypeVar("T")
POLL = 0.1  # seconds between looks at the interrupt flag
REMEMBERED = 64
REPEATED = 4000  # characters of a reply that its model is shown again
SEEDS = 2**31  # seeds run from 0 to here


class Plans:
    """The last layouts of language models, by profile with its settings, prompt and seed."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.layouts: OrderedDict[tuple[Profile, str, int], Layout] = OrderedDict()

    async def get(self, profile: Profile, prompt: str, seed: int) -> tuple[Layout, str]:
        """Return a layout and how it was made.

        Raises :class:`InputError` where there is none in time.
        """
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


async def planned(profile: Profile, prompt: str, seed: int) -> tuple[Layout, int]:
    """Return a model's layout and how often it was asked.

    The model is told what is wrong with a reply that can't be used. Raises :class:`InputError` for
    the last problem.
    """
    asking = _Asking(profile, prompt, seed)
    while True:
        try:
            return await asking.once(), asking.tries
        except InputError as error:
            problem = error
        if not await asking.goes_on(problem):
            break
    problem.got = chat.scrubbed(problem.got, profile)
    raise problem


class _Asking:
    """One layout's conversation: what was said, how often, and what the server refuses."""

    def __init__(self, profile: Profile, prompt: str, seed: int) -> None:
        self.profile = profile
        self.prompt = prompt
        self.seed = seed
        self.messages = conversation(prompt, profile.convention)
        self.reply = ""
        self.tries = 0
        self.waits = 0  # tries that found a server still loading, or refused a setting
        self.without: frozenset[str] = frozenset()
        self.deadline = _now() + profile.timeout

    async def once(self) -> Layout:
        """Ask once; raises :class:`InputError` for no answer, and for one that is no layout."""
        self.tries += 1
        again = f", try {self.tries}" if self.tries > 1 else ""
        tell(f"asking profile {self.profile.name!r}{again}...")
        self.reply = await chat.ask(self.profile, self.messages, self.seed, self.without)
        return read_reply(self.reply, self.prompt, self.profile.convention)

    async def goes_on(self, problem: InputError) -> bool:
        """Return whether to ask again, after waiting as long as the server asks for."""
        if isinstance(problem, Unanswered):
            return await self._after_no_answer(problem)
        if self._used_up():
            return False
        answer = {"role": "assistant", "content": self.reply[:REPEATED]}
        self.messages = [*self.messages, answer, complaint(problem)]
        return True

    async def _after_no_answer(self, problem: Unanswered) -> bool:
        if problem.setting and problem.setting not in self.without:
            self.without |= {problem.setting}
            self.waits += 1
            return True
        self.waits += problem.patient
        if problem.wait is None or self._used_up() or _now() + problem.wait >= self.deadline:
            return False
        if problem.other_seed:
            self.seed = (self.seed + 1) % SEEDS
        await asyncio.sleep(problem.wait)
        return True

    def _used_up(self) -> bool:
        return self.tries - self.waits > self.profile.retries


def _now() -> float:
    return asyncio.get_running_loop().time()


async def interruptible(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """Return the result of some work, which is cancelled at ComfyUI's interrupt or when time is up.

    Raises :class:`Unanswered` when time is up.
    """
    task = asyncio.ensure_future(work)
    deadline = _now() + seconds
    try:
        while not task.done():
            throw_exception_if_processing_interrupted()
            if _now() >= deadline:
                fix = "Raise the profile's timeout, or use a faster model."
                raise Unanswered(f"an answer within {seconds:g} seconds", "none", fix)
            await asyncio.wait({task}, timeout=POLL)
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
