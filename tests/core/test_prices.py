"""A small table of prices that a user edits: what is taken from it, and what a bad one says."""

import pytest
import yaml

from raydistill.core.errors import ConfigError
from raydistill.core.prices import PACKAGED, read_prices
from raydistill.core.section import Compute

TABLE = {
    "currency": "EUR",
    "date": "2026-01-02",
    "gpus": {"A100": {"on_demand": 3.0, "spot": 1.0}, "A100-80G": {"on_demand": 4.0}},
    "cpu": {"on_demand": 0.1, "spot": 0.04},
    "spot": {"losses_per_hour": 0.1, "restart_minutes": 4, "piece_minutes": 2},
}


def table(tmp_path, **changes):
    file = tmp_path / "prices.yaml"
    file.write_text(yaml.safe_dump(TABLE | changes))
    return read_prices(file)


def test_the_packaged_table_says_that_it_is_an_example():
    prices = read_prices(None)
    assert "not offers" in prices.note
    assert prices.of(Compute(num_gpus=1, accelerator_type="H100")).on_demand > prices.cpu.on_demand
    assert "examples" in PACKAGED.read_text().lower()


def test_a_worker_costs_its_gpus_or_else_its_cpus(tmp_path):
    prices = table(tmp_path)
    two = prices.of(Compute(num_cpus=8, num_gpus=2, accelerator_type="A100"))
    assert (two.on_demand, two.spot) == (6.0, 2.0)
    assert prices.of(Compute(num_cpus=8)).on_demand == pytest.approx(0.8)
    half = prices.of(Compute(num_gpus=0.5, accelerator_type="A100"))
    assert half.on_demand == 1.5


def test_a_line_of_its_own_goes_before_the_kind_and_none_is_no_price(tmp_path):
    prices = table(tmp_path)
    assert prices.of(Compute(num_gpus=1, accelerator_type="A100-80G")).on_demand == 4.0
    assert prices.of(Compute(num_gpus=1, accelerator_type="A100-40G")).on_demand == 3.0
    assert prices.of(Compute(num_gpus=1, accelerator_type="A100-80G")).spot is None
    assert prices.of(Compute(num_gpus=1, accelerator_type="T4")) is None
    assert prices.of(Compute(num_gpus=1)) is None


def test_a_gpu_that_is_not_named_is_assumed_by_its_nodes_label_or_any(tmp_path):
    prices = table(tmp_path, unnamed_gpus={"role=training": "A100-80G", "any": "A100"})
    asked = [Compute(num_gpus=1, label_selector={"zone": "a", "role": role}) for role in ("training", "other")]
    assert [prices.of(compute).on_demand for compute in asked] == [4.0, 3.0]
    assert prices.named(Compute()) == Compute()
    named = Compute(num_gpus=1, accelerator_type="T4", label_selector={"role": "training"})
    assert prices.named(named) == named
    chosen = read_prices(tmp_path / "prices.yaml", "A100")
    assert [chosen.named(compute).accelerator_type for compute in asked] == ["A100", "A100"]
    with pytest.raises(ConfigError, match=r"--gpu H100: .* has prices of A100, A100-80G"):
        read_prices(tmp_path / "prices.yaml", "H100")


def test_a_stages_own_price_wins_and_has_no_spot(tmp_path):
    own = table(tmp_path).of(Compute(num_gpus=1, accelerator_type="A100", price_per_hour=7.5))
    assert (own.on_demand, own.spot) == (7.5, None)


def test_losing_one_worker_stops_all_of_a_training_and_one_of_a_pool(tmp_path):
    spot = table(tmp_path).spot
    assert spot.lost_share(8, None) == pytest.approx(0.1 * (4 + 2) / 60)
    assert spot.lost_share(8, 10.0) == pytest.approx(8 * 0.1 * (4 + 5) / 60)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cpu": {"on_demand": -1}}, "cpu.on_demand: input should be greater than 0"),
        ({"gpu": {}}, "gpu: extra inputs are not permitted"),
        ({"gpus": {"A100": 3.0}}, "gpus.A100: "),
        ({"spot": {}}, "spot.losses_per_hour: field required"),
    ],
)
def test_a_bad_table_is_one_readable_line(tmp_path, changes, said):
    with pytest.raises(ConfigError, match="isn't a table of prices") as caught:
        table(tmp_path, **changes)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_not_there_or_no_table(tmp_path):
    with pytest.raises(ConfigError, match=r"none.yaml can't be read: No such file"):
        read_prices(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="must hold keys and values, not a list"):
        read_prices(tmp_path / "list.yaml")
