"""The course of a training: its losses, its gap between train and calibration images, and whether it must end."""

import math
from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Any

from raydistill.core.training import GuardConfig, OptimizerConfig

POINTS = 200
"""Points of a whole training, about."""

WINDOW = 51
"""Looks at the loss whose median is what it usually is."""


class History:
    """What is known of the steps so far; the same on every worker.

    Args:
        options: length of the training, and which losses are an explosion.
        loss: (step, mean loss since the point before) points.
        gap: (step, train loss, calibration loss) points.
        recent: losses since the last point.
        first: mean loss at the first look.
        looks: mean loss at each of the last `WINDOW` looks.
        stopped: why the training must end.
    """

    def __init__(
        self,
        options: OptimizerConfig,
        loss: Sequence[Sequence[float]] = (),
        gap: Sequence[Sequence[float]] = (),
        recent: Sequence[float] = (),
        first: float | None = None,
        looks: Sequence[float] = (),
        stopped: str | None = None,
    ) -> None:
        """Start empty, or from the `state` of a checkpoint."""
        self.options, self.width = options, max(1, options.steps // POINTS)
        self.loss, self.gap, self.recent = [list(p) for p in loss], [list(p) for p in gap], list(recent)
        self.first, self.looks, self.last = first, deque(looks, WINDOW), math.nan
        self.stopped = stopped
        self.has_diverged = False

    def add(self, step: int, losses: Sequence[float]) -> None:
        """Take in the losses of the steps up to `step`, and see whether they still make sense."""
        self.last = sum(losses) / len(losses)
        self.first = self.last if self.first is None else self.first
        start = step - len(losses)
        for number, loss in enumerate(losses, start=start + 1):
            if not math.isfinite(loss):
                return self._diverge(f"the loss was {loss} at step {number}")
            self.recent.append(loss)
            if number % self.width == 0 or number == self.options.steps:
                self._condense(number)
        # The median: one lucky batch, or one unlucky, is no measure of what a loss usually is.
        usual, limit = median(self.looks or [self.last]), self.options.max_loss_ratio
        self.looks.append(self.last)
        if self.last > max(limit * usual, self.first) > 0:
            what = f"the loss exploded to {self.last:.3g} at step {step}"
            self._diverge(f"{what}, over {limit:g} times its median and above its first")
        return None

    def check_weights(self, step: int, are_finite: bool) -> None:
        """See whether what is about to be saved is good."""
        if not are_finite:
            self._diverge(f"the weights weren't finite after step {step}")

    @property
    def measured(self) -> int | None:
        """The step of the last measurement of the gap."""
        return int(self.gap[-1][0]) if self.gap else None

    def add_gap(self, step: int, train: float, calibration: float, config: GuardConfig) -> float:
        """Take in a measurement; stop when the gap was too large `patience` times in a row. Returns the gap."""
        self.gap.append([step, train, calibration])
        gaps = [calibration / max(train, 1e-12) - 1 for _, train, calibration in self.gap[-config.patience :]]
        if (
            step < self.options.steps
            and config.max_gap is not None
            and len(gaps) == config.patience
            and min(gaps) > config.max_gap
        ):
            self.stopped = (
                f"step {step}: images of others have a loss {100 * gaps[-1]:.0f} % above that of train images, "
                f"max_gap is {100 * config.max_gap:.0f} %"
            )
        return gaps[-1]

    def _condense(self, step: int) -> None:
        self.loss.append([step, sum(self.recent) / len(self.recent)])
        self.recent = []

    def _diverge(self, what: str) -> None:
        self.stopped, self.has_diverged = f"{what}: lower the learning rate, or lengthen the warm-up", True

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs to go on."""
        return {
            "loss": self.loss, "gap": self.gap, "recent": self.recent,
            "first": self.first, "looks": list(self.looks), "stopped": self.stopped,
        }  # fmt: skip

    def summary(self) -> dict[str, Any]:
        """What `history.json` says."""
        if self.recent:
            self._condense(int(self.loss[-1][0] if self.loss else 0) + len(self.recent))
        return {"loss": self.loss, "gap": self.gap, "stopped": self.stopped}
