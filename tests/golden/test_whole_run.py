"""The whole path: contract, counts, lineage, resumption. Every engine is real; the run was killed twice on its way."""

import hashlib
import json
import subprocess
import sys
from collections import Counter

import pytest
import yaml

from raydistill.core.config import Config
from raydistill.core.loading import load_config
from raydistill.core.manifest import Manifest
from raydistill.core.prices import read_prices
from raydistill.core.progress import silent
from raydistill.core.store import Store
from raydistill.costs.plan import estimate, rates_of
from raydistill.metrics.result import MetricResult
from raydistill.pipeline import wire
from raydistill.runner import Runner
from tests.conftest import PLANTED
from tests.golden.conftest import ENVIRONMENT, MICRO, artifact, finished, run_to_end

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(2700)]

RISK = [
    "reidentification_rate",
    "control_rate",
    "excess_risk",
    "max_similarity",
    "near_copy_rate",
    "closer_to_train_share",
    "membership_auc",
    "membership_tpr_at_fpr_0.01",
]
QUALITY = ["utility_auroc", "frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage"]


def test_summary_keeps_its_contract(golden):
    summary = golden["summary"]
    assert summary["schema"] == 1
    assert summary["verdict"] in ("pass", "fail", "insufficient_evidence")
    assert summary["reasons"]
    assert all(node["state"] in ("done", "cached") for node in summary["nodes"].values())
    metrics = summary["metrics"]
    for group, names in {"teacher": RISK + QUALITY, "student": RISK + QUALITY, "real": QUALITY}.items():
        assert set(names) <= set(metrics[group]), group
    assert {"kept", "fpir", "tpir"} <= set(metrics["filter"])
    assert {"sensitivity", "false_flag_rate", "consistency_jaccard"} <= set(metrics["selftest"])
    for group in metrics.values():
        for value in group.values():
            MetricResult.model_validate(value)


def test_no_secret_of_the_environment_is_in_the_run_folder_or_a_log(golden):
    """The run could not have been without the storage's key."""
    written = {name: golden["store"].read_bytes(name) for name in golden["store"].files()}
    said = {stream: getattr(golden["said"], stream).encode() for stream in ("stdout", "stderr")}
    assert any("job-driver" in name for name in golden["logs"])
    assert any(name.endswith("manifest.json") for name in written)
    assert not [name for name, content in (written | said | golden["logs"]).items() if PLANTED.encode() in content]


def test_the_submitted_job_joined_its_cluster_and_said_the_verdict(golden):
    said = golden["said"].stdout
    assert "Ray at " in said
    assert f"verdict: {golden['summary']['verdict']}" in said
    assert golden["summary"]["nodes"]["ingest"]["state"] == "cached"
    assert golden["summary"]["nodes"]["student"]["state"] == "done"


def test_somebodys_own_embedder_judged_and_own_metric_was_measured_on_every_set(golden):
    assert artifact(golden, "reid_judge").files() == ["manifest.json", "network/embedder.json"]
    assert "judge/samples/part-00000.parquet" in artifact(golden, "teacher_matches").files()
    for group in ("real", "teacher", "filtered", "student"):
        result = MetricResult.model_validate(golden["summary"]["metrics"][group]["own.contrast"])
        assert result.value > 0
        assert result.control > 0


def test_every_count_can_be_recomputed_from_a_table(golden):
    verdicts = artifact(golden, "verdicts").read_table("verdicts").to_pylist()
    counted = Counter(row["reason"] for row in verdicts)
    metrics = golden["summary"]["metrics"]["filter"]
    assert metrics["kept"]["value"] == counted["kept"]
    assert sum(m["value"] for n, m in metrics.items() if n == "kept" or n.startswith("dropped.")) == len(verdicts)
    audit = artifact(golden, "teacher_evaluation").read_table("tables/audit.parquet")
    rate = sum(audit["flagged"].to_pylist()) / audit.num_rows
    assert golden["summary"]["metrics"]["teacher"]["reidentification_rate"]["value"] == pytest.approx(rate)


