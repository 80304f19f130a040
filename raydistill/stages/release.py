"""Hold the evidence against the budgets, check the student's lineage, and decide. Refusing is a result."""

from typing import Any, ClassVar

from raydistill.core.config import Budgets, DiffusionConfig, ReleaseConfig, Section
from raydistill.metrics.result import Check, MetricResult, Verdict, judge
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.train_diffusion import trained_on

STUDENT_MAY_READ = {"teacher_samples", "verdicts"}


class ReleaseNodeConfig(Section):
    """The gate's settings, and where the student's weights started."""

    release: ReleaseConfig
    student: DiffusionConfig


class Release(Stage):
    """Inputs: `student`, `filter`, `student_filter`, `teacher_evaluation`, `student_evaluation`, `real_evaluation`.

    Output: `verdict.json` and `certificate.json`. Whether RUN/release is filled follows from the verdict.
    """

    version: ClassVar[int] = 1
    needs_ray: ClassVar[bool] = False
    config: ReleaseNodeConfig

    def run(self, context: Context) -> Outcome:
        """Judge, certify, write."""
        checks = self._checks(context)
        verdict, reasons = judge(checks)
        touched = self._real_data_touched(context)
        if touched and not self.config.release.allow_private_weights:
            verdict = "fail"
            reasons.insert(0, f"the student has touched real data: {'; '.join(touched)}")
        verdict, reasons = self._enough_patients(context, verdict, reasons)
        context.out.write_json("verdict.json", {"verdict": verdict, "reasons": reasons})
        context.out.write_json("certificate.json", self._certificate(context, verdict, reasons, touched))
        return Outcome(counts={"checks": len(checks)}, facts={"verdict": verdict})

    def _checks(self, context: Context) -> list[Check]:
        student = _metrics(context, "student_evaluation", "metrics.json")
        groups = context.inputs["filter"].read_json("metrics.json")
        selftest = {name: MetricResult(**value) for name, value in groups["selftest"].items()}
        limits: Budgets = self.config.release.budgets
        return [
            Check.of("student.excess_risk", student["excess_risk"], limits.max_excess_risk, "max"),
            Check.of("student.near_copy_rate", student["near_copy_rate"], limits.max_near_copy_rate, "max"),
            Check.of(
                "student.closer_to_train_share",
                student["closer_to_train_share"],
                limits.max_closer_to_train_share,
                "max",
            ),
            Check.of("student.membership_auc", student["membership_auc"], limits.max_membership_auc, "max"),
            Check.of("student.utility_loss", student["utility_loss"], limits.max_utility_loss, "max"),
            Check.of("selftest.sensitivity", selftest["sensitivity"], limits.min_sensitivity, "min"),
            Check.of("selftest.false_flag_rate", selftest["false_flag_rate"], limits.max_false_flag_rate, "max"),
        ]

    def _real_data_touched(self, context: Context) -> list[str]:
        """List the ways in which the student's weights depend on real images other than through kept samples."""
        read = {entry.node for entry in context.manifests["student"].inputs.values()}
        found = [f"its training read {node}" for node in sorted(read - STUDENT_MAY_READ)]
        started = trained_on(self.config.student.pretrained)
        return found + [f"its starting weights were trained on {node}" for node in started]

    def _enough_patients(self, context: Context, verdict: Verdict, reasons: list[str]) -> tuple[Verdict, list[str]]:
        patients = context.manifests["student_evaluation"].counts["evaluation_patients"]
        needed = self.config.release.budgets.min_evaluation_patients
        if patients >= needed:
            return verdict, reasons
        short = f"{patients} evaluation patients are too few for any claim; {needed} are needed"
        return ("fail" if verdict == "fail" else "insufficient_evidence"), [short, *reasons]

    def _certificate(self, context: Context, verdict: str, reasons: list[str], touched: list[str]) -> dict[str, Any]:
        student = context.manifests["student"]
        evidence = {name: {"key": m.key, "digest": m.digest} for name, m in sorted(context.manifests.items())}
        return {
            "schema": 1,
            "verdict": verdict,
            "reasons": reasons,
            "student": {
                "key": student.key,
                "digest": student.digest,
                "inputs": {name: entry.model_dump() for name, entry in student.inputs.items()},
                "started_from": student.facts["started_from"],
                "touched_real_data": touched,
            },
            "filter": context.manifests["filter"].facts["policy"],
            "budgets": self.config.release.budgets.model_dump(),
            "evidence": evidence,
            "limits": "No formal guarantee: the attacks that were run found what is stated, others may find more.",
        }


def _metrics(context: Context, name: str, file: str) -> dict[str, MetricResult]:
    return {key: MetricResult(**value) for key, value in context.inputs[name].read_json(file).items()}
