"""Runs the gate over metrics by hand."""

import torch
from safetensors.torch import save_file

from raydistill.core.config import Config, ReleaseConfig
from raydistill.core.manifest import FileEntry, InputEntry, Manifest
from raydistill.core.store import Store
from raydistill.diffusion.folder import WEIGHTS
from raydistill.metrics.result import MetricResult, insufficient
from raydistill.stages.base import Context
from raydistill.stages.release import Release, ReleaseNodeConfig

STUDENT = {
    "excess_risk": (0.0, -0.02, 0.03),
    "leak_rate": (0.0, -0.03, 0.04),
    "near_copy_excess": (0.0, -0.01, 0.01),
    "copied_excess": (0.0, -0.001, 0.005),
    "identified_excess": (0.0, -0.002, 0.002),
    "closer_to_train_share": (0.5, 0.45, 0.55),
    "attacked_excess_risk": (0.0, -0.02, 0.03),
    "attacked_leak_rate": (0.0, -0.03, 0.04),
    "attacked_near_copy_excess": (0.0, -0.01, 0.01),
    "attacked_copied_excess": (0.0, -0.001, 0.005),
    "attacked_identified_excess": (0.0, -0.002, 0.002),
    "attacked_closer_to_train_share": (0.5, 0.45, 0.55),
    **{f"{prefix}closer_to_train_excess": (0.0, -0.05, 0.05) for prefix in ("", "attacked_")},
    "attacked_worst_excess_risk": (0.0, -0.03, 0.04),
    **{f"{prefix}patients_hit_excess": (0.0, -0.03, 0.03) for prefix in ("", "attacked_")},
    "membership_auc": (0.5, 0.45, 0.55),
    "membership_calibrated_auc": (0.5, 0.45, 0.55),
    "utility_loss": (0.02, -0.01, 0.05),
    "auditor_tpir": (0.6, 0.5, 0.7),
    "auditor_sensitivity": (0.95, 0.9, 0.98),
    "certain_sensitivity": (0.8, 0.7, 0.9),
    "prompt_marks": (0.0, 0.0, 0.0),
    "prompt_k": (5, 5, 5),
    "control_rate": (0.06, 0.03, 0.1),
    "near_copy_control_rate": (0.01, 0.0, 0.03),
}
REAL = {"utility_auroc": (0.8, 0.75, 0.85)}
SELFTEST = {
    "sensitivity": (0.97, 0.93, 0.99),
    "sensitivity.generator": (0.96, 0.91, 0.99),
    "sensitivity.generator_recognised": (0.96, 0.91, 0.99),
    "false_flag_rate": (0.03, 0.01, 0.06),
    "consistency_jaccard": (0.9, 0.85, 0.95),
    "consistency_jaccard.identity": (0.88, 0.82, 0.93),
    "consistency_jaccard.generator": (0.88, 0.82, 0.93),
}
NODES = (
    "student",
    "student_latents",
    "teacher",
    "teacher_latents",
    "filter",
    "student_filter",
    "real_evaluation",
    "teacher_evaluation",
    "student_evaluation",
    "cohort",
)
COHORT = {
    "images": {"train": 60, "probe": 12},
    "patients": {"train": 30, "probe": 6},
    "findings": ["nodule"],
    "roles_given": False,
}
READ = {"images": "teacher_samples", "verdicts": "verdicts"}
TEACHER = {"unet": "a" * 64, "text_encoder": "b" * 64}

VAE = {"vae/diffusion_pytorch_model.safetensors": "d" * 64}
PUBLIC = {"started_from": {"sha256": VAE}, "private_start": {}}


def results(values):
    made = {name: value if isinstance(value, MetricResult) else _of(name, *value) for name, value in values.items()}
    return {name: value.model_dump(mode="json") for name, value in made.items()}


def _of(name, *values):
    """An attack asks for twice as many."""
    return result(*values, n=200 if name.startswith("attacked_") else 100)


def result(value, *interval, n=100):
    if value is None:
        return insufficient("too few", n=3, unit="share")
    return MetricResult(value=value, interval=interval or None, n=n, unit="share", estimator="by hand")


def write_weights(folder, values):
    """A whole folder's weights, one tensor each."""
    for part, name in WEIGHTS.items():
        (folder / part).mkdir(parents=True)
        save_file({"w": torch.tensor(values, dtype=torch.float16)}, folder / part / name)


def decide(
    folder,
    student=None,
    selftest=None,
    config=None,
    read=READ,
    patients=120,
    teacher=None,
    start=(9, 9),
    files=None,
    measured=None,
    real=None,
    fresh=True,
    cohort=COHORT,
    policy=None,
    **facts,
):
    """Run the gate over metrics by hand; `facts` are what is known of the student's start, or `skipped`.

    The teacher's training made `TEACHER`; `files` are those of other nodes, path to digest; `measured` is how, where
    that isn't as usual; `policy` is what the filter has beside a threshold.
    """
    if fresh:
        write_weights(folder / "teacher_latents/initial", (1.0, 2.0))
        write_weights(folder / "teacher/model", (1.5, 2.5))
        write_weights(folder / "student_latents/initial", start)
    root, manifests = Store.open(str(folder)), {}
    (root / "student_evaluation").write_json("metrics.json", results({**STUDENT, **(student or {})}))
    (root / "cohort").write_json("cohort.json", cohort)
    (root / "real_evaluation").write_json("metrics.json", results({**REAL, **(real or {})}))
    (root / "filter").write_json("metrics.json", {"selftest": results({**SELFTEST, **(selftest or {})})})
    for node in NODES:
        inputs = {"student_latents": read, "student": {"rows": "student_latents"}}.get(node, {})
        made = {"teacher": {f"model/{part}.safetensors": digest for part, digest in TEACHER.items()}} | (files or {})
        own = {
            "student": {name: why for name, why in facts.items() if name == "skipped"},
            "student_latents": PUBLIC | facts,
            "teacher_latents": PUBLIC | (teacher or {}),
            "filter": {"policy": {"identity_threshold": 0.5} | (policy or {})},
        }
        manifests[node] = Manifest(
            node=node, stage="x", version=1, key="k", digest="d", config={}, software={}, started="", seconds=1,
            inputs={name: InputEntry(node=n, key="k", folder="", digest="d") for name, n in inputs.items()},
            counts={"evaluation_patients": patients}, facts=own.get(node, {}),
            files=[FileEntry(path=path, size=1, sha256=digest) for path, digest in made.get(node, {}).items()],
        )  # fmt: skip
    whole = Config(release=config or ReleaseConfig(), **(measured or {}))
    node = ReleaseNodeConfig(release=whole.release, evidence=whole.evidence, prompts=whole.ingest.prompts)
    stage = Release("decision", node, {}, 0)
    out = root / "out"
    context = Context({node: root / node for node in NODES}, out, root / "work", 0, manifests)
    stage.run(context)
    return out.read_json("verdict.json"), out.read_json("certificate.json")
