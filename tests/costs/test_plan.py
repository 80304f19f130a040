"""What is still to run is priced by what a run measured, else by what is counted, else not at all."""

import pytest

from raydistill.core.loading import load_config
from raydistill.core.prices import Price, read_prices
from raydistill.costs import words
from raydistill.costs.plan import estimate
from raydistill.pipeline import wire
from tests.costs.runs import SECONDS, manifest, rates

SMALL = ["teacher.block_out_channels=[32, 64]", "student.block_out_channels=[32, 64]"]
PRICES = read_prices(None).model_copy(update={"cpu": Price(on_demand=1.0, spot=0.25)})


def config_of(*overrides):
    return load_config(None, [*SMALL, *overrides])


def bills(*overrides, cached=(), measured=None, prices=PRICES):
    config = config_of(*overrides)
    stages = wire(config)
    there = {stage.node: manifest(stage) for stage in stages if stage.node in cached}
    return {bill.demand.node: bill for bill in estimate(config, stages, there, prices, measured).bills}


@pytest.fixture(scope="module")
def before():
    return rates(config_of())


def test_the_same_again_takes_what_it_took(before):
    found = bills(measured=before)
    for node, seconds in SECONDS.items():
        if node != "verdicts":
            assert found[node].demand.hours == pytest.approx(seconds / 3600), node
    assert found["teacher"].demand.basis == "measured: before/teacher, 38,400 images in 6.7 min"
    assert found["teacher"].on_demand == pytest.approx(2 * SECONDS["teacher"] / 3600)


def test_twice_the_samples_take_twice_the_hours_and_money(before):
    once, twice = bills(measured=before), bills("teacher_samples.num_samples=1024", measured=before)
    assert twice["teacher_samples"].demand.hours == pytest.approx(2 * once["teacher_samples"].demand.hours)
    assert twice["teacher_samples"].on_demand == pytest.approx(2 * once["teacher_samples"].on_demand)
    assert twice["teacher"].demand.hours == once["teacher"].demand.hours
    counted = [bills(f"teacher_samples.num_samples={n}")["teacher_samples"].demand for n in (512, 1024)]
    assert counted[1].tflop == pytest.approx(2 * counted[0].tflop)
    assert counted[1].hours == pytest.approx(2 * counted[0].hours)


def test_half_the_steps_take_half_and_another_node_of_the_kind_will_do(before):
    half = bills("teacher.optimizer.steps=600", measured=before)
    assert half["teacher"].demand.hours == pytest.approx(SECONDS["teacher"] / 3600 / 2)
    student = half["student"].demand
    assert "before/teacher" in student.basis
    assert student.hours == pytest.approx(SECONDS["teacher"] / 3600)
    # No guidance is one pass a step, in the place of two.
    alone = bills("student_samples.guidance_scale=1", measured=before)["student_samples"].demand
    assert alone.hours == pytest.approx(SECONDS["teacher_samples"] / 3600 / 2)


def test_twice_the_workers_take_half_as_long_for_the_same_money(before):
    once, twice = bills(measured=before)["teacher"], bills("teacher.compute.num_workers=4", measured=before)["teacher"]
    assert twice.demand.hours == pytest.approx(once.demand.hours / 2)
    assert twice.on_demand == pytest.approx(once.on_demand)


def test_a_training_that_stopped_early_is_measured_by_the_steps_it_took():
    stopped = rates(config_of(), teacher={"facts": {"steps": 300}})
    found = bills(measured=stopped)["teacher"].demand
    assert found.hours == pytest.approx(4 * SECONDS["teacher"] / 3600)
    assert found.work == "at most 1,200 steps x 32 images"


@pytest.mark.parametrize(
    "other",
    [
        "teacher.compute.num_cpus=2",
        "teacher.compute.num_gpus=1",
        "teacher.block_out_channels=[32, 96]",
        "ingest.resolution=64",
        "teacher.deepspeed.precision=bf16",
    ],
)
def test_a_rate_of_other_hardware_or_another_model_is_not_used(before, other):
    assert "measured:" not in bills(other, measured=before)["teacher"].demand.basis


