"""The last rung of the search: a short student of each finalist, trained, sampled and learned from for real."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError

from raydistill.core.columns import MATCHES, RECORDS, SAMPLES
from raydistill.core.config import Config
from raydistill.core.store import Store
from raydistill.data.images import encode_png
from raydistill.data.phantom import FINDINGS, render
from raydistill.data.prompts import SHARING
from raydistill.diffusion.components import prepare_initial
from raydistill.metrics.probe import label_matrix
from raydistill.pipeline import wire
from raydistill.stages.base import Context
from raydistill.stages.choosing import choose
from raydistill.stages.rungs import candidates_of
from raydistill.stages.short_student import RANKED, student_utility
from tests.stages.test_filter import rows
from tests.stages.test_trial import evidence as plain_evidence

SAMPLES_MADE, STRANGERS, SIDE = 60, 60, 16
SMALL = {
    "seed": 3,
    "ingest": {"resolution": SIDE},
    "student": {
        "block_out_channels": [32, 64], "text_hidden_size": 32,
        "optimizer": {"steps": 40, "batch_size": 8, "lr": 1e-3, "warmup_steps": 20}, "compute": {"num_workers": 2},
    },
    "student_samples": {"num_inference_steps": 2, "batch_size": 8, "rows_per_piece": 8},
    "evaluate": {"probe_steps": 10},
}  # fmt: skip
LIMITS = {"num_trials": 2, "candidates": 2, "max_reidentification_rate": 1.0, "max_near_copy_rate": 1.0}
SHORT = {"students": 2, "student_share": 0.2, "student_samples": 20}


def nodes(**changes):
    tune = LIMITS | SHORT | changes.pop("tune", {})
    return {stage.node: stage for stage in wire(Config(**SMALL | changes, tune=tune))}


def pictures(count, first):
    return render(np.arange(first, first + count), np.zeros(count, np.int64), seed=0, resolution=SIDE)


@pytest.fixture(scope="module")
def evidence():
    made, tested = pictures(SAMPLES_MADE, 0), pictures(STRANGERS, SAMPLES_MADE)
    labels = label_matrix(made.labels, FINDINGS)
    has_labels = np.arange(SAMPLES_MADE) > 1
    prompts = ["not said", "not said", *(", ".join(said) for said in made.labels[2:])]
    return replace(
        plain_evidence(),
        images=made.images,
        labels=labels,
        # Of what isn't said to show anything nobody can learn what it shows; a student learns from it all the same.
        has_labels=has_labels,
        prompts=np.array(prompts, object),
        test_images=tested.images,
        test_labels=label_matrix(tested.labels, FINDINGS),
        test_patients=np.arange(STRANGERS),
    )


def table(**columns):
    plain = {"feasible": [True] * 4, "objective": [0.5, 0.8, 0.7, 0.6], "utility": [0.5, 0.8, 0.7, 0.6]}
    ranked = {"networks": [1, 0, 2, 2], "network_utility": [0.9, np.nan, 0.6, 0.7], "risk_high": [0.0] * 4}
    spread = {"network_spread": [np.nan, np.nan, 0.0, 0.0]}
    return pd.DataFrame(plain | ranked | spread | {"excess": [0.0] * 4} | columns)


def kept(row):
    keep = np.ones(SAMPLES_MADE, bool)
    keep[: 2 * row] = False
    return keep


def looked(evidence, folder, rows=None, **changes):
    config = nodes(**changes)["tune"].config
    given = Context({}, folder / "out", folder / "work", seed=5)
    found, said = student_utility(table() if rows is None else rows, kept, evidence, config, given)
    assert list(said) == list(found.dropna().index)
    return found


@pytest.mark.ray
def test_the_networks_best_get_a_student_each_and_a_kill_costs_none_that_is_ready(local_ray, evidence, tmp_path):
    store = Store.open(str(tmp_path))
    found = looked(evidence, store / "a")
    assert found.notna().tolist() == [False, False, True, True]
    assert found.dropna().between(0, 1).all()
    work = store / "a/work/students"
    names = [name for name in work.files() if name.endswith(".npy")]
    assert len(names) == 2
    # Of one seed, whoever trains them and whatever else is trained.
    more = looked(evidence, store / "b", tune={"students": 3})
    assert more[[2, 3]].to_dict() == found[[2, 3]].to_dict()
    # What is there isn't made again: these answers come from the files, whoever wrote them.
    for name, answers in zip(names, (evidence.test_labels, 1 - evidence.test_labels), strict=True):
        content = BytesIO()
        np.save(content, answers)
        work.write_bytes(name, content.getvalue())
    again = looked(evidence, store / "a")
    assert sorted(again.dropna()) == [0, 1]
    assert choose(table(student_utility=again), {}).row == again.idxmax()
    # From what the student itself will start from.
    start = nodes()["student_latents"]
    prepare_initial(start.config, resolution=SIDE, seed=start.seed, folder=tmp_path / "initial")
    expected = Store.open(str(tmp_path / "initial"))
    assert (work / "initial").fingerprint() == expected.fingerprint()


def test_where_nothing_can_be_tested_nobody_gets_a_student(evidence, tmp_path):
    blind = table(utility=[np.nan] * 4, networks=0, network_utility=np.nan)
    store = Store.open(str(tmp_path))
    assert looked(evidence, store, blind).isna().all()
    assert not store.files()


def test_without_networks_the_probe_says_who_gets_a_student():
    assert candidates_of(table(), kept, 3, RANKED) == [0, 2, 3]
    assert candidates_of(table(networks=0, network_utility=np.nan), kept, 2, RANKED) == [1, 2]


def test_a_student_is_better_than_none_and_decides_before_networks():
    assert choose(table(student_utility=[np.nan, np.nan, 0.7, 0.6]), {}).row == 2
    assert choose(table(student_utility=[np.nan] * 4), {}).row == choose(table(), {}).row == 3


@pytest.mark.parametrize(("spread", "chosen"), [(0.05, 2), (0.07, 3)])
def test_of_students_that_differ_by_less_than_luck_the_less_risky_is_chosen(spread, chosen):
    """One network a student: the standard error of the difference is the root of two times their spread."""
    spreads, risks = [np.nan, np.nan, spread, spread], [0.0, 0.0, 0.06, 0.05]
    reached = [np.nan, np.nan, 0.7, 0.62]
    moved = {"student_utility": {2: np.zeros(9), 3: np.zeros(9)}}
    assert choose(table(student_utility=reached, network_spread=spreads, risk_high=risks), moved).row == chosen


FPIRS = (0.05, 0.2, 0.4)
"""Settings of a search: each keeps fewer samples than the one before, and less risky ones."""


def answering(shift):
    """What somebody says of calibration images: the larger the shift, the better are those with the finding told."""
    ranks = np.linspace(0, 1, 20)
    return np.column_stack([ranks, ranks + shift]).reshape(-1, 1)


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """Return which FPIR a search chooses that is told what networks and students say of each setting.

    Nobody teaches and nobody is taught: what is said follows from how many samples are kept.
    """
    spread, stages, places = np.linspace(0, 0.9, 40), "raydistill.stages", {}
    judge = {"score": spread + 0.5, "nearest_patient_id": [f"p{row}" for row in range(40)]}
    own = replace(plain_evidence(**judge), matches=matched(40, "m", spread))

    def search(measure, arguments, evidence, *others):
        trials = [measure({"target_fpir": fpir}, evidence, **arguments) for fpir in FPIRS]
        places.update({round(40 * trial["kept_share"]): place for place, trial in enumerate(trials)})
        assert [trial["feasible"] for trial in trials] == [True] * 3
        assert trials[0]["risk_high"] > trials[1]["risk_high"] > trials[2]["risk_high"]
        return trials

    monkeypatch.setattr(f"{stages}.tune.read_evidence", lambda *given: own)
    monkeypatch.setattr(f"{stages}.tune.with_pictures", lambda *given: own)
    monkeypatch.setattr(f"{stages}.short_student.prepare", lambda *given: None)
    monkeypatch.setattr(f"{stages}.tune.search", search)

    def run(networks, students=()):
        """Networks: of each setting those of both rungs; students: of the first two settings, or there are none."""
        rungs = []

        def teach(lesson, sets, pupils, *others):
            rungs.append(pupils)
            return [answering(networks[places[sets[pupil.rows].sum()]][len(rungs) - 1]) for pupil in pupils]

        def learn(function, shared, finalists, *others):
            return [answering(students[places[shared[1][row].sum()]]) for row in finalists]

        monkeypatch.setattr(f"{stages}.rungs.teach", teach)
        monkeypatch.setattr(f"{stages}.short_student.run_on_workers", learn)
        space = {"target_fpir": (FPIRS[0], FPIRS[-1])}
        stage, store = (
            nodes(tune={"candidates": 3, "students": len(students), "space": space})["tune"],
            Store.open(str(tmp_path)),
        )
        stage.run(Context({}, store / "out", store / "work", stage.seed))
        trials = (store / "out/trials").read_table().to_pandas()
        assert trials["networks"].tolist() == [2, 2, 1]
        return trials[trials["chosen"]]["target_fpir"].item()

    return run


def test_the_students_decide_where_networks_rank_settings_the_other_way_round(chosen):
    networks = [(0.6, 0.6), (0.3, 0.3), (0.1, 0.1)]
    assert chosen(networks) == FPIRS[0]
    assert chosen(networks, [0.1, 0.6]) == FPIRS[1]
    assert chosen(networks, [0.6, 0.1]) == FPIRS[0]


@pytest.mark.parametrize(("second", "taken"), [(0.6, 0), (0.1, 1)])
def test_of_students_within_luck_the_search_takes_the_less_risky(chosen, second, taken):
    """The first setting's student is better; the more its networks differ from each other, the less that tells."""
    assert chosen([(0.6, second), (0.3, 0.3), (0.1, 0.1)], [0.5, 0.3]) == FPIRS[taken]


