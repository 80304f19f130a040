"""The search's setting beside simple rules: which way round the difference is, and how the page reads it."""

import numpy as np
import pyarrow as pa
import pytest

from raydistill.core.columns import RECORDS, SAMPLES
from raydistill.core.config import EvaluateConfig
from raydistill.core.progress import silent
from raydistill.core.store import Store
from raydistill.data.images import encode_png
from raydistill.report.rules import DIFFERENCE, conclusion, rules
from raydistill.stages.auditor import Auditor
from raydistill.stages.base import Context
from raydistill.stages.rule_utility import utilities
from raydistill.stages.rules import Rules, RulesNodeConfig
from tests.report.builder import build
from tests.stages.test_filter import rows

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

        monkeypatch.setattr("raydistill.stages.rule_utility.teach", teach)
        inputs = {"samples": at["teacher_samples"] / "samples", "verdicts": at["verdicts"] / "verdicts"}
        inputs |= {"matches": at["teacher_matches"] / "filter", "auditor": at["teacher_matches"] / "auditor"}
        inputs |= {"policy": at["tune"] / "policy"}
        inputs |= {"evaluation": out / "evaluation", "findings": out / "findings", "train": at["ingest"] / "train"}
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


def learned(tmp_path, monkeypatch, rules, seeds=3):
    """Return who was taught, and what is said of rules: what a classifier says follows from samples and seed."""
    labels = [["x"] if row % 2 else [] for row in range(60)]
    pictures, whose = [encode_png(np.zeros((8, 8), np.uint8))] * 60, [f"p{row // 2}" for row in range(60)]
    people = rows(RECORDS, 60, labels=labels, image=pictures, patient_id=whose, study_index=[0] * 60)
    store = Store.open(str(tmp_path))
    store.write_table("evaluation/part-0.parquet", people)
    store.write_json("findings/findings.json", {"findings": ["x"]})
    taught = []

    def teach(lesson, rows, pupils, *others):
        taught.extend(pupils)
        draws = [np.random.default_rng([*np.packbits(rows[pupil.rows]), pupil.seed]) for pupil in pupils]
        return [np.array([[len(x)] for x in labels]) + one.normal(size=(60, 1)) for one in draws]

    monkeypatch.setattr("raydistill.stages.rule_utility.teach", teach)
    inputs = {name: store / name for name in ("evaluation", "findings")}
    context = Context(inputs, store / "out", store / "work", 0, {}, silent)
    samples = rows(SAMPLES, 8, labels=[["x"], []] * 4, image=pictures[:8])
    kept = {rule: np.array(keep, bool) for rule, keep in rules.items()}
    return taught, utilities(context, kept, samples, EvaluateConfig(bootstrap=100), seeds)


def test_rules_that_keep_the_same_are_taught_once_and_are_equal(tmp_path, monkeypatch):
    half, whole = [True] * 4 + [False] * 4, [True] * 8
    rules = {"chosen": half, "fixed_fpir": half, "percentile_95": whole, "no_filter": whole}
    taught, found = learned(tmp_path, monkeypatch, rules)
    # The setting twice, no filter, and three random drops.
    assert len(taught) == len(set(taught)) == 3 * 2 + 3 + 3
    assert found["rule_utility.no_filter"] == found["rule_utility.percentile_95"]
    assert found["rule_regret.no_filter"] == found["rule_regret.percentile_95"]
    same = found["rule_regret.fixed_fpir"]
    assert (same.value, same.interval) == (0.0, (0.0, 0.0))
    assert "the same samples are kept" in same.note
    assert found["rule_regret.chosen_again"].interval != (0.0, 0.0)
    # What is certain anyway isn't one of the things said at once.
    assert found["rule_regret.no_filter"].confidence == pytest.approx(1 - 0.05 / 3)
    said = conclusion({"search": {name: one.model_dump() for name, one in found.items()}})
    assert "is the same as both thresholds at an FPIR of 1 %" in said
    assert "all 3 together at 95 % or more" in said


def test_a_setting_that_drops_nothing_is_no_filter_whatever_is_drawn_by_chance(tmp_path, monkeypatch):
    whole = [True] * 8
    taught, found = learned(tmp_path, monkeypatch, {"chosen": whole, "no_filter": whole})
    assert len(taught) == 6
    assert found["rule_regret.random_drop"].interval == found["rule_regret.no_filter"].interval == (0.0, 0.0)
    said = conclusion({"search": {name: one.model_dump() for name, one in found.items()}})
    assert said.endswith("is the same as as many samples, drawn by chance; no filter: the same samples are kept.")


def test_a_random_drop_varies_by_what_is_drawn_and_many_classifiers_by_themselves(tmp_path, monkeypatch):
    rules = {"chosen": [True] * 4 + [False] * 4, "no_filter": [True] * 8}
    few = learned(tmp_path / "few", monkeypatch, rules)[1]
    freedom = {rule: few[f"rule_utility.{rule}"].estimator.split(", ")[-1] for rule in (*rules, "random_drop")}
    assert freedom == {
        "chosen": "7 degrees of freedom)",
        "no_filter": "7 degrees of freedom)",
        "random_drop": "2 degrees of freedom)",
    }
    both = few["rule_regret.random_drop"].estimator
    assert "7 degrees of freedom" in both
    assert "2 degrees of freedom" in both
    many = learned(tmp_path / "many", monkeypatch, rules, seeds=5)[1]
    # Ten of the setting's, five of what isn't filtered, beside the ten.
    assert "9 degrees of freedom" in many["rule_utility.chosen"].estimator
    assert "13 degrees of freedom" in many["rule_utility.no_filter"].estimator
    one = learned(tmp_path / "one", monkeypatch, rules, seeds=1)[1]
    assert one["rule_utility.random_drop"].interval == (0.0, 1.0)
