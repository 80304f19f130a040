"""A plausible finished run folder, small and quick: real tables, phantom pictures, ids that must never get out."""

from collections import Counter

import numpy as np
import pyarrow as pa
from safetensors.numpy import save

from raydistill.core.columns import AUDITED, MATCHES, RECORDS, SAMPLES, VERDICTS
from raydistill.core.config import Config
from raydistill.core.manifest import InputEntry, Manifest, digest_files
from raydistill.core.store import Store
from raydistill.data.images import encode_png
from raydistill.data.phantom import render
from raydistill.metrics.certificate import SCHEMA
from raydistill.metrics.filtering import filter_metrics, selftest_metrics
from raydistill.metrics.identification import rates, similarities, subgroup_rates
from raydistill.metrics.result import Check, MetricResult, insufficient, results_table
from raydistill.metrics.shortfalls import looser_budgets
from raydistill.runner import Runner
from raydistill.stages.certifying import settings
from raydistill.summary import summarise

SECRET = "PATIENT-ZQX"
"""Every planted patient id, image id and real prompt holds it."""

RARE = "ZQX-RARE pacemaker"
"""An attribute of one real patient in each role: none but the house may learn of it."""

FINDINGS = ("cardiomegaly", "effusion", "nodule", "pneumothorax")
THRESHOLD, NEAR = 0.82, 0.9
TREATMENTS = ("blur", "contrast", "crop", "jpeg", "shift", "noise_0.2", "noise_0.35", "noise_0.5")
ROLES = {"train": 60, "probe": 22, "calibration": 30, "evaluation": 40}
NODES = (
    "ingest", "reid_filter", "reid_judge", "reid_auditor", "teacher", "teacher_samples", "teacher_matches", "selftest",
    "tune", "verdicts", "student", "student_samples", "student_matches", "student_verdicts", "real_evaluation",
    "teacher_evaluation", "filtered_evaluation", "student_evaluation", "simple_rules", "decision",
)  # fmt: skip


