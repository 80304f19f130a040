"""How much stages have to do, where that is known."""

from raydistill.core.loading import load_config
from raydistill.costs.stages import WORKS, work_of
from raydistill.costs.work import Known
from raydistill.pipeline import wire

SMALL = ["teacher.block_out_channels=[32, 64]", "student.block_out_channels=[32, 64]"]


def works(*overrides):
    config = load_config(None, [*SMALL, *overrides])
    return {stage.node: work_of(stage, Known(config)) for stage in wire(config)}


def test_images_and_passes_of_sampling_and_of_an_attacks_ways():
    found = works("teacher_samples.num_samples=100", "student_samples.num_samples=40")
    assert found["teacher_samples"].said == "100 images x 40 UNet passes"
    assert found["teacher_samples"].amount == 100 * 40
    # Four ways of 20 samples: guidance 1, 4 and 8 of ten steps, and the usual guidance of five.
    assert found["student_attack"].amount == 20 * (10 + 20 + 20 + 10)


def test_an_attack_asks_for_each_prompt_in_each_way():
    config = load_config(None, [*SMALL, "attack.num_samples=20"])
    attack = next(stage for stage in wire(config) if stage.node == "student_attack")
    known = [Known(config, {"ingest": {"prompts": prompts}}) for prompts in (7, 60)]
    assert [work_of(attack, one).amount for one in known] == [20 * 60, 60 * 60]
    assert [one.rows(attack["samples"]) for one in known] == [80, 240]


def test_samples_that_take_turns_in_ways_take_their_mean():
    found = works("teacher_samples.num_samples=100", "tune.space.guidance_scales=[1.0, 3.0]", "tune.space.steps=[10]")
    assert found["teacher_samples"].amount == 100 * (10 + 20) / 2


def test_a_target_is_said_with_its_budget():
    asked = ("teacher_samples.target_kept=300", "teacher_samples.max_samples=900")
    found = works(*asked)["more_samples"]
    assert found.said.startswith("until the filter has kept 300; at most 388 images x 40 UNet passes")
    assert found.amount == 388 * 40
    assert "more_samples" not in works()


def test_images_of_each_prompt_are_counted_where_the_prompts_are_known(tmp_path):
    found = works("student_samples.requests.per_prompt=3")["student_samples"]
    assert found.amount is None
    assert "as many as ingest gives" in found.said
    table = tmp_path / "prompts.csv"
    table.write_text("prompt,count\nx,2\ny,1\n")
    found = works("student_samples.requests.per_prompt=3", f"student_samples.requests.table={table}")["student_samples"]
    assert found.said.startswith("9 images")


def test_an_attack_on_images_of_each_prompt_is_counted_where_these_are(tmp_path):
    usual = "student_samples.requests.per_prompt=3"
    assert works(usual)["student_attack"].amount is None
    assert works(usual, "attack.num_samples=20")["student_attack"].amount == 20 * 60
    table = tmp_path / "prompts.csv"
    table.write_text("prompt,count\nx,2\ny,2\n")
    # Of twelve images twice as many, in four ways.
    assert works(usual, f"student_samples.requests.table={table}")["student_attack"].amount == 6 * 60


def test_a_budget_that_is_spent_at_once_leaves_nothing_more(tmp_path):
    table = tmp_path / "prompts.csv"
    table.write_text("prompt,count\nx,2\ny,1\n")
    asked = ("requests.per_prompt=50", f"requests.table={table}", "target_kept=90", "max_samples=100")
    found = works(*(f"teacher_samples.{line}" for line in asked))
    assert found["teacher_samples"].said.startswith("150 images")
    assert "at most 0 images" in found["more_samples"].said
    assert found["more_samples"].amount == 0


def test_every_stage_that_asks_for_workers_says_what_it_has_to_do():
    stages = wire(load_config(None, [*SMALL, "teacher_samples.target_kept=600"]))
    stages += wire(load_config(None, [*SMALL, "audited={model: x}"]))
    assert {type(stage) for stage in stages if stage.compute} == WORKS.keys()