def test_where_a_node_ran_is_what_its_manifest_says_not_the_configuration():
    elsewhere = {"num_workers": 8, "num_cpus": 8, "num_gpus": 1, "accelerator_type": "H100"}
    moved = rates(config_of(), teacher={"compute": elsewhere})
    assert "measured:" not in bills(measured=moved)["teacher"].demand.basis
    asked = [f"teacher.compute.{name}={value}" for name, value in elsewhere.items()]
    found = bills(*asked, measured=moved)["teacher"]
    assert found.demand.hours == pytest.approx(SECONDS["teacher"] / 3600)
    assert found.on_demand == pytest.approx(8 * PRICES.gpus["H100"].on_demand * found.demand.hours)


@pytest.mark.parametrize(
    ("change", "why"),
    [({"resumed": True}, "interruption"), ({"version": 1}, "version 1"), ({"facts": {"skipped": "x"}}, "skipped")],
)
def test_what_tells_nothing_of_its_time_is_not_used_and_that_is_said(change, why):
    found = bills(cached={"ingest"}, measured=rates(config_of(), teacher_matches=change))["teacher_matches"].demand
    assert found.hours is None
    assert why in found.basis


def test_an_evaluation_of_fewer_images_is_not_reckoned_faster(before):
    more, fewer = (
        bills(f"evaluate.max_images={most}", f"teacher_samples.num_samples={n}", measured=before)["teacher_evaluation"]
        for most, n in ((2000, 1024), (2000, 100))
    )
    assert more.demand.hours == pytest.approx(2 * SECONDS["teacher_evaluation"] / 3600)
    assert fewer.demand.hours == pytest.approx(SECONDS["teacher_evaluation"] / 3600)


def test_a_cached_stage_costs_nothing(before):
    config = config_of()
    stages = wire(config)
    there = {stage.node: manifest(stage) for stage in stages if stage.node in {"teacher", "reid_filter"}}
    whole, rest = (estimate(config, stages, these, PRICES, before) for these in ({}, there))
    assert {bill.demand.node for bill in whole.bills} - {bill.demand.node for bill in rest.bills} == there.keys()
    saved = 3 * SECONDS["teacher"] / 3600 - SECONDS["teacher"] / 3600 + SECONDS["reid_filter"] / 3600
    assert whole.total.on_demand - rest.total.on_demand == pytest.approx(saved)
    assert estimate(config, stages, {s.node: manifest(s) for s in stages}, PRICES, before).bills == []


def test_rows_are_known_after_ingest_or_from_the_same_cohort(before):
    config = config_of()
    assert bills()["teacher_matches"].demand.hours is None
    assert "after ingest" in bills()["teacher_matches"].demand.basis
    assert bills(measured=before)["gallery"].demand.work == "50 images x 3 networks"
    notes = estimate(config, wire(config), {}, PRICES, before).notes
    assert notes == ["numbers of real images are those of runs/before"]
    assert bills("source.num_patients=9", measured=before)["gallery"].demand.hours is None


def test_spot_is_for_what_goes_on_piece_by_piece_or_from_checkpoints(before):
    found = bills(measured=before, cached={"ingest"})
    kinds = {node: bill.demand.restart for node, bill in found.items()}
    assert {node for node, kind in kinds.items() if kind == "checkpoints"} == {
        "reid_filter", "reid_judge", "reid_auditor", "teacher", "student", "shadow",
    }  # fmt: skip
    for node in ("teacher_samples", "teacher_matches", "gallery", "selftest", "student_attack", "student_latents"):
        assert kinds[node] == "pieces", node
    assert found["teacher_samples"].spot < found["teacher_samples"].on_demand
    assert found["teacher_evaluation"].spot is None


def test_an_edited_table_is_used(before):
    dearer = PRICES.model_copy(update={"cpu": Price(on_demand=3.0)})
    cheap, dear = (bills(measured=before, prices=prices)["teacher"] for prices in (PRICES, dearer))
    assert dear.on_demand == pytest.approx(3 * cheap.on_demand)
    assert dear.spot is None
    own = bills("teacher.compute.price_per_hour=10", measured=before)["teacher"]
    assert own.on_demand == pytest.approx(10 * cheap.on_demand)


