"""When a search gives out what it suggests: in whole batches, and no faster than workers start."""

from typing import Any

from ray.tune.search import Searcher

STARTING_S = 2.0
"""What it takes to start a worker that imports what a trial needs, about."""


class Around(Searcher):  # type: ignore[misc]
    """Stands between Ray Tune and a searcher.

    Args:
        searcher: who suggests.
    """

    def __init__(self, searcher: Searcher) -> None:
        super().__init__(metric=searcher.metric, mode=searcher.mode)
        self.searcher = searcher

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Pass on what is searched."""
        return bool(self.searcher.set_search_properties(metric, mode, config, **spec))

    def get_state(self) -> dict[str, Any]:
        """Return nothing: Ray Tune asks for a state, and no search goes on from it."""
        return {}


class InBatches(Around):
    """Gives out whole batches, and tells their results in the order in which they were given out.

    Ray's `ConcurrencyLimiter` with `batch` closes a batch whenever nothing is running: a trial that ends before the
    next one has begun is a batch of its own, so its batches depend on the clock.

    Args:
        searcher: who suggests.
        size: trials of a batch, as many as run at a time.
    """

    def __init__(self, searcher: Searcher, size: int) -> None:
        super().__init__(searcher)
        self.size = size
        self.given: list[str] = []
        self.ended: dict[str, tuple[dict[str, Any] | None, bool]] = {}

    def suggest(self, trial_id: str) -> Any:
        """Return a setting, or None while a batch is under way."""
        if len(self.given) >= self.size:
            return None
        suggestion = self.searcher.suggest(trial_id)
        if suggestion not in (None, Searcher.FINISHED):
            self.given.append(trial_id)
        return suggestion

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Keep a result until all of its batch are there."""
        self.ended[trial_id] = (result, error)
        if len(self.ended) == self.size:
            for given in self.given:
                its_result, failed = self.ended[given]
                self.searcher.on_trial_complete(given, result=its_result, error=failed)
            self.given, self.ended = [], {}


class Paced(Around):
    """Gives out one setting after the other, until a trial has taken longer than a worker takes to start.

    Ray Tune starts a worker for every trial that waits, and ends it when another is free before: of short trials a
    second worker never gets to one, and starting it costs more than they do.

    After a trial that failed for good nothing is given out: the search has failed, and others mostly would as well.
    """

    def __init__(self, searcher: Searcher) -> None:
        super().__init__(searcher)
        self.under_way, self.are_long, self.has_failed = 0, False, False

    def suggest(self, trial_id: str) -> Any:
        """Return a setting, or None while one is under way, if they are short."""
        if self.has_failed:
            return Searcher.FINISHED
        if self.under_way and not self.are_long:
            return None
        suggestion = self.searcher.suggest(trial_id)
        self.under_way += suggestion not in (None, Searcher.FINISHED)
        return suggestion

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Look at the time it took."""
        self.under_way, self.has_failed = self.under_way - 1, self.has_failed or error
        self.are_long |= (result or {}).get("time_total_s", 0.0) >= STARTING_S
        self.searcher.on_trial_complete(trial_id, result=result, error=error)
