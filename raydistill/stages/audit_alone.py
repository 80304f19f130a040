"""The audit of what somebody else made: the student's audit without a student, and a verdict that releases nothing."""

from functools import partial
from typing import Any, ClassVar

from raydistill.core.config import Budgets, EvaluateConfig, PromptConfig, SelfTestConfig
from raydistill.core.errors import NothingToDo
from raydistill.core.progress import Progress
from raydistill.core.section import Section
from raydistill.distributed.task import run_on_worker
from raydistill.metrics.floors import (
    short_of_asking,
    short_of_attack,
    short_of_audit,
    short_of_k,
    short_of_membership,
    short_of_plants,
)
from raydistill.metrics.gate import against, member_checks, prompt_checks, risk_checks
from raydistill.metrics.result import Check, MetricResult, decide
from raydistill.metrics.shortfalls import (
    looser_budgets,
    short_of_absence,
    short_of_budgets,
    short_of_evidence,
    short_of_exchangeability,
    short_of_people,
)
from raydistill.stages.attack import AttackNodeConfig
from raydistill.stages.audit import audit
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.certifying import roles
from raydistill.stages.images import read_made
from raydistill.stages.membership import attacked

NO_ROLES = (
    "The cohort doesn't say whom the model may have learned from: without a column `role` patients are dealt at "
    "random, and people it learned from may stand among those it is compared with."
)


class Audited(Stage):
    """Inputs as of `Evaluate`, but for those of utility and fidelity. Output: `metrics.json`, `tables/`."""

    version: ClassVar[int] = 3
    config: EvaluateConfig

    def run(self, context: Context) -> Outcome:
        """Audit the images, and attack the model where there is one, on a worker."""
        alone = Audited(self.node, self.config, {}, self.root_seed)
        return run_on_worker(partial(alone._measure, context.silent()), self.config.compute, context.progress)

    def _measure(self, context: Context, progress: Progress) -> Outcome:
        images = read_made(context.inputs, ["sample_id", "failure"])
        if not (images.num_rows - images["failure"].null_count) < images.num_rows:
            raise NothingToDo(f"{self.node} has no image to judge: none could be read")
        metrics = audit(context, self.config)
        progress(1, 2, "parts")
        if "model" in context.inputs:
            metrics |= attacked(context, self.config)
        progress(2, 2, "parts")
        dumped = {name: result.model_dump(mode="json") for name, result in metrics.items()}
        context.out.write_json("metrics.json", dumped)
        patients = context.inputs["evaluation"].read_table(columns=["patient_id"])["patient_id"]
        counts = {"images": images["failure"].null_count, "evaluation_patients": len(set(patients.to_pylist()))}
        return Outcome(counts=counts)


class AuditDecisionConfig(Section):
    """What is held against what, and how it was measured; `asked`: how a model was, where there is one."""

    budgets: Budgets
    evaluate: EvaluateConfig
    selftest: SelfTestConfig
    prompts: PromptConfig
    asked: AttackNodeConfig | None = None


class AuditDecision(Stage):
    """Inputs: `evaluation` (`Audited`), `cohort`. Output: `verdict.json`; nothing is certified or released."""

    version: ClassVar[int] = 2
    config: AuditDecisionConfig

    def run(self, context: Context) -> Outcome:
        """Judge as a release is, by the checks that need no training."""
        found = {
            name: MetricResult(**one) for name, one in context.inputs["evaluation"].read_json("metrics.json").items()
        }
        checks, evaluated = self._checks(found), context.manifests["evaluation"]
        patients = evaluated.counts["evaluation_patients"]
        caveats = [one.sentence for one in looser_budgets(self.config.budgets)]
        verdict, reasons = decide(checks, [*self._short(context, found, patients), *self._lenient(found)], caveats)
        said: dict[str, Any] = {
            "verdict": verdict,
            "reasons": reasons,
            "caveats": caveats,
            "checks": [check.model_dump(mode="json") for check in checks],
            "decisions": len(context.out.siblings()),
        }
        context.out.write_json("verdict.json", said)
        return Outcome(counts={"checks": len(checks)}, facts={"verdict": said["verdict"]})

    def _checks(self, found: dict[str, MetricResult]) -> list[Check]:
        budgets = self.config.budgets
        limits = {"membership_auc": budgets.max_membership_auc} if "membership_auc" in found else {}
        return [
            *risk_checks(found, budgets),
            *prompt_checks(found, self.config.prompts.k),
            *against("student", found, "max", limits),
            *member_checks(found, budgets),
        ]

    def _short(self, context: Context, found: dict[str, MetricResult], patients: int) -> list[str]:
        return [
            *([] if context.manifests["cohort"].facts.get("roles_given") else [NO_ROLES]),
            *short_of_evidence(found, patients, self.config.budgets),
            *short_of_people(roles(context)),
            *short_of_budgets(self.config.budgets),
            *short_of_exchangeability(found, self.config.budgets),
            *short_of_absence(found, self.config.budgets),
        ]

    def _lenient(self, found: dict[str, MetricResult]) -> list[str]:
        """List the settings that no claim can stand on, of those that an audit reads."""
        how, asked, k = self.config.evaluate, self.config.asked, self.config.prompts.k
        short = [*short_of_audit(how), *short_of_plants(self.config.selftest)]
        if prompt_checks(found, k):
            short += short_of_k(k)
        if asked:
            short += short_of_membership(how) + short_of_attack(asked.attack, asked.samples)
            short += short_of_asking(found, asked.attack, asked.samples)
        return short
