"""What an audit says of its own sight, and of whom it holds samples against."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from raydistill.core.columns import MATCHES
from raydistill.core.config import EvaluateConfig
from raydistill.core.store import Store
from raydistill.matching.calibration import calibrate
from raydistill.stages.audit import _worst_way
from raydistill.stages.auditor import Auditor
from raydistill.stages.selftest import PLANTED
from tests.stages.test_filter import rows

PEOPLE = 60


@pytest.fixture
def auditor():
    """An auditor whose strangers reach 0.59 and whose points lie just above 0.55."""
    scores = np.arange(PEOPLE) / 100
    whose = [f"c{i}" for i in range(PEOPLE)]
    strangers = rows(MATCHES, PEOPLE, query_patient_id=whose, score=scores, structure_score=scores)
    point = calibrate(scores, whose, 0.08, 0.95)
    nothing = pa.chunked_array([pa.array(["p", "q"])])
    return Auditor(strangers, strangers, strangers, point, point, (nothing, nothing), {}, 0.95)


def test_a_copy_is_seen_and_certain_by_the_network_or_by_structure(auditor):
    planted = rows(
        PLANTED, 8,
        source_role=["train"] * 7 + ["calibration"], patient_id=list("pqrstuvw"),
        treatment=["crop", "blur", "shift", "shift", "noise_0.2", "noise_0.2", "noise_0.5", "crop"],
        auditor_score=[0.9, 0.1, 0.1, 0.9, 0.1, 0.7, 0.1, 0.9],
        structure_score=[0.1, 0.95, 0.1, 0.7, 0.1, 0.1, 0.1, 0.95],
        is_copy=[True] * 6 + [False, False],
    )  # fmt: skip
    found = auditor.sight(planted, 100)
    assert (found["auditor_sensitivity"].value, found["auditor_sensitivity"].n) == (3 / 4, 4)
    # What the teacher made of an image may show nobody, and what was made of a stranger's is no copy.
    assert (found["auditor_sensitivity.generator"].value, found["auditor_sensitivity.generator"].n) == (1 / 2, 2)
    assert found["certain_sensitivity"].value == 3 / 4


def test_among_more_samples_it_takes_more_to_be_certain(auditor):
    few, many = (auditor.certain("score", samples) for samples in (100, 1_000_000))
    assert few == pytest.approx(1 - 0.25 * (1 - 0.59))
    assert few < many < 1


def test_known_people_count_once_and_as_the_gallery_has_such(auditor):
    probe = rows(
        MATCHES, 4, query_patient_id=["p", "p", "p", "q"], nearest_patient_id=["p", "p", "x", "x"],
        score=[0.9, 0.9, 0.9, 0.1], structure_score=[0.1] * 4,
    )  # fmt: skip
    seen = replace(auditor, probe=probe).tpir()
    assert seen.value == pytest.approx(1 / 3)
    assert "0.5 of the images" in seen.note
    assert replace(auditor, probe=probe[:0]).tpir().value is None


def test_a_control_that_knows_the_gallery_lies_above_what_calibration_people_bear_out(auditor):
    expected = auditor._expected("score", auditor.identity)
    assert 0.08 < expected < 0.25


def test_a_way_of_which_no_image_was_made_is_not_dropped_from_the_worst(auditor):
    scores, ways = np.tile([0.1, 0.2, 0.3, 0.4], 20), np.repeat(["guidance_1", "guidance_4"], 40)
    whose = [f"p{i}" for i in range(80)]
    unseen = {"unseen_score": scores, "unseen_patient_id": [f"e{i}" for i in range(80)]}
    samples = rows(MATCHES, 80, score=scores, nearest_patient_id=whose, **unseen)
    all_of_them = _worst_way(samples, ways, ["guidance_1", "guidance_4"], auditor)
    assert all_of_them.value is not None
    assert all_of_them.confidence == pytest.approx(0.975)
    one_less = _worst_way(samples, ways, ["guidance_1", "guidance_4", "steps_5"], auditor)
    assert one_less.value is None
    assert "steps_5" in one_less.note


def test_nobody_counts_more_often_among_the_control_than_train_has_images_of_one(tmp_path):
    train, matches = Store.open(str(tmp_path / "train")), Store.open(str(tmp_path / "matches"))
    shown = Store.open(str(tmp_path / "evaluation"))
    train.write_table("part-0.parquet", pa.table({"image_id": ["a", "b", "c"], "patient_id": ["p", "p", "q"]}))
    whose = ["often"] * 40 + [f"e{i}" for i in range(20)]
    shown.write_table("part-0.parquet", pa.table({"image_id": [f"i{i}" for i in range(60)], "patient_id": whose}))
    unseen = {"unseen_score": [0.0] * 60, "unseen_patient_id": whose, "nearest_patient_id": ["p"] * 60}
    unseen |= {"structure_image_id": ["a"] * 60, "unseen_structure_score": [0.0] * 60}
    unseen |= {name: [[0.0]] * 60 for name in ("matched_scores", "unseen_matched_scores")}
    unseen |= {name: [["p"]] * 60 for name in ("matched_patient_ids", "unseen_matched_patient_ids")}
    scores = [0.9] * 40 + [0.1] * 20
    for role in ("calibration", "evaluation", "probe"):
        table = rows(MATCHES, 60, query_patient_id=whose, score=scores, structure_score=scores, **unseen)
        (matches / role).write_table("part-0.parquet", table)
    auditor = Auditor.of({"matches": matches, "train": train, "evaluation": shown}, EvaluateConfig())
    assert auditor.control["query_patient_id"].to_pylist().count("often") == 2
    control = auditor.risk(rows(MATCHES, 60, score=scores, structure_score=scores, **unseen))["control_rate"]
    assert control.n == 22
    assert "22 of 60 evaluation images" in control.note