def test_no_sample_is_lost_or_doubled_by_the_kills(golden):
    for node in ("teacher_samples", "student_samples"):
        samples = artifact(golden, node) / "samples"
        assert samples.read_table()["sample_id"].to_pylist() == [f"{node}-{i:08d}" for i in range(96)]
        assert [samples.row_groups(shard) for shard in samples.shards()] == [[16, 16]] * 3


def test_more_samples_were_asked_for_until_enough_was_kept(golden):
    facts = artifact(golden, "more_samples").read_json("manifest.json")["facts"]
    assert facts["kept"] >= 110 or facts["asked"] == 160
    assert facts["asked"] > 96
    ids = artifact(golden, "more_samples").read_table("samples")["sample_id"].to_pylist()
    assert ids == [f"teacher_samples-{i:08d}" for i in range(96, facts["asked"])]
    judged = artifact(golden, "verdicts").read_table("verdicts")
    assert sorted(judged["sample_id"].to_pylist()) == [f"teacher_samples-{i:08d}" for i in range(facts["asked"])]
    assert sum(judged["keep"].to_pylist()) == facts["kept"]
    learned = artifact(golden, "student_latents").read_json("train/index.json")
    assert learned["rows"] == facts["kept"]


def test_roles_are_patient_disjoint(golden):
    data = artifact(golden, "ingest")
    patients = {
        role: set(data.read_table(role)["patient_id"].to_pylist())
        for role in ("train", "probe", "calibration", "evaluation")
    }
    assert patients["probe"] <= patients["train"]
    assert not patients["train"] & patients["calibration"]
    assert not patients["train"] & patients["evaluation"]
    assert not patients["calibration"] & patients["evaluation"]


def test_the_same_command_again_does_nothing_but_say_so(golden):
    left = ".work/teacher/of-a-run-that-was-killed/latents.npy"
    golden["store"].write_bytes(left, b"of real images")
    again = run_to_end(golden["uri"], "--json")
    assert again.returncode == 0
    assert not golden["store"].exists(left)
    assert "nothing to run" in again.stderr
    assert "verdict: " in again.stderr
    assert json.loads(again.stdout)["verdict"] == golden["store"].read_json("summary.json")["verdict"]


def test_the_search_alone_goes_on_from_the_run_s_own_configuration(golden):
    before = golden["store"].read_json("summary.json")
    line = [sys.executable, "jobs/tune.py", "--run-dir", golden["uri"]]
    said = finished(line, **ENVIRONMENT)
    assert said.returncode == 0, said.stderr[-3000:]
    assert "up to date; nothing to run" in said.stderr
    assert "target_fpir" in said.stdout
    assert f"--run-dir {golden['uri']}" in said.stdout
    after = golden["store"].read_json("summary.json")
    assert (after["verdict"], after["metrics"]) == (before["verdict"], before["metrics"])
    assert {entry["state"] for entry in after["nodes"].values()} <= {"cached", "skipped"}


def test_what_the_run_took_is_what_the_same_elsewhere_is_said_to_take(golden):
    config, rates = load_config(MICRO), rates_of(golden["uri"])
    bills = {x.demand.node: x for x in estimate(config, wire(config), {}, read_prices(None), rates).bills}
    for node in ("reid_filter", "gallery", "student", "student_samples", "student_attack", "real_evaluation"):
        manifest = Manifest(**artifact(golden, node).read_json("manifest.json"))
        assert not manifest.resumed
        assert bills[node].demand.hours == pytest.approx(manifest.seconds / 3600), node
    killed = Manifest(**artifact(golden, "teacher_samples").read_json("manifest.json"))
    assert killed.resumed is ("teacher_samples" in rates.unused)


def test_a_changed_threshold_reruns_only_what_follows(golden):
    config = load_config(MICRO, ["tune.max_reidentification_rate=0.5"])
    states = {line.node: line.state for line in Runner(golden["store"], config, wire(config)).plan()}
    cached = {node for node, state in states.items() if state == "cached"}
    assert {"ingest", "reid_filter", "reid_auditor", "teacher", "teacher_samples", "teacher_matches"} <= cached
    assert states["tune"] == "to run"
    assert states["student"] == "waiting"


