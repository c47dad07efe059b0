"""How a latent is moved down an objective (Layout Guidance, arXiv 2304.03373)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .coordinates import per_sample
from .fields import check_ranges, setting
from .schedule import Schedule, step_at

START = "Where guidance begins, as a share of the sampler's steps. 0 is the first step."
NOT_COUNTED = "A flow model's first step, which is noise alone, is not counted."
START_MORE = f"The composition is decided early, so a late start helps little. {NOT_COUNTED}"
END = (
    "Where guidance ends, as a share of the sampler's steps. Higher guides for longer, which "
    "costs time."
)


@dataclass(frozen=True)
class GuidanceSettings:
    """Say when and how far a latent is moved before a model is evaluated.

    Raises :class:`InputError` for values out of range.
    """

    scale: float = setting(
        30.0,
        "How far each move goes. Higher follows the boxes more closely; too high damages the "
        "image.",
        low=0,
        high=1e6,
        more="It is the factor on the gradient times the noise level squared.",
    )
    threshold: float = setting(
        0.2,
        "When an object counts as placed: an image is moved only while its loss is above this. "
        "Lower places objects more strictly.",
        low=0,
        high=1,
        step=0.01,
        more="0.2 is reached when about 55% of the attention lies inside the boxes. Each image of "
        "a batch is judged by itself.",
    )
    iterations: int = setting(
        5,
        "The most moves at one step. Each costs about as much time as one evaluation of the model.",
        low=1,
        high=100,
    )
    start: float = setting(0.0, START, low=0, high=1, step=0.05, more=START_MORE)
    end: float = setting(
        0.2, END, low=0, high=1, step=0.05, more="0.2 is the first 10 of 50 steps."
    )

    def __post_init__(self) -> None:
        check_ranges(self)

    def guides(self, step: int, schedule: Schedule) -> bool:
        """Whether the latent is moved at this step of a run: never where it holds no picture."""
        first, end = (
            step_at(share, schedule.steps, schedule.blank) for share in (self.start, self.end)
        )
        return first <= step < end


def descend(latent: Tensor, gradient: Tensor, sigma: Tensor, scale: float) -> Tensor:
    """Return the moved latent [B, C, H, W]: Layout Guidance's ``x - scale * sigma^2 * dL/dx``.

    ``latent`` and ``gradient`` are [B, C, H, W], ``sigma`` is [B]. The formula is the same in VE
    and flow coordinates: a latent's factor, and the gradient's, make up for that of the sigma.
    """
    return latent - scale * per_sample(sigma, latent).square() * gradient