def test_of_students_that_patients_can_t_tell_apart_the_search_takes_the_less_risky(chosen):
    """No luck at all."""
    networks = [(0.6, 0.6), (0.3, 0.3), (0.1, 0.1)]
    assert chosen(networks, [0.3001, 0.3]) == FPIRS[1]


def test_a_single_student_is_refused():
    with pytest.raises(ValidationError, match="nothing to be compared with"):
        nodes(tune={"students": 1})


def test_a_short_student_is_the_student_but_for_its_steps():
    config = Config(**SMALL, tune=SHORT)
    short = nodes()["tune"].config.student
    assert (short.training.optimizer.steps, short.training.optimizer.warmup) == (8, 4)
    assert short.training.compute.num_workers == short.samples.compute.num_workers == 1
    same = {"optimizer": config.student.optimizer, "compute": config.student.compute, "preview_every": 500}
    assert short.training.model_copy(update=same) == config.student
    assert short.start_seed == nodes()["student_latents"].seed
    assert short.samples.num_samples == 20
    assert nodes(tune={"student_share": 1e-6})["tune"].config.student.training.optimizer.steps == 1


def test_students_are_in_the_key_where_there_are_any(tmp_path):
    def key(**changes):
        return nodes(**changes)["tune"].key_config()

    none = key(tune={"students": 0})
    assert "student" not in none
    assert not [name for name in none["tune"] if "student" in name]
    assert none == key(tune={"students": 0, "student_share": 0.5}, student={"snr_gamma": 5.0})
    one = key(tune={"students": 3})
    assert len({str(key(tune=changed)) for changed in ({}, {"students": 3}, {"student_share": 0.5})}) == 3
    assert one != none
    assert one != key(tune={"students": 3}, student=SMALL["student"] | {"snr_gamma": 5.0})
    assert one != key(tune={"students": 3}, student_samples=SMALL["student_samples"] | {"guidance_scale": 1.0})
    assert one == key(tune={"students": 3}, student=SMALL["student"] | {"compute": {"num_cpus": 3}})
    places = []
    for place, seed in (("a", 0), ("b", 0), ("c", 1)):
        prepare_initial(nodes()["student"].config, resolution=SIDE, seed=seed, folder=tmp_path / place)
        places.append(key(student={"pretrained": str(tmp_path / place)}))
    assert places[0] == places[1] != places[2]


