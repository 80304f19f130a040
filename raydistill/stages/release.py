"""Hold the evidence against the budgets, check the student's lineage, and decide. Refusing is a result."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from raydistill.core.config import Budgets, Config, EvidenceConfig, PromptConfig, ReleaseConfig
from raydistill.core.licence import read_licence
from raydistill.core.manifest import Manifest
from raydistill.core.section import Section
from raydistill.core.signing import read_key
from raydistill.diffusion.provenance import copied, drawn_from, private_files, weights_of
from raydistill.metrics.certificate import SCHEMA, Certificate
from raydistill.metrics.floors import short_of_asking, short_of_method
from raydistill.metrics.gate import (
    model_checks,
    prompt_checks,
    risk_checks,
    selftest_checks,
)
from raydistill.metrics.result import Check, MetricResult, decide
from raydistill.metrics.shortfalls import (
    looser_budgets,
    said_of_touched,
    short_of_absence,
    short_of_budgets,
    short_of_evidence,
    short_of_exchangeability,
    short_of_people,
    short_of_utility,
)
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.certifying import judged, roles, roles_given, settings

STUDENT_MAY_READ = {"student_latents", "teacher_samples", "more_samples", "verdicts"}


class ReleaseNodeConfig(Section):
    """What a release may cost, how the evidence for it was made, and who must share its prompts."""

    release: ReleaseConfig
    evidence: EvidenceConfig
    prompts: PromptConfig


class Release(Stage):
    """Inputs: `student`, `student_latents`, `teacher`, `teacher_latents`, `filter`, `student_filter`, and evaluations.

    Those are `real_evaluation`, `teacher_evaluation` and `student_evaluation`; and `cohort`, which says how many people
    there were. Output: `verdict.json` and `certificate.json`. Whether RUN/release is filled follows from the verdict.
    """

    version: ClassVar[int] = 18
    accepts_skipped: ClassVar[bool] = True
    config: ReleaseNodeConfig

    def check(self, config: Config) -> None:
        """Refuse a signing key or a licence that can't be read, before anything runs."""
        release = self.config.release
        if release.signing_key:
            read_key(release.signing_key)
        read_licence(release.licence, release.licence_text)

    def run(self, context: Context) -> Outcome:
        """Judge, certify, write."""
        skipped = [manifest.skipped for manifest in context.manifests.values() if manifest.skipped]
        checks = [] if skipped else self._checks(context)
        touched = self._real_data_touched(context)
        caveats = [] if skipped else self._caveats(touched)
        verdict, reasons = decide(checks, [] if skipped else self._short_of_evidence(context), caveats)
        if skipped:
            without = context.manifests["student"].skipped
            what = "There is no student to release" if without else "The student can't be judged"
            verdict, reasons = "fail", [f"{what}: {without or skipped[0]}."]
        elif touched and not self.config.release.allow_private_weights:
            verdict = "fail"
            reasons.insert(0, f"{said_of_touched(touched)}.")
        held = [check.model_dump(mode="json") for check in checks]
        looks = {
            "evaluations": len(context.inputs["student_evaluation"].siblings()),
            "decisions": len(context.out.siblings()),
        }
        said = {"verdict": verdict, "reasons": reasons, "caveats": caveats, "checks": held, **looks}
        context.out.write_json("verdict.json", said)
        context.out.write_json("certificate.json", self._certificate(context, verdict, reasons, touched, looks))
        return Outcome(counts={"checks": len(checks)}, facts={"verdict": verdict})

    def _checks(self, context: Context) -> list[Check]:
        """Hold every metric with a budget against it."""
        budgets: Budgets = self.config.release.budgets
        student = _results(context.inputs["student_evaluation"].read_json("metrics.json"))
        selftest = _results(context.inputs["filter"].read_json("metrics.json")["selftest"])
        return [
            *risk_checks(student, budgets),
            *prompt_checks(student, self.config.prompts.k),
            *model_checks(student, budgets),
            *selftest_checks(selftest, budgets),
        ]

    def _real_data_touched(self, context: Context) -> list[str]:
        """List the ways in which the student's weights depend on real images other than through kept samples."""
        student, latents = context.manifests["student"], context.manifests["student_latents"]
        read = {entry.node for manifest in (student, latents) for entry in manifest.inputs.values()}
        found = [f"its training read {node}" for node in sorted(read - STUDENT_MAY_READ)]
        if student.skipped or latents.skipped:
            return found
        for part, seen in latents.facts["private_start"].items():
            found.append(f"its starting {part} was trained on {', '.join(seen)}")
        teacher, origin = context.manifests["teacher"], context.manifests["teacher_latents"]
        places = {"start": "student_latents/initial", "model": "teacher/model", "origin": "teacher_latents/initial"}
        folders = {}
        for role, place in places.items():
            node, folder = place.split("/")
            folders[role] = context.inputs[node].keep_local(folder)
        shared = _shared_weights(latents.facts["started_from"]["sha256"], teacher, origin)
        drawn = [
            f"its starting {part} lies nearer to the teacher's than to where the teacher began"
            for part in drawn_from(**folders)
        ]
        private = weights_of(origin.facts["private_start"])
        same = [
            f"its starting {part} has the weights of the teacher's, which saw real data"
            for part in copied(folders["start"], folders["origin"], private)
        ]
        return found + shared + drawn + same

    def _caveats(self, touched: list[str]) -> list[str]:
        """List what the configuration allows beyond raydistill's own: a student that saw real data, looser budgets."""
        release = self.config.release
        accepted = touched and release.allow_private_weights
        return [
            *([f"{said_of_touched(touched)}; release.allow_private_weights accepts that."] if accepted else []),
            *(one.sentence for one in looser_budgets(release.budgets)),
        ]

    def _short_of_evidence(self, context: Context) -> list[str]:
        """List what no claim can be made without: people, an auditor that sees, something to lose, a filter."""
        patients = context.manifests["student_evaluation"].counts["evaluation_patients"]
        student = _results(context.inputs["student_evaluation"].read_json("metrics.json"))
        real = _results(context.inputs["real_evaluation"].read_json("metrics.json"))
        budgets, evidence = self.config.release.budgets, self.config.evidence
        found = short_of_method(evidence, self.config.prompts.k) + short_of_budgets(budgets)
        found += short_of_asking(student, evidence.attack, evidence.student_samples)
        found += short_of_people(roles(context))
        found += short_of_evidence(student, patients, budgets)
        found += short_of_exchangeability(student, budgets) + short_of_absence(student, budgets)
        found += short_of_utility(real, budgets)
        policy = context.manifests["filter"].facts["policy"]
        if not policy.get("is_feasible", True):
            found.append(f"No setting of the filter kept every bound of the search: {policy['broken']}.")
        return found

    def _certificate(
        self, context: Context, verdict: str, reasons: list[str], touched: list[str], looks: Mapping[str, int]
    ) -> dict[str, Any]:
        student = context.manifests["student"]
        evidence = {name: {"key": m.key, "digest": m.digest} for name, m in sorted(context.manifests.items())}
        certificate = {
            "schema": SCHEMA,
            "decided": datetime.now(UTC).date(),
            "verdict": verdict,
            "reasons": reasons,
            "student": {
                "key": student.key,
                "digest": student.digest,
                "inputs": {name: entry.model_dump() for name, entry in student.inputs.items()},
                "started_from": context.manifests["student_latents"].facts.get("started_from"),
                "touched_real_data": touched,
            },
            "cohort": roles(context),
            "roles_given": roles_given(context),
            "samples": judged(context),
            "filter": context.manifests["filter"].facts.get("policy"),
            "budgets": self.config.release.budgets.model_dump(),
            "settings": settings(self.config.evidence, self.config.prompts),
            **looks,
            "evidence": evidence,
            "limits": "No formal guarantee: the attacks that were run found what is stated, others may find more.",
        }
        return Certificate(**certificate).model_dump(mode="json", by_alias=True)


def _shared_weights(start: Mapping[str, str], teacher: Manifest, origin: Manifest) -> list[str]:
    """List the files that a student started from and that the teacher's training made, or that it had from real data.

    Args:
        start: path to SHA-256.
        teacher: of the trained model.
        origin: of what that training began with, and of its copy in `initial/`.
    """
    copies = {e.path.removeprefix("initial/"): e.sha256 for e in origin.files if e.path.startswith("initial/")}
    began = origin.facts["started_from"]["sha256"]
    parts = origin.facts["private_start"]
    private = private_files(began, parts) | private_files(copies, parts)
    public = {*began.values(), *copies.values()} - private.keys()
    made = {entry.sha256: entry.path for entry in teacher.files if entry.path.endswith(".safetensors")}
    theirs = {digest: path for digest, path in (made | private).items() if digest not in public}
    return [
        f"its starting {path} is {theirs[digest]} of the teacher"
        for path, digest in sorted(start.items())
        if digest in theirs
    ]


def _results(metrics: Mapping[str, Any]) -> dict[str, MetricResult]:
    return {name: MetricResult(**value) for name, value in metrics.items()}
