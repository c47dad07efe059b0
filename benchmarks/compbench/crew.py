"""Who makes the images: one worker in this process, or many on Ray."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from realcompo_core.errors import InputError
from testkit.client import ServerError

from .jobs import Job
from .template import Template
from .worker import Effort, Outcome, Site, Worker

CLOSE_SECONDS = 20


class Crew(Protocol):
    def definitions(self) -> dict[str, dict]:
        """object_info of a server; raises :class:`ServerError` if one doesn't answer."""

    def make(self, template: Template, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Outcomes as they come; raises :class:`ServerError` when no server is left."""


@contextmanager
def crew_of(sites: Sequence[Site], effort: Effort, address: str | None) -> Generator[Crew]:
    """A worker for each server.

    On Ray if they are several, or if there is the address of a cluster.
    """
    crew = (
        _alone(sites[0], effort)
        if len(sites) == 1 and address is None
        else _on_ray(sites, effort, address)
    )
    with crew as ready:
        yield ready


@dataclass(frozen=True)
class Alone:
    """One worker."""

    worker: Worker
    runner: asyncio.Runner

    def definitions(self) -> dict[str, dict]:
        return self.runner.run(self.worker.definitions())

    def make(self, template: Template, jobs: Iterable[Job]) -> Iterator[Outcome]:
        for job in jobs:
            outcome = self.runner.run(self.worker.make(template, job))
            if outcome.gone:
                raise ServerError(outcome.errors[-1])
            yield outcome


@contextmanager
def _alone(site: Site, effort: Effort) -> Generator[Alone]:
    worker = Worker(site, effort)
    with asyncio.Runner() as runner:
        try:
            yield Alone(worker, runner)
        finally:
            runner.run(worker.close())


@dataclass(frozen=True)
class OnRay:
    """Actors on Ray, which places them, hands out the images, restarts what is lost and gives it
    its image again.
    """

    workers: Sequence[Any]

    def definitions(self) -> dict[str, dict]:
        import ray

        with _plain_errors():
            return ray.get([worker.definitions.remote() for worker in self.workers])[0]

    def make(self, template: Template, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """A worker with nothing else to do takes an image that is long in coming.

        Its machine may be lost for good.
        """
        from ray.util import ActorPool

        pool, gone = ActorPool(self.workers), 0
        waiting = {job.number: job for job in jobs}
        submit = partial(pool.submit, lambda worker, job: worker.make.remote(template, job))
        for job in waiting.values():
            submit(job)
        while waiting:
            with _plain_errors():
                outcome = pool.get_next_unordered()
            gone = gone + 1 if outcome.gone else 0
            if gone > len(self.workers):
                raise ServerError(outcome.errors[-1])
            if not outcome.gone and waiting.pop(outcome.job.number, None):
                yield outcome
            if waiting and pool.has_free():
                oldest = next(iter(waiting))
                waiting[oldest] = waiting.pop(oldest)
                submit(waiting[oldest])


@contextmanager
def _on_ray(sites: Sequence[Site], effort: Effort, address: str | None) -> Generator[OnRay]:
    ray = _ray(address)
    actor = ray.remote(
        num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy="SPREAD"
    )(Worker)
    gpu = "GPU" in ray.cluster_resources()
    workers = [
        actor.options(num_gpus=int(gpu and not (site.url or site.cpu))).remote(site, effort)
        for site in sites
    ]
    try:
        yield OnRay(workers)
    finally:
        ray.wait(
            [worker.close.remote() for worker in workers],
            num_returns=len(workers),
            timeout=CLOSE_SECONDS,
        )
        ray.shutdown()


@contextmanager
def _plain_errors() -> Generator[None]:
    """A worker's error without Ray's wrapping."""
    from ray.exceptions import RayTaskError

    try:
        yield
    except RayTaskError as error:
        raise error.cause from error


def _ray(address: str | None) -> Any:
    """Ray, connected to a cluster or started on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report home
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "servers", "Ray, for several of them", str(error), "pip install ray"
        ) from error
    here = {"address": "local", "include_dashboard": False}
    ray.init(**({"address": address} if address else here), logging_level=logging.ERROR)
    return ray
