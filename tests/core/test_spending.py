"""From hours to money, and what spot would change: of the stages that may run on it, and of no others."""

from dataclasses import replace

import pytest

from raydistill.core.prices import Price, read_prices
from raydistill.core.section import Compute
from raydistill.core.spending import Demand, bill, duration, total

PRICES = read_prices(None).model_copy(update={"cpu": Price(on_demand=1.0, spot=0.25)})
POOL = Demand("samples", "1 image", None, Compute(num_cpus=2), 3, 10.0, "measured", "pieces")
TRAINING = replace(POOL, node="teacher", restart="checkpoints", checkpoint_minutes=10.0)
ANEW = replace(POOL, node="evaluation", restart=None)


def test_money_is_workers_times_hours_times_price():
    assert bill(POOL, PRICES).on_demand == pytest.approx(10 * 3 * 2 * 1.0)
    assert bill(replace(POOL, hours=20.0), PRICES).on_demand == pytest.approx(2 * bill(POOL, PRICES).on_demand)


def test_spot_is_cheaper_and_longer_by_what_is_lost():
    lost = PRICES.spot.lost_share(3, None)
    found = bill(POOL, PRICES)
    assert found.spot_hours == pytest.approx(10 / (1 - lost))
    assert found.spot == pytest.approx(found.spot_hours * 3 * 2 * 0.25)
    assert bill(TRAINING, PRICES).spot > found.spot


def test_another_spot_price_changes_the_money_of_eligible_stages_alone():
    dearer = PRICES.model_copy(update={"cpu": Price(on_demand=1.0, spot=0.5)})
    for demand, changes in [(POOL, True), (TRAINING, True), (ANEW, False)]:
        before, after = bill(demand, PRICES), bill(demand, dearer)
        assert after.on_demand == before.on_demand
        assert (after.with_spot == pytest.approx(2 * before.with_spot)) is changes
    assert bill(ANEW, PRICES).spot is None
    assert bill(ANEW, PRICES).with_spot == bill(ANEW, PRICES).on_demand


def test_a_training_that_would_lose_more_than_it_does_is_not_for_spot():
    huge = replace(TRAINING, workers=1000)
    assert PRICES.spot.lost_share(1000, 10.0) > 1
    assert bill(huge, PRICES).spot is None


def test_what_is_not_known_is_left_out_of_the_total_and_named():
    unknown, driver = replace(POOL, node="gallery", hours=None), replace(ANEW, node="ingest", compute=None, hours=1.0)
    unpriced = replace(POOL, node="match", compute=Compute(num_gpus=1, accelerator_type="B200"))
    whole = total([bill(demand, PRICES) for demand in (POOL, ANEW, unknown, driver, unpriced)])
    assert whole.unknown == ["gallery", "match"]
    assert whole.on_demand == pytest.approx(2 * 60)
    assert whole.spot < whole.on_demand
    assert whole.hours == pytest.approx(10 + 10 + 1 + 10)
    assert total([bill(POOL, PRICES)]).unknown == []


@pytest.mark.parametrize(
    ("seconds", "said"), [(3, "3 s"), (119, "119 s"), (600, "10.0 min"), (9000, "2.5 h"), (10**6, "11.6 days")]
)
def test_durations_are_said_in_a_fitting_unit(seconds, said):
    assert duration(seconds / 3600) == said