class Builder:
    """Writes artifacts as the stages do and keeps their manifests in a `Runner`."""

    def __init__(self, folder, config=None, samples=48):
        self.runner = Runner(Store.open(str(folder)), config or Config(name="phantom"), [])
        self.rng, self.samples = np.random.default_rng(7), samples
        total = sum(ROLES.values()) + 2 * samples
        drawn = render(np.arange(total), np.zeros(total, np.int64), seed=3, resolution=32)
        self.images, self.used = [encode_png(image) for image in drawn.images], 0

    def artifact(self, node, tables=(), files=(), counts=None, facts=None, inputs=(), key="0123456789abcdef"):
        out = self.runner.artifact(node, key)
        for name, table in dict(tables).items():
            out.write_table(name, table)
        for name, value in dict(files).items():
            out.write_bytes(name, value) if isinstance(value, bytes) else out.write_json(name, value)
        entries = out.fingerprint()
        manifest = Manifest(
            node=node, stage=node.title(), version=1, key=key, digest=digest_files(entries), config={},
            inputs={n: InputEntry(node=n, key=key, folder="", digest="d") for n in inputs}, files=entries,
            counts=counts or {"rows": 1}, facts=facts or {}, software={"torch": "2.13", "ray": "2.60"},
            started="2026-01-01T00:00:00+00:00", seconds=round(float(self.rng.uniform(1, 90)), 2),
        )  # fmt: skip
        out.write_bytes("manifest.json", manifest.model_dump_json().encode())
        self.runner.manifests[node] = manifest

    def take(self, count):
        self.used += count
        return self.images[self.used - count : self.used]

    def ids(self, role, count):
        return [f"{SECRET}-{'train' if role == 'probe' else role}-{i // 2:03d}" for i in range(count)]

    def records(self, role, count):
        patients = self.ids(role, count)
        return pa.table(
            {
                "image_id": [f"{patient}_{role}_{i}.png" for i, patient in enumerate(patients)],
                "patient_id": patients, "study_index": list(range(count)), "image": self.take(count),
                "prompt": [f"real prompt of {patient}" for patient in patients], "labels": [["nodule"]] * (count - 1) + [[RARE]],
                "view": ["pa"] * (count - 1) + [RARE], "sex": ["female"] * count, "age": [41.0] * count, "sha256": ["f"] * count,
            },
            schema=RECORDS,
        )  # fmt: skip

    def requests(self, name):
        labels = [[FINDINGS[i % 4]] if i % 3 else [] for i in range(self.samples)]
        images = [None if i == 5 else image for i, image in enumerate(self.take(self.samples))]
        return pa.table(
            {
                "sample_id": [f"{name}-{i:06d}" for i in range(self.samples)],
                "prompt": ["chest x-ray, pa view, " + (" and ".join(x) or "no finding") for x in labels],
                "labels": labels, "view": ["pa"] * self.samples, "sex": ["female", "male"] * (self.samples // 2),
                "age_band": ["40 to 59"] * self.samples, "seed": list(range(self.samples)), "image": images,
                "guidance_scale": [None] * self.samples, "num_inference_steps": [None] * self.samples,
                "failure": ["one grey level everywhere" if image is None else None for image in images],
            },
            schema=SAMPLES,
        )  # fmt: skip

    def matches(self, ids, patients, low, high):
        count, train = len(ids), self.train.to_pylist()
        near = [train[int(i)] for i in self.rng.integers(0, len(train), count)]
        columns = {
            "query_id": ids, "query_patient_id": patients,
            "score": self.rng.uniform(low, high, count).astype(np.float32),
            "nearest_image_id": [row["image_id"] for row in near],
            "nearest_patient_id": [row["patient_id"] for row in near],
            "neighbour_scores": [[0.1]] * count, "neighbour_image_ids": [[row["image_id"]] for row in near],
            "structure_score": self.rng.uniform(low - 0.2, high - 0.02, count).astype(np.float32),
            "structure_image_id": [train[int(i)]["image_id"] for i in self.rng.integers(0, len(train), count)],
        }  # fmt: skip
        columns |= self.unseen(count)
        return pa.table({f.name: columns.get(f.name, pa.nulls(count, f.type)) for f in MATCHES}, schema=MATCHES)

    def unseen(self, count):
        rng, people = np.random.default_rng(count), self.real["evaluation"]["patient_id"].to_pylist()
        scores = {name: rng.uniform(0.2, 0.9, count) for name in ("unseen_score", "unseen_structure_score")}
        return scores | {"unseen_patient_id": rng.choice(people, count)}

    def eye(self, eye, samples, scores):
        made = samples.filter(pa.compute.is_valid(samples["image"]))["sample_id"].to_pylist()
        found = self.matches(made, pa.nulls(len(made), pa.string()), *scores)
        tables = {f"{eye}/samples/part-00000.parquet": found}
        for role, high in (("probe", 1.0), ("calibration", 0.85), ("evaluation", 0.86)):
            real = self.real[role]
            found = self.matches(real["image_id"], real["patient_id"], 0.6 if role == "probe" else 0.25, high)
            tables[f"{eye}/{role}/part-00000.parquet"] = found
        return tables

    def verdicts(self, samples, matches):
        rows = {row["query_id"]: row for row in matches.to_pylist()}
        out = []
        for sample in samples["sample_id"].to_pylist():
            row = rows.get(sample)
            tests = row and {"identity": row["score"] >= THRESHOLD, "near_copy": row["structure_score"] >= NEAR}
            reason = "failed" if row is None else "+".join(name for name, hit in tests.items() if hit) or "kept"
            scores = {name: row and row[name] for name in ("score", "structure_score")}
            out.append({"sample_id": sample, "keep": reason == "kept", "reason": reason, **scores})
        return pa.Table.from_pylist(out, schema=VERDICTS)

    def planted(self):
        rows = []
        for role in ("train", "calibration"):
            for treatment in TREATMENTS:
                for record in self.real[role].slice(0, 12).to_pylist():
                    score = self.rng.uniform(0.7, 1.0) if role == "train" else self.rng.uniform(0.2, 0.86)
                    extra = {
                        "query_id": f"{role}/{treatment}/{record['image_id']}",
                        "source_role": role,
                        "treatment": treatment,
                        "score": score,
                        "structure_score": score - 0.1,
                        "is_copy": True,
                        "is_recognised": True,
                    }
                    rows.append({k: record[k] for k in ("image_id", "patient_id", "image")} | extra)
        return pa.Table.from_pylist(rows)


def build(
    folder, config=None, verdict="pass", samples=48, teacher_scores=(0.3, 1.0), student_scores=(0.3, 0.87), model=None
):
    """Write a whole run, its samples' scores drawn from these ranges; return its runner and summary.

    `model` is a diffusers folder to release in the place of one that only looks like it.
    """
    b = Builder(folder, config, samples)
    b.real = {role: b.records(role, count) for role, count in ROLES.items()}
    b.train = b.real["train"]
    facts = {"images": ROLES, "patients": {role: len(set(t["patient_id"].to_pylist())) for role, t in b.real.items()}}
    b.artifact("ingest", {f"{r}/part-00000.parquet": t for r, t in b.real.items()}, counts=dict(ROLES), facts=facts)
    for node in ("reid_filter", "reid_judge", "reid_auditor"):
        b.artifact(node, files={"history.json": {"loss": [[1, 2.0]]}}, inputs=["ingest"])
    teacher, student = b.requests("teacher_samples"), b.requests("student_samples")
    for node, epochs in (("teacher", 98.5), ("student", 61.0)):
        shown = {
            "model/model_index.json": {"_class_name": "StableDiffusionPipeline"},
            "model/unet/x.safetensors": save({"w": np.ones(9, np.float32)}),
        }
        if model:
            shown = {f"model/{f.relative_to(model)}": f.read_bytes() for f in model.rglob("*") if f.is_file()}
        marker = {"model/raydistill.json": {"trained_on": [f"{node}_x"]}}
        b.artifact(
            node,
            files=shown | marker,
            counts={"images": 60},
            facts={"epochs": epochs, "started_from": {}, "notes": NOTES},
        )
    b.artifact("teacher_samples", {"samples/part-00000.parquet": teacher}, counts={"rows": samples, "failed": 1})
    halves = [student.slice(0, samples // 2), student.slice(samples // 2)]
    b.artifact(
        "student_samples",
        {f"samples/part-{i:05d}.parquet": half for i, half in enumerate(halves)},
        counts={"rows": samples, "failed": 1},
    )
    t_match = b.eye("filter", teacher, teacher_scores) | b.eye("auditor", teacher, teacher_scores)
    s_match = b.eye("filter", student, student_scores) | b.eye("auditor", student, student_scores)
    b.artifact("teacher_matches", t_match)
    b.artifact("student_matches", s_match)
    filtering(b, teacher, student, t_match, s_match)
    evaluations(b, t_match, s_match)
    compare(b)
    decide(b, verdict)
    return b.runner, summarise(b.runner, dict.fromkeys(NODES, "done"))


def flags(table):
    return (table["score"].to_numpy() >= THRESHOLD) | (table["structure_score"].to_numpy() >= NEAR)


def filtering(b, teacher, student, t_match, s_match):
    """The self-test, the search and both filters."""
    planted = b.planted()
    agreement = [
        {"among": among, "eyes": list(eyes), "jaccard": j, "kappa": 0.31, "both": 8, "either": 20, "n": 47}
        for among in ("planted", "samples")
        for eyes, j in ((("filter", "judge"), 0.41), (("filter", "auditor"), 0.37), (("judge", "auditor"), 0.52))
    ]
    b.artifact("selftest", {"planted/part-00000.parquet": planted}, {"agreement/agreement.json": agreement})
    policy = {"identity_threshold": THRESHOLD, "near_copy_threshold": NEAR, "target_fpir": 0.05, "near_copy_fpir": 0.02}
    panel = teacher.filter(teacher["failure"].is_null())["sample_id"].to_pylist()[:12]
    trials = [
        {
            "target_fpir": 0.01 * (i + 1), "near_copy_fpir": 0.005 * (i + 1),
            "kept_share": 0.95 - 0.07 * i, "utility": None if i == 11 else 0.78 - 0.012 * i + 0.02 * (i % 3),
            "risk": 0.2 / (i + 1), "risk_high": 0.32 / (i + 1), "feasible": 2 < i < 11, "chosen": i == 3,
            "pareto": i in (3, 7), "dropped": panel[:i], "network_utility": 0.7 if 2 < i < 7 else None, "networks": 2 if i == 3 else 1,
            "breaks_risk": 0.32 / (i + 1) - 0.1, "breaks_near_copies": -0.05, "breaks_kept_share": -0.1, "breaks_taught": float(i == 11),
        }
        for i in range(12)
    ]  # fmt: skip
    tables = {
        "trials": pa.Table.from_pylist(trials),
        "panel": pa.table({"sample_id": panel}),
        "importances": pa.table({"setting": ["near_copy_fpir", "target_fpir"], "importance": [0.7, 0.3]}),
    }
    agreed = MetricResult(value=0.33, n=4, unit="Kendall's tau of probe and network", estimator="tau-b", baseline=0.0)
    b.artifact(
        "tune",
        {f"{name}/part-00000.parquet": table for name, table in tables.items()},
        {"policy/policy.json": policy, "metrics.json": {"rank_agreement": agreed.model_dump(mode="json")}},
        facts={"why": "chosen by networks' AUROC: 0.7, the best"},
    )
    caught = flags(planted)
    of_planted = pa.table(
        {
            "sample_id": planted["query_id"],
            "keep": ~caught,
            "reason": ["identity" if hit else "kept" for hit in caught],
            "score": planted["score"].cast("float32"),
            "structure_score": planted["structure_score"].cast("float32"),
        },
        schema=VERDICTS,
    )
    for node, samples, matches in (("verdicts", teacher, t_match), ("student_verdicts", student, s_match)):
        table = b.verdicts(samples, matches["filter/samples/part-00000.parquet"])
        real = [matches[f"filter/{role}/part-00000.parquet"] for role in ("probe", "calibration")]
        dropped = {"known": flags(real[0]), "strangers": flags(real[1])}
        groups = {
            "filter": filter_metrics(Counter(table["reason"].to_pylist()), *real, **dropped, confidence=0.95),
            "selftest": selftest_metrics(planted, caught, agreement, 0.95),
        }
        dumped = {group: dump(named) for group, named in groups.items()}
        tables = {"verdicts/part-00000.parquet": table, "planted/part-00000.parquet": of_planted}
        counts = {"rows": len(table), "kept": table["keep"].to_pylist().count(True)}
        b.artifact(node, tables, {"metrics.json": dumped}, counts, inputs=["tune"])


def evaluations(b, t_match, s_match):
    """All four evaluations, the real one without matches, one metric without a value."""
    for rank, (group, matches) in enumerate(
        {"real": None, "teacher": t_match, "filtered": t_match, "student": s_match}.items()
    ):
        tables, metrics, files = {}, {}, {}
        if matches:
            samples, control = (matches[f"auditor/{r}/part-00000.parquet"] for r in ("samples", "evaluation"))
            score, patient = samples["score"].to_numpy(), samples["nearest_patient_id"].to_numpy()
            metrics |= rates(
                score, patient, control["score"].to_numpy(), control["query_patient_id"].to_numpy(), THRESHOLD
            )
            metrics |= similarities(score, control["score"].to_numpy())
            near = rates(*near_copy_arguments(samples, control), NEAR)
            metrics |= {"near_copy_rate": near["reidentification_rate"], "near_copy_excess": near["excess_risk"]}
            metrics["membership_auc"] = insufficient("28 patients; 30 are needed", n=28, unit="area")
            flagged = score >= THRESHOLD
            audit = samples.select(list(AUDITED))
            audit = audit.append_column("flagged", pa.array(flagged))
            copies = samples["structure_score"].to_numpy() >= NEAR
            tables["tables/audit.parquet"] = audit.append_column("near_copy", pa.array(copies))
            sexes = {"sex": ["female" if i % 2 else "male" for i in range(len(score))], "view": ["pa"] * len(score)}
            tables["tables/subgroups.parquet"] = subgroup_rates(flagged, patient, sexes)
            if group == "student":
                tables["tables/attack_audit.parquet"] = tables["tables/audit.parquet"]
                ways = ["guidance_1" if i % 2 else "few_steps" for i in range(len(score))]
                tables["tables/attacks.parquet"] = subgroup_rates(flagged, patient, {"way": ways})
            files["operating_point.json"] = {"identity": {"threshold": THRESHOLD}, "structure": {"threshold": NEAR}}
        for name, value in (("utility_auroc", 0.81), ("frechet_distance", 12.5), ("precision", 0.71), ("recall", 0.42)):
            value -= 0.03 * rank
            spread = None if rank == 3 and name == "recall" else (value - 0.05, value + 0.06)
            metrics[name] = MetricResult(
                value=value, interval=spread, n=40,
                unit="share of images" if name in ("precision", "recall") else "area", estimator="patient bootstrap",
                control=0.9, reference="Somebody et al. 2020",
            )  # fmt: skip
        found = dict.fromkeys(FINDINGS, metrics["utility_auroc"])
        found[RARE] = insufficient("one positive", n=40, unit="area")
        sizes = pa.array([1 if name == RARE else 11 for name in found])
        tables["tables/by_finding.parquet"] = results_table(found).append_column("group_size", sizes)
        groups = results_table({f"view={name}": metrics["utility_auroc"] for name in ("pa", RARE)})
        tables["tables/utility_by_group.parquet"] = groups.append_column("group_size", pa.array([39, 1]))
        looks = found | {f"{name}: kernel_distance": found[name] for name in found}
        looks = results_table({name: looks[name] for name in looks if ":" in name})
        tables["tables/fidelity_by_finding.parquet"] = looks.append_column("group_size", sizes)
        tables["predictions/part-00000.parquet"] = pa.table({"image_id": b.real["evaluation"]["image_id"]})
        node = f"{group}_evaluation"
        b.artifact(node, tables, files | {"metrics.json": dump(metrics)}, {"images": 47, "evaluation_patients": 20})


NOTES = ["7 images of 9 are longer than the text encoder reads"]

CHECKS = {
    "pass": Check(metric="student.excess_risk", value=0.021, interval=(0, 0.043), budget=0.05, kind="max"),
    "insufficient_evidence": Check(
        metric="student.membership_auc", value=None, interval=None, budget=0.6, kind="max",
        note="insufficient: 28 patients; 30 are needed",
    ),
    "fail": Check(metric="selftest.sensitivity", value=0.62, interval=(0.55, 0.69), budget=0.8, kind="min"),
}  # fmt: skip
REASONS = {verdict: check.reason for verdict, check in CHECKS.items()}


def compare(b):
    """What the search's setting and simple rules come to; the last can't be told from it."""
    metrics = {}
    for rule, kept, regret in (
        ("chosen", 0.8, None),
        ("fixed_fpir", 0.95, (0.05, 0.02, 0.08)),
        ("no_filter", 1.0, (0.0, -0.04, 0.04)),
    ):
        metrics[f"rule_kept.{rule}"] = MetricResult(value=kept, n=48, unit="share of samples", estimator="count")
        metrics[f"rule_utility.{rule}"] = metrics[f"rule_excess_risk.{rule}"] = MetricResult(
            value=0.31, interval=(0.23, 0.44), n=47, unit="area", estimator="bootstrap"
        )
        if regret:
            value, *interval = regret
            metrics[f"rule_regret.{rule}"] = MetricResult(
                value=value, interval=interval, confidence=0.975, n=47, unit="difference", estimator="bootstrap"
            )
    again = {"n": 47, "confidence": 0.975, "estimator": "bootstrap"}
    metrics["rule_utility.chosen_again"] = MetricResult(value=0.32, interval=(0.22, 0.43), unit="area", **again)
    metrics["rule_regret.chosen_again"] = MetricResult(value=-0.01, interval=(-0.05, 0.03), unit="difference", **again)
    b.artifact("simple_rules", files={"metrics.json": dump(metrics)}, inputs=["verdicts"])


def decide(b, verdict):
    """The decision, with the reason that made it and one that didn't."""
    caveats = [one.sentence for one in looser_budgets(b.runner.config.release.budgets)]
    reasons = [*dict.fromkeys([REASONS[verdict], REASONS["pass"]]), *caveats]
    checks = [check.model_dump(mode="json") for check in dict.fromkeys([CHECKS[verdict], CHECKS["pass"]])]
    decision = {"verdict": verdict, "reasons": reasons}
    cohort = b.runner.manifests["ingest"].facts
    roles = {role: {unit: cohort[unit][role] for unit in ("images", "patients")} for role in cohort["images"]}
    certificate = {
        "schema": SCHEMA, "decided": "2026-01-01", **decision, "cohort": roles, "roles_given": False,
        "samples": {"as asked for by default": b.samples},
        "settings": settings(b.runner.config.evidence, b.runner.config.ingest.prompts),
        "student": {
            "key": "0123456789abcdef", "digest": "d", "inputs": {}, "started_from": None, "touched_real_data": []
        },
        "filter": {"identity_threshold": THRESHOLD, "note": None}, "limits": "No formal guarantee.",
        "budgets": {}, "evaluations": 1, "decisions": 1, "evidence": {},
    }  # fmt: skip
    b.artifact(
        "decision",
        files={"verdict.json": decision | {"checks": checks, "caveats": caveats}, "certificate.json": certificate},
        inputs=["student", "verdicts"],
    )


def near_copy_arguments(samples, control):
    """What the rate of near-copies is computed from."""
    named = (samples, "structure_score"), (samples, "nearest_patient_id")
    others = (control, "structure_score"), (control, "query_patient_id")
    return [table[column].to_numpy() for table, column in (*named, *others)]


def dump(metrics):
    """Dump results as the stages do."""
    return {name: result.model_dump(mode="json") for name, result in metrics.items()}
