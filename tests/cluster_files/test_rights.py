"""Storage rights by role, held against what the stages of each role really read and write."""

import json
from fnmatch import fnmatchcase

import pytest

from raydistill.core.loading import load_config
from raydistill.core.store import Store
from raydistill.distributed.tune import claimed
from raydistill.pipeline import wire
from raydistill.stages.base import Context
from tests.cluster_files.shipped import CLUSTER, ROLES
from tests.stages.test_trial import evidence

BUCKET = "arn:aws:s3:::CHANGE-ME-bucket"
RUN = "runs/first"
KEPT_MORE = ["preset=spot_sampling", "teacher_samples.target_kept=100"]
PATIENTS = [
    "cohort/cohort.parquet",
    *(f"{RUN}/ingest/KEY/{role}/part-0.parquet" for role in ("train", "probe", "calibration", "evaluation")),
    f"{RUN}/ingest/KEY/quarantine/part-0.parquet",
    f"{RUN}/more_samples/KEY/auditor/samples/more-0.parquet",
    f"{RUN}/.secret/hash.key",
]
"""What holds patients, their ids, or what undoes a hash of these, beside what the training nodes write."""


def may(role, action, key):
    """What AWS would answer: a denial wins, and what nobody allows is denied."""
    policy = json.loads((CLUSTER / "storage" / f"aws-{role}.json").read_text())
    said = [one["Effect"] for one in policy["Statement"] if matches(one, action, key)]
    return "Deny" not in said and "Allow" in said


def matches(statement, action, key):
    actions, resources = (
        [one] if isinstance(one, str) else one for one in (statement["Action"], statement["Resource"])
    )
    if action == "s3:ListBucket":
        prefixes = statement.get("Condition", {}).get("StringLikeIfExists", {}).get("s3:prefix", [])
        wanted = key is None or any(fnmatchcase(key, prefix) for prefix in prefixes)
        return any(fnmatchcase(action, one) for one in actions) and BUCKET in resources and wanted
    return any(fnmatchcase(action, one) for one in actions) and any(
        fnmatchcase(f"{BUCKET}/{key}", r) for r in resources
    )


def stages():
    """Every stage that has workers, by their role."""
    found = {role: [] for role in ROLES}
    for stage in wire(load_config(None, KEPT_MORE)):
        if stage.compute:
            found[stage.compute.label_selector["role"]].append(stage)
    return found


def read_by(stage):
    views = {name: view for name, view in stage.inputs.items() if stage.node != "more_samples" or name in SAMPLING}
    return {f"{RUN}/{v.node.node}/KEY/{v.folder}/part-0.parquet".replace("//", "/") for v in views.values()}


SAMPLING = ("model", "prompts")
"""What the sampling half of `more_samples` reads; the rest is matching's, on training nodes, and the driver's."""


@pytest.mark.parametrize("role", sorted(ROLES))
def test_each_role_may_read_and_write_what_its_stages_do(role):
    assert stages()[role]
    for stage in stages()[role]:
        own = "more_samples/KEY/samples" if stage.node == "more_samples" else f"{stage.node}/KEY"
        for key in read_by(stage):
            assert may(role, "s3:GetObject", key), (stage.node, key)
            assert may(role, "s3:ListBucket", key), (stage.node, key)
        for key in (f"{RUN}/{own}/x", f"{RUN}/.work/{stage.node}/KEY/x", f"{RUN}/logs/{stage.node}/KEY/x"):
            for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
                assert may(role, action, key), (stage.node, action, key)


class Asked(Exception):
    """Ends a stage where it begins to search."""


def test_trials_of_a_search_run_where_patients_may_be_read(monkeypatch, tmp_path):
    """They are given features and ids of calibration patients, and write what they measured below the search's work."""

    def search(measure, arguments, shared, space, *others):
        raise Asked(claimed(space))

    monkeypatch.setattr("raydistill.stages.tune.search", search)
    monkeypatch.setattr("raydistill.stages.tune.read_evidence", lambda *_: evidence())
    tune, store = next(stage for stage in stages()["training"] if stage.node == "tune"), Store.open(str(tmp_path))
    with pytest.raises(Asked) as ended:
        tune.run(Context(inputs={}, out=store, work=store, seed=0))
    asked = []
    monkeypatch.setattr("ray.air.execution.resources.request.placement_group", lambda *a, **b: asked.append((a, b)))
    ended.value.args[0].to_placement_group()
    assert asked == [(([{"CPU": 1.0}], "PACK"), {"bundle_label_selector": [{"role": "training"}]})]


@pytest.mark.parametrize("role", sorted(ROLES - {"training"}))
def test_who_makes_samples_or_the_student_never_reads_what_holds_patients(role):
    others = stages()
    theirs = {key for stage in others[role] for key in read_by(stage)}
    written = {f"{RUN}/{stage.node}/KEY/x" for stage in others["training"]} - {f"{RUN}/teacher/KEY/x"}
    read = {key for stage in others["training"] for key in read_by(stage)} - theirs
    # Samples and students hold nobody else than what these roles see anyway.
    made = tuple(f"{RUN}/{stage.node}/" for own in ROLES - {"training"} for stage in others[own])
    harmless = {key for key in read if key.startswith((*made, f"{RUN}/verdicts/", f"{RUN}/teacher/"))}
    harmless |= {
        key for key in read if key.startswith(tuple(f"{RUN}/ingest/KEY/{n}/" for n in ("sharing", "findings")))
    }
    for key in {*PATIENTS, *written, *read} - harmless:
        assert not may(role, "s3:GetObject", key), key
        assert not may(role, "s3:PutObject", key), key
    assert not may(role, "s3:ListBucket", "cohort/")


@pytest.mark.parametrize("role", sorted(ROLES))
def test_each_role_may_ask_for_the_bucket_itself(role):
    """Without a prefix: else HeadBucket is denied, and HeadObject of what isn't there says 403 in the place of 404."""
    assert may(role, "s3:ListBucket", None)


@pytest.mark.parametrize("role", ["student", "training"])
def test_who_trains_may_make_a_checkpoints_folder_as_pyarrow_does(role):
    """Ray Train's workers call `create_dir`, which asks for the bucket and puts a marker for each folder on the way."""
    (node,) = {stage.node for stage in stages()[role] if stage.is_gang and stage.node in ("student", "teacher")}
    folders = f"{RUN}/.work/{node}/KEY/train/checkpoint_1".split("/")
    for depth in range(len(folders)):
        assert may(role, "s3:PutObject", "/".join(folders[: depth + 1]) + "/")


def test_nobody_reaches_the_bucket_without_tls():
    (said,) = json.loads((CLUSTER / "storage" / "aws-bucket.json").read_text())["Statement"]
    assert (said["Effect"], said["Principal"], said["Action"]) == ("Deny", "*", "s3:*")
    assert set(said["Resource"]) == {BUCKET, f"{BUCKET}/*"}
    assert said["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_only_training_reads_the_cohort():
    assert [role for role in sorted(ROLES) if may(role, "s3:GetObject", "cohort/cohort.parquet")] == ["training"]
    assert not may("training", "s3:PutObject", "cohort/cohort.parquet")
