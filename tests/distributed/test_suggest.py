"""Batches of a search: what the searcher is told, and when, whatever ends first."""

import pytest
from ray.tune.search import Searcher

from raydistill.distributed.suggest import InBatches


class Told(Searcher):
    """Suggests how many results it has heard of; remembers them."""

    def __init__(self):
        super().__init__(metric="objective", mode="max")
        self.heard = []

    def suggest(self, trial_id):
        return {"after": len(self.heard)}

    def on_trial_complete(self, trial_id, result=None, error=False):
        self.heard.append((trial_id, result, error))


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_results_are_told_a_batch_at_a_time_in_the_order_of_their_trials(order):
    search = InBatches(Told(), 2)
    assert [search.suggest(name) for name in "abc"] == [{"after": 0}, {"after": 0}, None]
    search.on_trial_complete(order[0], {"objective": 1})
    assert search.suggest("c") is None
    search.on_trial_complete(order[1], {"objective": 2}, error=True)
    assert [name for name, *_ in search.searcher.heard] == ["a", "b"]
    assert search.suggest("c") == {"after": 2}


def test_a_trial_that_ends_before_the_next_begins_is_no_batch():
    search = InBatches(Told(), 2)
    search.suggest("a")
    search.on_trial_complete("a", {"objective": 1})
    assert search.suggest("b") == {"after": 0}
    search.on_trial_complete("b", {"objective": 1})
    assert search.suggest("c") == {"after": 2}


def test_a_search_goes_on_in_the_middle_of_a_batch():
    search, again = InBatches(Told(), 2), InBatches(Told(), 2)
    search.suggest("a")
    search.suggest("b")
    search.on_trial_complete("b", {"objective": 1})
    again.set_state(search.get_state())
    again.on_trial_complete("stranger", {"objective": 9})
    again.on_trial_complete("a", {"objective": 2})
    assert [name for name, *_ in again.searcher.heard] == ["a", "b"]
