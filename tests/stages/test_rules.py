"""The search's setting beside simple rules: which way round the difference is, and how the page reads it."""

import numpy as np
import pyarrow as pa
import pytest

from raydistill.core.config import EvaluateConfig
from raydistill.core.progress import silent
from raydistill.report.rules import DIFFERENCE, conclusion, rules
from raydistill.stages.auditor import Auditor
from raydistill.stages.base import Context
from raydistill.stages.rules import Rules, RulesNodeConfig
from tests.report.builder import build

FINDING = "nodule"


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """Return what comes of a run in which what the chosen setting keeps teaches more than the rest, or less."""
    runner, _ = build(tmp_path / "run")

    def compare(skill):
        at = {node: runner.artifact(node, m.key) for node, m in runner.manifests.items()}
        # Builder's evaluation images all show the same.
        people = at["ingest"].read_table("evaluation")
        shown = [[FINDING] if row % 2 else [] for row in range(len(people))]
        labels = pa.array(shown, people.schema.field("labels").type)
        real = people.set_column(people.column_names.index("labels"), "labels", labels)
        out = runner.run / f"made_{skill}"
        out.write_table("evaluation/part-0.parquet", real)
        out.write_json("findings/findings.json", {"findings": [FINDING]})

        def teach(lesson, rows, pupils, *others):
            noise = [np.random.default_rng(number).normal(size=(len(shown), 1)) for number in range(len(pupils))]
            mine = [skill if pupil.rows.startswith("chosen") else 3 - skill for pupil in pupils]
            return [own * np.array([[len(x)] for x in shown]) + z for own, z in zip(mine, noise, strict=True)]

        monkeypatch.setattr("raydistill.stages.rules.teach", teach)
        inputs = {"samples": at["teacher_samples"] / "samples", "verdicts": at["verdicts"] / "verdicts"}
        inputs |= {"matches": at["teacher_matches"] / "filter", "auditor": at["teacher_matches"] / "auditor"}
        inputs |= {"policy": at["tune"] / "policy"}
        inputs |= {"evaluation": out / "evaluation", "findings": out / "findings"}
        stage = Rules("simple_rules", RulesNodeConfig(evaluate=EvaluateConfig(bootstrap=200), seeds=3), {}, 0)
        stage.run(Context(inputs, out, out / "work", 0, {}, silent))
        return {"search": out.read_json("metrics.json")}

    compare.auditor = lambda: _auditor(runner)
    return compare


def _auditor(runner):
    """Return what an audit holds samples against, and all samples as it sees them."""
    at = {node: runner.artifact(node, m.key) for node, m in runner.manifests.items()}
    matches = at["teacher_matches"] / "auditor"
    inputs = {"matches": matches, "train": at["ingest"] / "train", "evaluation": at["ingest"] / "evaluation"}
    return Auditor.of(inputs, EvaluateConfig()), (matches / "samples").read_table()


def test_what_a_rule_leaves_behind_is_measured_as_an_audit_does(compared):
    left, (auditor, samples) = compared(3.0)["search"]["rule_excess_risk.no_filter"], compared.auditor()
    assert left == auditor.rates(samples)["excess_risk"].model_dump(mode="json")
    assert "times" in left["note"]


def test_above_0_the_search_did_better_and_the_page_says_so(compared):
    assert "above 0 the search did better" in DIFFERENCE
    better, worse = compared(3.0), compared(0.0)
    for metrics, sign, said in ((better, 1, "setting beats"), (worse, -1, "setting is beaten by")):
        regrets = [one.regret["value"] for one in rules(metrics) if one.regret and "seeds" not in one.name]
        assert len(regrets) == 4
        assert all(sign * regret > 0.1 for regret in regrets)
        assert said in conclusion(metrics)


def test_the_setting_s_second_trainings_are_listed_with_what_they_differ_by(compared):
    again = next(one for one in rules(compared(3.0)) if one.name == "the same, classifiers of other seeds")
    assert abs(again.regret["value"]) < 0.1
    assert again.utility
    assert not again.kept


def test_what_is_said_of_all_rules_at_once_holds_at_95_percent_together(compared):
    metrics = compared(3.0)
    assert metrics["search"]["rule_regret.no_filter"]["confidence"] == pytest.approx(1 - 0.05 / 4)
    assert metrics["search"]["rule_utility.no_filter"]["confidence"] == 0.95
    assert "each at 98.8 % by itself, all 4 together at 95 % or more" in conclusion(metrics)