def test_half_precision_needs_a_gpu_where_a_student_is_trained():
    samples = {"precision": "fp16", "compute": {"num_gpus": 1}}
    Config(student_samples=samples)
    with pytest.raises(ValidationError, match=r"precision fp16: tune\.students sample where"):
        Config(student_samples=samples, tune=SHORT)


def matched(count, prefix, scores):
    ids = [f"{prefix}-{number}" for number in range(count)]
    people = {"query_patient_id": ids, "nearest_patient_id": ids}
    return rows(MATCHES, count, query_id=ids, score=scores, structure_score=[0.1] * count, **people)


@pytest.fixture
def inputs(tmp_path):
    """What the search reads: samples of which half are like somebody, and calibration images."""
    store, spread = Store.open(str(tmp_path / "in")), np.linspace(0, 0.9, 60)
    for name, first in (("samples", 0), ("calibration", SAMPLES_MADE)):
        drawn = pictures(60, first)
        ids = [f"{name[0]}-{number}" for number in range(60)]
        pngs = [encode_png(image) for image in drawn.images]
        prompts = ["chest x-ray, " + ", ".join(said) for said in drawn.labels]
        columns = {"image": pngs, "prompt": prompts, "labels": drawn.labels}
        real = {"image_id": ids, "patient_id": ids, "study_index": [0] * 60}
        schema, more = (SAMPLES, {"sample_id": ids}) if name == "samples" else (RECORDS, real)
        store.write_table(f"{name}/part-0.parquet", rows(schema, 60, **columns, **more))
    store.write_table("sharing/part-0.parquet", pa.Table.from_pylist([], schema=SHARING))
    store.write_json("findings/findings.json", {"findings": list(FINDINGS)})
    for eye in ("matches", "judge"):
        store.write_table(f"{eye}/samples/part-0.parquet", matched(60, "s", spread))
        store.write_table(f"{eye}/calibration/part-0.parquet", matched(60, "c", spread))
    return {name: store / name for name in ("samples", "sharing", "calibration", "findings", "matches", "judge")}


