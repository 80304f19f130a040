"""Batches of a search: what the searcher is told, and when, whatever ends first."""

import pytest
from ray.tune.search import Searcher

from raydistill.core.searching import TuneConfig
from raydistill.distributed.pacing import STARTING_S, InBatches, Paced
from raydistill.distributed.suggest import count_of, domains, suggester
from raydistill.distributed.tune import Bounds, Search
from raydistill.stages.tune import plan_of


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


def test_one_at_a_time_while_trials_are_shorter_than_the_start_of_a_worker():
    search, short, long = Paced(InBatches(Told(), 3)), {"time_total_s": 0.1}, {"time_total_s": 2 * STARTING_S}
    assert [search.suggest(name) for name in "ab"] == [{"after": 0}, None]
    search.on_trial_complete("a", short)
    assert [search.suggest(name) for name in "bc"] == [{"after": 0}, None]
    search.on_trial_complete("b", long)
    assert [search.suggest(name) for name in "cd"] == [{"after": 0}, None], "the batch has three"
    search.on_trial_complete("c", short)
    assert [search.suggest(name) for name in "defg"] == [{"after": 3}] * 3 + [None]


def test_after_a_trial_that_failed_for_good_no_other_begins():
    search = Paced(InBatches(Told(), 2))
    search.suggest("a")
    search.on_trial_complete("a", error=True)
    assert search.suggest("b") == Searcher.FINISHED


def settings(way, plan, of="target_fpir"):
    """What a search tries of which everything is feasible, and whatever `way` says is good."""
    search, tried = suggester(plan), []
    search.set_search_properties(None, None, domains(plan))
    for first in range(0, plan.num_trials, plan.batch):
        names = [f"trial-{number}" for number in range(first, first + plan.batch)]
        given = {name: search.suggest(name) for name in names}
        for name, setting in given.items():
            told = dict.fromkeys(plan.goals, way * setting[of])
            search.on_trial_complete(name, told | {"constraints/risk": -1.0})
        tried += [setting[of] for setting in given.values()]
    return tried


def test_by_default_all_batches_but_the_first_depend_on_results():
    plan = plan_of(TuneConfig(), 0)
    up, down = settings(1, plan), settings(-1, plan)
    same = [one == other for one, other in zip(up, down, strict=True)]
    assert all(same[: plan.batch])
    for first in range(plan.batch, plan.num_trials, plan.batch):
        assert not all(same[first : first + plan.batch])
    assert sum(up[plan.batch :]) > sum(down[plan.batch :])
    assert len(set(up)) == len(up), "a batch isn't one setting many times"


ONE = {"number": Bounds(0.01, 0.05), "whole": Bounds(1, 400, is_whole=True), "listed": tuple(range(1, 9))}


@pytest.mark.parametrize("goals", [{"objective": "max"}, {"objective": "max", "kept_share": "max"}])
@pytest.mark.parametrize("kind", ONE)
def test_of_a_single_setting_nsga2_learns_too(kind, goals):
    plan = Search({"x": ONE[kind]}, goals, 32, 8, 0, "nsga2")
    up, down = settings(1, plan, "x"), settings(-1, plan, "x")
    assert up[: plan.batch] == down[: plan.batch]
    last = plan.num_trials - plan.batch
    assert sum(up[last:]) > 1.3 * sum(down[last:])
    assert sum(up[last:]) >= sum(up[: plan.batch])


def test_random_settings_wait_for_nobody():
    plan = plan_of(TuneConfig(algorithm="random"), 0)
    search = suggester(plan)
    search.set_search_properties(None, None, domains(plan))
    assert None not in [search.suggest(str(number)) for number in range(plan.num_trials)]


def test_a_grid_has_no_more_points_than_asked_for():
    ways = Bounds(0.1, 1.0), (1, 2, 3)
    for trials in (3, 8, 13):
        plan = Search({"a": ways[0], "b": ways[0], "c": ways[1]}, {"objective": "max"}, trials, 4, 0, "grid")
        assert 3 <= count_of(plan) <= trials
