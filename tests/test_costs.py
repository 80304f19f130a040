"""The line that a plan has for each sampling node."""

from raydistill.core.loading import load_config
from raydistill.costs import costs

SMALL = ["teacher.block_out_channels=[32, 64]", "student.block_out_channels=[32, 64]"]


def said(*overrides, cached=()):
    return costs(load_config(None, [*SMALL, *overrides]), cached)


def test_each_node_that_is_not_there_has_a_line():
    lines = said("teacher_samples.num_samples=100")
    assert list(lines) == ["teacher_samples", "student_samples"]
    assert "100 images x 40 UNet passes" in lines["teacher_samples"]
    assert list(said(cached={"teacher_samples"})) == ["student_samples"]


def test_a_target_is_said_with_its_budget():
    asked = ("teacher_samples.target_kept=300", "teacher_samples.max_samples=900")
    assert said(*asked)["more_samples"].startswith("until the filter has kept 300; at most 388 images x 40 UNet passes")
    assert "more_samples" in said(*asked, cached={"teacher_samples"})
    assert "more_samples" not in said(*asked, cached={"more_samples"})


def test_images_of_each_prompt_are_counted_where_the_prompts_are_known(tmp_path):
    assert "known after ingest" in said("student_samples.requests.per_prompt=3")["student_samples"]
    table = tmp_path / "prompts.csv"
    table.write_text("prompt,count\nx,2\ny,1\n")
    line = said("student_samples.requests.per_prompt=3", f"student_samples.requests.table={table}")["student_samples"]
    assert line.startswith("9 images")


def test_a_budget_that_is_spent_at_once_leaves_nothing_more(tmp_path):
    table = tmp_path / "prompts.csv"
    table.write_text("prompt,count\nx,2\ny,1\n")
    asked = ("requests.per_prompt=50", f"requests.table={table}", "target_kept=90", "max_samples=100")
    lines = said(*(f"teacher_samples.{line}" for line in asked))
    assert lines["teacher_samples"].startswith("150 images")
    assert "at most 0 images" in lines["more_samples"]