def test_the_student_stage_works_with_the_real_data_unreadable(golden, local_ray, tmp_path):
    """Only samples and verdicts exist in this run folder: no ingest, no eye, no teacher."""
    config = Config.model_validate(
        {k: v for k, v in yaml.safe_load(golden["store"].read_bytes("config.yaml")).items() if k != "schema"}
    )
    store = Store.open(str(tmp_path / "only-synthetic"))
    needed = ("teacher_samples", "more_samples", "verdicts")
    for node in needed:
        key = golden["summary"]["nodes"][node]["key"]
        store.upload(artifact(golden, node).keep_local(), f"{node}/{key}")
    stages = wire(config)
    runner = Runner(store, config, stages)
    for node in needed:
        runner.load(node, golden["summary"]["nodes"][node]["key"])
    read = {}
    for node in ("student_latents", "student"):
        manifest, cached = runner.execute(next(s for s in stages if s.node == node), silent)
        assert not cached
        assert manifest.key == golden["summary"]["nodes"][node]["key"]
        read[node] = {entry.node for entry in manifest.inputs.values()}
    assert read == {"student_latents": set(needed), "student": {"student_latents"}}
    nodes = {p.name for p in (tmp_path / "only-synthetic").iterdir() if not p.name.startswith(".")}
    assert nodes == {"logs", "student", "student_latents", *needed}


def test_the_search_never_reads_evaluation_patients(golden, local_ray, tmp_path):
    """Neither their images nor what an auditor says of them can be read in this run folder; the search finds the same."""
    config = Config.model_validate(
        {k: v for k, v in yaml.safe_load(golden["store"].read_bytes("config.yaml")).items() if k != "schema"}
    )
    store, stages = Store.open(str(tmp_path / "no-evaluation")), wire(config)
    runner = Runner(store, config, stages)
    for node in ("ingest", "teacher_samples", "teacher_matches"):
        key = golden["summary"]["nodes"][node]["key"]
        store.upload(artifact(golden, node).keep_local(), f"{node}/{key}")
        for path in (tmp_path / "no-evaluation" / node / key).rglob("*.parquet"):
            if "evaluation" in path.parts or "auditor" in path.parts:
                path.write_bytes(bytes(path.stat().st_size))
        runner.load(node, key)
    manifest, cached = runner.execute(next(s for s in stages if s.node == "tune"), silent)
    assert not cached
    known = Manifest(**artifact(golden, "tune").read_json("manifest.json"))
    assert (manifest.key, manifest.digest) == (known.key, known.digest)


def test_verify_finds_a_changed_byte(golden):
    said = subprocess.run(
        [sys.executable, "-m", "raydistill.cli", "verify", golden["uri"]], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    victim = artifact(golden, "verdicts")
    before = victim.read_bytes("metrics.json")
    victim.write_bytes("metrics.json", before.replace(b"0", b"1", 1))
    try:
        said = subprocess.run(
            [sys.executable, "-m", "raydistill.cli", "verify", golden["uri"]],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        victim.write_bytes("metrics.json", before)
    assert said.returncode == 1
    assert "verdicts: metrics.json" in said.stderr
    assert "Traceback" not in said.stderr


def test_nothing_is_released_unless_the_verdict_is_pass(golden):
    released = (golden["store"] / "release").files()
    assert bool(released) == (golden["summary"]["verdict"] == "pass")


def test_no_scratch_is_left_and_files_are_what_manifests_say(golden):
    assert not (golden["store"] / ".work").files()
    for node, line in golden["summary"]["nodes"].items():
        manifest = artifact(golden, node).read_json("manifest.json")
        assert manifest["key"] == line["key"]
        entry = manifest["files"][0]
        assert hashlib.sha256(artifact(golden, node).read_bytes(entry["path"])).hexdigest() == entry["sha256"]
