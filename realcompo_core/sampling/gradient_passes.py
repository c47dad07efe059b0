"""Gradient passes through the branches, within the memory there is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from .branch import Branch, Point, Prediction, Side
from .pull import Pull

SHORT = "RealCompo: memory is short for attention's gradient"
Branches = Mapping[Side, Branch]
Predictions = dict[Side, Prediction]
Pulls = dict[Side, Pull]


def predict(branches: Branches, at: Point) -> Predictions:
    """Evaluate branches at a point, without a graph."""
    return {side: branch.predict(at) for side, branch in branches.items()}


class GradientPasses:
    """Makes a run's gradient passes, and falls back where memory is short for them.

    ``loss_weights`` says how much each side's loss counts: one of 0 needs no gradient. Attention is
    read at every n-th step (``every``). Where a pass raises one of ``out_of_memory``, the run turns
    to ``checkpointing`` from there on. Where that is not enough, this step goes without, and the
    rest of the run reads half as often. ``free_cache`` frees what the device still holds.
    """

    def __init__(
        self,
        loss_weights: Mapping[Side, float],
        every: int = 1,
        checkpointing: bool = False,
        out_of_memory: type[BaseException] | tuple[type[BaseException], ...] = MemoryError,
        free_cache: Callable[[], object] = lambda: None,
    ) -> None:
        self.loss_weights, self.every, self.checkpointing = loss_weights, every, checkpointing
        self.out_of_memory, self.free_cache = out_of_memory, free_cache

    def pull(self, branches: Branches, at: Mapping[Side, Point]) -> Pulls:
        """Return what each branch's attention asks for; nothing where memory is too short."""

        def passes() -> Pulls:
            pulls: Pulls = {}
            for side, branch in branches.items():
                pulls[side] = branch.pull(at[side], **self._how(side))
            return pulls

        return self._within_memory(passes)

    def predict_and_pull(self, branches: Branches, at: Point) -> tuple[Predictions, Pulls]:
        """Return predictions and what attention asks for, by one evaluation of each conditioning.

        Where memory is too short, plain predictions and nothing.
        """
        predictions: Predictions = {}

        def passes() -> Pulls:
            pulls: Pulls = {}
            for side, branch in branches.items():
                predictions[side], pulls[side] = branch.predict_and_pull(at, **self._how(side))
            return pulls

        pulls = self._within_memory(passes)
        return (predictions, pulls) if pulls else (predict(branches, at), {})

    def _how(self, side: Side) -> dict[str, bool]:
        return {"gradient": self.loss_weights[side] > 0, "checkpointing": self.checkpointing}

    def _within_memory(self, passes: Callable[[], Pulls]) -> Pulls:
        """What the passes find; nothing where memory is too short even with checkpointing."""
        while True:
            try:
                return passes()
            except self.out_of_memory:
                pass  # the exception's frames hold the pass's tensors until here
            self.free_cache()
            if self.checkpointing:
                break
            logging.warning(f"{SHORT}; from here on with checkpointing")
            self.checkpointing = True
        self.every = 2 * self.every
        logging.warning(
            f"{SHORT}; even with checkpointing; this step goes without, "
            "and so do all but one in %d from here on",
            self.every,
        )
        return {}