def test_somebodys_own_eye_has_nothing_to_train():
    eye = "eyes.judge.embedder.factory=tests.golden.own:Shades"
    found = bills(eye)["reid_judge"].demand
    assert (found.work, found.hours, found.compute) == ("nothing to train", 0.0, None)


def test_the_table_says_what_is_missing_and_the_sentences_why(before):
    config = config_of()
    found = estimate(config, wire(config), {}, PRICES, before)
    rows = {row[0]: row for row in words.rows(found)}
    assert rows["teacher"][3:7] == ("2 x 1 CPU", "6.7 min", "0.22", "0.06")
    assert rows["selftest"][4:7] == ("?", "?", "?")
    assert rows["total"][5].startswith("at least ")
    said = "\n".join(words.sentences(found, PRICES, "mine.yaml"))
    assert f"prices: USD of {PRICES.date}, mine.yaml" in said
    assert "rates: measured in runs/before" in said
    assert "lower bounds: " in said
    assert "selftest" in said.split("lower bounds: ")[1].splitlines()[0]
    assert "a worker is lost 0.05 times an hour" in said
    everything = words.fields(found, PRICES, "mine.yaml")
    assert everything["nodes"]["teacher"]["hours"] == pytest.approx(SECONDS["teacher"] / 3600)
    assert everything["total"]["is_lower_bound"] is True
    assert everything["prices"]["source"] == "mine.yaml"


def test_an_elastic_pool_is_said_as_a_range_and_a_rate_of_one_holds_for_the_same_alone():
    elastic = "teacher_samples.compute.num_workers=[1, 8]"
    measured = rates(config_of(elastic))
    same = bills(elastic, measured=measured)["teacher_samples"].demand
    assert words.machines(same.compute, same.workers) == "1 to 8 x 1 CPU"
    assert same.hours == pytest.approx(SECONDS["teacher_samples"] / 3600)
    assert "measured:" not in bills(measured=measured)["teacher_samples"].demand.basis


def test_gpus_that_are_not_named_are_assumed_and_that_is_said():
    config = config_of("preset=spot_sampling", "tune.students=2")
    found = estimate(config, wire(config), {}, PRICES, None)
    priced = {bill.demand.node: bill for bill in found.bills if bill.on_demand}
    assert {"reid_filter", "teacher", "student", "teacher_samples", "student_samples"} <= priced.keys()
    for node, gpu in (("teacher", "H100"), ("teacher_samples", "L4")):
        demand = priced[node].demand
        assert demand.basis.endswith(f"too small for a {gpu}")
        assert priced[node].on_demand == pytest.approx(demand.hours * demand.workers * PRICES.gpus[gpu].on_demand)
    said = "\n".join(words.sentences(found, PRICES, "mine.yaml"))
    assert "are taken to be H100, of teacher_samples, student_samples, student_attack L4 (--gpu NAME" in said
    alone = bills("preset=one_gpu")["teacher"]
    assert alone.on_demand == pytest.approx(alone.demand.hours * PRICES.gpus["A10G"].on_demand)
    unknown = bills("preset=one_gpu", prices=PRICES.model_copy(update={"unnamed_gpus": {}}))["teacher"]
    assert (unknown.on_demand, "which GPU?" in unknown.demand.basis) == (None, True)
    chosen = bills("preset=one_gpu", prices=read_prices(None, "A100"))["teacher"]
    assert chosen.on_demand == pytest.approx(chosen.demand.hours * PRICES.gpus["A100"].on_demand)


def test_a_searchs_students_are_counted_and_its_trials_are_not_guessed():
    one, two = (bills("tune.students=2", f"tune.student_samples={n}")["tune"].demand for n in (100, 200))
    assert "2 students of 120 steps x 32 images and 100 images x 40 UNet passes each" in one.work
    assert 0 < one.tflop < two.tflop < 2 * one.tflop
    assert one.hours is None
    assert "its students alone take a worker" in one.basis
    assert bills()["tune"].demand.tflop is None


def test_an_audit_of_what_somebody_else_made_is_planned_too():
    found = {node: one.demand for node, one in bills("audited={images: x}").items()}
    assert found["selftest"].work == "at most 512 treated pictures"
    assert found["gallery"].hours is None
    assert "teacher" not in found
