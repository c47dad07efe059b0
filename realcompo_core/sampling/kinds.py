"""The kinds of a step, decided once for each step by the settings and the schedule."""

from __future__ import annotations

from enum import Enum, auto

from .schedule import Schedule
from .settings import BalancerSettings, Mode


class Kind(Enum):
    """What happens at a step's first evaluation; its others are of a kind that reads nothing."""

    ONE_SIDED = auto()  # the only branch predicts: the stock sampler
    SPATIAL_ONLY = auto()  # warm-up: the spatial branch predicts
    NUDGED = auto()  # warm-up, in which attention also moves the latent before the next step
    REHEARSED = auto()  # warm-up, in which the balance already moves by a look ahead (OFFICIAL)
    BLENDED = auto()  # both predict, and are blended as the balance stands
    LOOKED_AHEAD = auto()  # both predict, the balance moves by a look ahead, then they are blended
    CAUGHT_UP = auto()  # both predict, the last step's balance moves by what their attention says


BLENDING = (Kind.BLENDED, Kind.LOOKED_AHEAD, Kind.CAUGHT_UP)  # those that follow the balance


def kind_of(
    step: int, settings: BalancerSettings, schedule: Schedule, *, to_catch_up: bool, nudges: bool
) -> Kind:
    """Return the kind of a step at its first evaluation.

    ``to_catch_up`` says whether an earlier step's balance is to follow attention at this latent
    (online); ``nudges`` whether attention may move the latent in warm-up.
    """
    plain = plain_kind(step, settings, schedule)
    if plain is Kind.BLENDED and to_catch_up:
        return Kind.CAUGHT_UP
    if plain is Kind.SPATIAL_ONLY and nudges and schedule.reads_attention(step, in_warmup=True):
        return Kind.NUDGED
    if not moves_balance(step, settings, schedule) or settings.looks_back:
        return plain
    return Kind.REHEARSED if plain is Kind.SPATIAL_ONLY else Kind.LOOKED_AHEAD


def plain_kind(step: int, settings: BalancerSettings, schedule: Schedule) -> Kind:
    """Return the kind of a step's further evaluations, which read no attention."""
    if settings.mode in (Mode.TEXT_ONLY, Mode.SPATIAL_ONLY):
        return Kind.ONE_SIDED
    return Kind.SPATIAL_ONLY if schedule.warming_up(step) else Kind.BLENDED


def catches_up_later(step: int, settings: BalancerSettings, schedule: Schedule) -> bool:
    """Say whether the balance of this step moves once the next step is reached (online)."""
    return settings.looks_back and moves_balance(step, settings, schedule)


def moves_balance(step: int, settings: BalancerSettings, schedule: Schedule) -> bool:
    """Say whether the balance of this step moves at all.

    It does not where a model would be asked at a noise level without a picture.
    """
    dynamic = settings.mode is Mode.DYNAMIC
    if settings.rules.current_sigma and step < schedule.blank:
        return False
    return dynamic and schedule.reads_attention(step, in_warmup=settings.rules.update_in_warmup)