@pytest.mark.ray
@pytest.mark.slow
def test_a_search_chooses_by_its_students(local_ray, inputs, tmp_path):
    """Of real students; then their answers are swapped, and with them what is chosen."""
    store = Store.open(str(tmp_path))
    stage = nodes(tune={"space": {"target_fpir": (0.05, 0.5)}})["tune"]

    def search(out):
        stage.run(Context(inputs, store / out, store / "work", stage.seed, logs=store / "logs"))
        trials = (store / f"{out}/trials").read_table().to_pandas()
        assert trials["student_utility"].notna().all()
        return trials

    trials = search("out")
    assert trials["student_utility"].between(0, 1).all()
    answers = store / "work/students"
    names = [name for name in answers.files() if name.endswith(".npy")]
    assert len(names) == 2
    truth = label_matrix(pictures(60, SAMPLES_MADE).labels, FINDINGS)
    taken = []
    for order in (names, names[::-1]):
        for name, said in zip(order, (truth, 1 - truth), strict=True):
            content = BytesIO()
            np.save(content, said)
            answers.write_bytes(name, content.getvalue())
        again = search(f"out-{len(taken)}")
        assert again["student_utility"][again["chosen"]].tolist() == [1.0]
        assert again["student_utility"][~again["chosen"]].tolist() == [0.0]
        assert again["network_utility"].equals(trials["network_utility"])
        taken.append(again["target_fpir"][again["chosen"]].item())
    assert taken[0] != taken[1]
