"""An audit of what somebody else made: on real engines, nothing trained, nothing released."""

import io
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from raydistill.cli import app
from raydistill.core.config import Config, PromptConfig
from raydistill.core.errors import ConfigError, InputError
from raydistill.core.store import Store
from raydistill.core.training import DiffusionConfig
from raydistill.data.images import encode_png
from raydistill.data.phantom import render
from raydistill.diffusion.components import build_tiny
from raydistill.metrics.result import insufficient
from raydistill.pipeline import wire
from raydistill.runner import Runner
from raydistill.running import finish
from raydistill.stages.base import Context
from tests.stages.gate import STUDENT, results

SIDE = 64
ROLES = {"train": 24, "calibration": 20, "evaluation": 20}
QUICK = {
    "selftest": {"num_images": 8},
    "evaluate": {"bootstrap": 20, "membership_images": 16},
    "student_samples": {"num_samples": 16, "num_inference_steps": 2, "batch_size": 8, "rows_per_piece": 8},
    "attack": {"num_samples": 8, "guidance_scales": [1.0, 4.0], "num_inference_steps": 2, "few_steps": 1},
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A Parquet file with roles, two visits of each patient, and the images of train patients."""
    rows, first = [], 0
    for role, people in ROLES.items():
        who = np.repeat(np.arange(first, first + people), 2)
        made = render(who, np.tile([0, 1], people), seed=3, resolution=SIDE)
        rows += [
            {"image": encode_png(image), "patient_id": f"p{own}", "labels": labels, "view": view, "role": role}
            for image, own, labels, view in zip(made.images, who, made.labels, made.view, strict=True)
        ]
        first += people
    place = tmp_path_factory.mktemp("cohort") / "cohort.parquet"
    pq.write_table(pa.Table.from_pylist(rows), place)
    return str(place), [row["image"] for row in rows if row["role"] == "train"]


def config_of(source, audited, **changes):
    return Config(source=source, ingest={"resolution": SIDE}, audited=audited, **QUICK | changes)


def audited(run, config):
    runner = Runner(Store.open(str(run)), config, wire(config))
    runner.open()
    for stage in runner.stages:
        stage.check(config)
        runner.execute(stage)
    return runner, finish(runner, {stage.node: "done" for stage in runner.stages})


@pytest.mark.ray
@pytest.mark.slow
def test_copies_are_found_out_and_nothing_is_released(local_ray, cohort, tmp_path):
    place, train = cohort
    (tmp_path / "images").mkdir()
    for number, image in enumerate(train):
        (tmp_path / "images" / f"{number}.png").write_bytes(image)
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no picture")
    config = config_of({"kind": "parquet", "path": place}, {"images": str(tmp_path / "images")})
    runner, result = audited(tmp_path / "run", config)
    assert result.verdict == "fail"
    assert "student.copied_excess" in " ".join(result.reasons[:4])
    student = result.summary["metrics"]["student"]
    assert student["excess_risk"]["interval"][0] > 0.5
    assert student["copied_rate"]["n"] == len(train)
    given = runner.manifests["student_samples"]
    assert given.counts == {"rows": len(train) + 1, "failed": 1}
    assert given.facts["notes"][0].startswith("1 images can't be read, and aren't audited; the first: ")
    assert not [node for node in runner.manifests if runner.manifests[node].stage.startswith("Train")]
    assert not runner.run.exists("release")
    assert not runner.run.exists("certificate.json")
    page = runner.run.read_bytes("report.html").decode()
    assert "an audit of images that somebody else made" in page


@pytest.mark.ray
@pytest.mark.slow
def test_a_model_is_asked_harder_and_attacked_too(local_ray, cohort, tmp_path):
    """This one learned nothing: nobody is shown, and so few people prove nothing."""
    build_tiny(DiffusionConfig(), resolution=SIDE, seed=0, folder=tmp_path / "model")
    config = config_of({"kind": "parquet", "path": cohort[0]}, {"model": str(tmp_path / "model")})
    runner, result = audited(tmp_path / "run", config)
    assert result.verdict == "insufficient_evidence"
    student = result.summary["metrics"]["student"]
    assert student["attacked_excess_risk"]["value"] is not None
    assert student["membership_auc"]["interval"][0] < 0.5 < student["membership_auc"]["interval"][1]
    assert any("student.membership_auc" in reason for reason in result.reasons)
    assert any("attack.few_steps is 1" in reason for reason in result.reasons)
    assert runner.artifact("student", runner.manifests["student"].key).exists("model/model_index.json")


def decided(folder, config, changed=None, given=True):
    """Let an audit's gate judge numbers by hand."""
    root = Store.open(str(folder))
    (root / "evaluation").write_json("metrics.json", results({**STUDENT, **(changed or {})}))
    people = dict.fromkeys(("train", "probe", "calibration", "evaluation"), 60)
    (root / "cohort").write_json("cohort.json", {"images": people, "patients": people})
    facts = {"evaluation": {}, "cohort": {"roles_given": given}}
    manifests = {node: SimpleNamespace(counts={"evaluation_patients": 120}, facts=own) for node, own in facts.items()}
    wire(config)[-1].run(Context({node: root / node for node in facts}, root / "out", root / "work", 0, manifests))
    return (root / "out").read_json("verdict.json")


PHANTOM = {"source": {"kind": "phantom"}, "ingest": {"resolution": SIDE}}
LOOSER = {"budgets": {"max_leak_rate": 0.5}}
STRICT = {given: Config(**PHANTOM, audited={given: "x"}, release=LOOSER) for given in ("images", "model")}


@pytest.mark.parametrize("audited", STRICT)
@pytest.mark.parametrize(
    ("changed", "given", "verdict", "said"),
    [
        ({}, True, "pass", "student.excess_risk"),
        ({}, False, "insufficient_evidence", "without a column `role`"),
        ({"auditor_tpir": (0.1, 0.0, 0.2)}, True, "insufficient_evidence", "too blind"),
        ({"membership_auc": (0.7, 0.65, 0.75)}, True, "fail", "student.membership_auc"),
        ({"membership_auc": (0.1, 0.05, 0.2)}, True, "insufficient_evidence", "whose absence is learned"),
        ({"membership_patient_auc": (0.7, 0.65, 0.75)}, True, "fail", "student.membership_patient_auc"),
        ({"membership_tpr_at_fpr_0.01": (0.3, 0.2, 0.4)}, True, "fail", "student.membership_tpr_at_fpr_0.01"),
        ({"membership_probe_auc": (0.7, 0.65, 0.75)}, True, "insufficient_evidence", "nobody trained on are told"),
        ({"prompt_k": (4, 4, 4)}, True, "fail", "student.prompt_k"),
        ({"copied_excess": (0.02, 0.011, 0.03)}, False, "fail", "student.copied_excess"),
    ],
)
def test_the_verdict_is_that_of_the_gate_and_needs_given_roles(tmp_path, audited, changed, given, verdict, said):
    found = decided(tmp_path, STRICT[audited], changed, given)
    assert found["verdict"] == verdict
    assert said in found["reasons"][0]
    caveat = "release.budgets.max_leak_rate is 0.5, looser than raydistill's own 0.05."
    assert found["caveats"] == found["reasons"][-1:] == [caveat]


LENIENT = {
    "images": ["evaluate.bootstrap", "selftest.num_images", "ingest.prompts.k"],
    "model": [
        "evaluate.bootstrap",
        "selftest.num_images",
        "ingest.prompts.k",
        "student_samples, fewest steps",
        "attack.num_inference_steps",
        "attack.few_steps",
        "attack.num_samples in all ways",
    ],
}


@pytest.mark.parametrize("audited", LENIENT)
def test_an_audit_with_lenient_settings_is_never_a_pass(tmp_path, audited):
    """Of the settings that it reads; a filter's copies it doesn't plant, and an image isn't asked for."""
    config = config_of({"kind": "phantom"}, {audited: "x"}, selftest={"num_images": 8, "strengths": [0.9]})
    config = config.model_copy(update={"ingest": config.ingest.model_copy(update={"prompts": PromptConfig(k=3)})})
    found = decided(tmp_path, config)
    assert found["verdict"] == "insufficient_evidence"
    said = [reason for reason in found["reasons"] if "too lenient for any claim" in reason]
    assert [reason.split(": ")[1].rpartition(" is ")[0].partition(" is ")[0] for reason in said] == LENIENT[audited]
    assert found["reasons"][: len(said)] == said


def test_images_without_prompts_ask_nothing_of_k(tmp_path):
    config = Config(**PHANTOM | {"ingest": {"resolution": SIDE, "prompts": {"k": 1}}}, audited={"images": "x"})
    nobody = insufficient("no prompt says anything", n=0, unit="train patients")
    assert decided(tmp_path, config, {"prompt_k": nobody})["verdict"] == "pass"


def test_how_it_was_measured_is_part_of_a_decision():
    keys = [
        wire(Config(**PHANTOM, audited={"model": "x"}, **changed))[-1].key_config()
        for changed in (
            {},
            {"evaluate": {"audit_fpir": 0.02}},
            {"selftest": {"num_images": 40}},
            {"attack": {"few_steps": 4}},
        )
    ]
    assert all(keys[0] != key for key in keys[1:])


@pytest.mark.parametrize("given", [{}, {"images": "a", "model": "b"}])
def test_one_thing_is_audited(given):
    with pytest.raises(ValidationError, match="either images or a model"):
        Config(audited=given)


def test_what_cannot_be_audited_is_refused_before_anything_runs(tmp_path):
    phantom = {"kind": "phantom"}
    (tmp_path / "empty").mkdir()
    stages = {s.node: s for s in wire(config_of(phantom, {"images": str(tmp_path / "empty")}))}
    with pytest.raises(InputError, match="no image file"):
        stages["student_samples"].check(Config())
    build_tiny(DiffusionConfig(), resolution=32, seed=0, folder=tmp_path / "small")
    stages = {s.node: s for s in wire(config_of(phantom, {"model": str(tmp_path / "small")}))}
    with pytest.raises(ConfigError, match=r"images of 32 px.*set ingest\.resolution=32"):
        stages["student"].check(Config())
    scratch = {"auditor": {"backbone": {"kind": "regnet", "width": 16}, "seed": 9}}
    stages = {s.node: s for s in wire(config_of(phantom, {"images": "x"}, eyes=scratch))}
    with pytest.raises(ConfigError, match="an audit trains nothing"):
        stages["reid_auditor"].check(Config())


def test_images_of_a_table_keep_their_prompts(tmp_path):
    picture = io.BytesIO()
    PIL.Image.new("RGB", (40, 30), (90, 90, 90)).save(picture, "JPEG")
    table = pa.table({"image": [{"bytes": picture.getvalue()}, {"bytes": None}], "prompt": ["effusion", None]})
    pq.write_table(table, tmp_path / "images.parquet")
    stage = {s.node: s for s in wire(config_of({"kind": "phantom"}, {"images": str(tmp_path)}))}["student_samples"]
    runner = Runner(Store.open(str(tmp_path / "run")), Config(), [stage])
    runner.open()
    manifest, _ = runner.execute(stage)
    made = runner.artifact("student_samples", manifest.key).read_table("samples").to_pylist()
    assert [row["prompt"] for row in made] == ["effusion", "chest x-ray"]
    assert (made[0]["failure"], made[1]["failure"]) == (None, "empty: zero bytes")
    assert PIL.Image.open(io.BytesIO(made[0]["image"])).size == (SIDE, SIDE)


def test_the_command_asks_what_is_to_be_audited():
    result = CliRunner().invoke(app, ["audit"])
    assert result.exit_code == 2
    assert "what is to be audited?" in result.output
