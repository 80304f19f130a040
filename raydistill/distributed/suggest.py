"""A search that tries the same whatever ends first: what is tried next follows from whole batches of results."""

from typing import Any

from ray.tune.search import Searcher


class InBatches(Searcher):  # type: ignore[misc]
    """Gives out whole batches, and tells their results in the order in which they were given out.

    Ray's `ConcurrencyLimiter` with `batch` closes a batch whenever nothing is running: a trial that ends before the
    next one has begun is a batch of its own, so its batches depend on the clock.

    Args:
        searcher: who suggests.
        size: trials of a batch, as many as run at a time.
    """

    def __init__(self, searcher: Searcher, size: int) -> None:
        super().__init__(metric=searcher.metric, mode=searcher.mode)
        self.searcher, self.size = searcher, size
        self.given: list[str] = []
        self.ended: dict[str, tuple[dict[str, Any] | None, bool]] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Pass on what is searched."""
        return bool(self.searcher.set_search_properties(metric, mode, config, **spec))

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
        if trial_id not in self.given:
            return
        self.ended[trial_id] = (result, error)
        if len(self.ended) == self.size:
            for given in self.given:
                its_result, failed = self.ended[given]
                self.searcher.on_trial_complete(given, result=its_result, error=failed)
            self.given, self.ended = [], {}

    def get_state(self) -> dict[str, Any]:
        """Return what Ray Tune keeps of a wrapper; it keeps the searcher apart."""
        return {"given": list(self.given), "ended": dict(self.ended)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take up what `get_state` returned."""
        self.given, self.ended = state["given"], state["ended"]
