"""One ComfyUI server at work: a job goes in, an image or the reasons why not come out."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import aiohttp
from PIL import Image

from testkit.client import Client, NodeError, Refusal, ServerError, connect
from testkit.server import serve

from .jobs import Job
from .template import Template

ANSWER_SECONDS = 60
PAUSE = 2
WORDED = "InputError"  # of this pack: what is wrong with the inputs, whatever the seed
FAILURES = (ServerError, aiohttp.ClientError, asyncio.TimeoutError, OSError)


@dataclass(frozen=True)
class Site:
    """A server: running at ``url``, or else to be started.

    ``models`` is its folder of models, None for ComfyUI's own.
    """

    url: str | None = None
    models: Path | None = None
    cpu: bool = False


@dataclass(frozen=True)
class Effort:
    """How hard an image is tried.

    ``tries`` are attempts, ``pause`` the seconds between (doubling), ``limit`` those for each and
    ``patience`` those for a server to come back.
    """

    tries: int = 3
    pause: float = 1.0
    limit: float = 1800.0
    patience: float = 300.0


@dataclass(frozen=True)
class Outcome:
    """An image as PNG, or the error of every attempt; ``gone`` if no server was there to try it."""

    job: Job
    image: bytes | None = None
    errors: tuple[str, ...] = ()
    gone: bool = False


class Worker:
    """Drives one server."""

    def __init__(self, site: Site, effort: Effort) -> None:
        self.site = site
        self.effort = effort
        self.client: Client | None = None
        self.resources = AsyncExitStack()
        self.hopeless: dict[tuple[str, str | None], tuple[str, ...]] = {}

    async def definitions(self) -> dict[str, dict]:
        """Return the server's object_info; raises :class:`ServerError` if there is no server."""
        return await (await self._ready(patience=0.0)).get("object_info")

    async def make(self, template: Template, job: Job) -> Outcome:
        """Return an image, tried again after a failure as the effort says.

        A node's error that comes twice in the same words is not tried a third time. Where a node
        says that its inputs are wrong, other images of the same prompt and layout are not tried at
        all. Raises :class:`Refusal` if the server does not take the workflow, which no image could
        change.
        """
        question = (job.prompt, job.layout)
        if question in self.hopeless:
            return Outcome(job, errors=self.hopeless[question])
        errors: list[str] = []
        for attempt in range(self.effort.tries):
            await asyncio.sleep(self.effort.pause * 2 ** (attempt - 1) if attempt else 0)
            try:
                client = await self._ready(self.effort.patience)
            except ServerError as error:
                return Outcome(job, errors=(*errors, str(error)), gone=True)
            try:
                image = await asyncio.wait_for(_image(client, template, job), self.effort.limit)
            except Refusal:
                raise
            except FAILURES as error:
                errors.append(str(error) or f"{type(error).__name__} after {self.effort.limit} s")
                if self._gives_up(question, error, errors):
                    break
            else:
                return Outcome(job, image)
        return Outcome(job, errors=tuple(errors))

    def _gives_up(
        self, question: tuple[str, str | None], error: Exception, errors: Sequence[str]
    ) -> bool:
        """Whether no further attempt helps; remembers a question that is wrong for every seed."""
        if not isinstance(error, NodeError) or not _cannot_change(error, errors):
            return False
        if error.kind.endswith(WORDED):
            self.hopeless[question] = tuple(errors)
        return True

    async def close(self) -> None:
        """End the connection, and the server if it is this worker's own."""
        self.client = None
        await self.resources.aclose()

    async def _ready(self, patience: float) -> Client:
        if self.client is None or not await _answers(self.client):
            await self.close()
            self.client = await (self._connect(patience) if self.site.url else self._start())
        return self.client

    async def _connect(self, patience: float) -> Client:
        client = await self.resources.enter_async_context(connect(self.site.url or ""))
        for waited in range(0, ceil(patience), PAUSE):
            if await _answers(client):
                return client
            if not waited:
                print(f"\ncompbench: waiting for {self.site.url}", file=sys.stderr, flush=True)
            await asyncio.sleep(PAUSE)
        if not await _answers(client):
            raise ServerError(f"no ComfyUI answers at {self.site.url}")
        return client

    async def _start(self) -> Client:
        base = self.resources.enter_context(
            tempfile.TemporaryDirectory(prefix="compbench-", ignore_cleanup_errors=True)
        )
        models = self.site.models or Path(os.environ["COMFYUI_PATH"]) / "models"
        return await self.resources.enter_async_context(
            serve(Path(base), models=models, cpu=self.site.cpu)
        )


def _cannot_change(error: NodeError, errors: Sequence[str]) -> bool:
    """Whether a node failed twice in the same words, for want of anything but memory."""
    if "OutOfMemory" in error.kind:
        return False
    return len(errors) > 1 and errors[-1] == errors[-2]


async def _answers(client: Client) -> bool:
    try:
        await asyncio.wait_for(client.get("prompt"), ANSWER_SECONDS)
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
        return False
    return True


async def _image(client: Client, template: Template, job: Job) -> bytes:
    outputs = await client.run(template.filled(job))
    images = outputs.get(template.image, {}).get("images", [])
    if len(images) != 1:
        text = f"node {template.image} gave {len(images)} images instead of one"
        raise ServerError(f"{text}: interrupted, or a batch?")
    return _whole_png(await client.file(images[0]))


def _whole_png(data: bytes) -> bytes:
    """Return the picture as PNG; raises OSError if some of it is missing."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if image.format == "PNG":
            return data
        image.save(converted := io.BytesIO(), "PNG")
        return converted.getvalue()
