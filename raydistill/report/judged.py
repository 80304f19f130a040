"""What was held against a budget, sorted by how it ended, and what decided without one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raydistill.metrics.result import SIDES, Check
from raydistill.metrics.shortfalls import Looser, looser_budgets
from raydistill.report.evidence import Evidence
from raydistill.report.outside import WITHHELD, is_hidden, without_count
from raydistill.report.words import title

OUTCOMES = {
    "fail": "break their budget",
    "proven": "fail their test of proof: that they are too high is proven",
    "insufficient_evidence": "are too uncertain to tell",
    "unsettled": "pass their test of proof: that they are too high is neither proven nor ruled out",
    "pass": "keep their budget",
}
"""What metrics with a budget do, by how that ends."""

BROKEN = ("fail", "proven")
"""Those of the outcomes that fail a run."""

JUDGES = {"selftest": "filter"}
"""Whom a group of metrics speaks of, where that isn't its name."""


@dataclass(frozen=True)
class Judged:
    """One metric with a budget, in words: the whole sentence; whose, what, and the value that was held against it."""

    sentence: str
    group: str
    title: str
    meaning: str
    section: str
    result: Mapping[str, Any]
    budget: float
    side: str


@dataclass(frozen=True)
class Standing:
    """All that a verdict rests on.

    Args:
        checks: what was held against a budget, by how it ended, what decides first.
        alone: reasons beside the checks that decided, or all of them where there is no check.
        short: of the other reasons those that no check is: what any claim needs and hasn't.
        caveats: what decided nothing and must be read with the verdict; looser budgets among it.
        looser: budgets that allow more than raydistill's own, the loosest first.
    """

    checks: Mapping[str, list[Judged]]
    alone: list[str]
    short: list[str]
    caveats: list[str] = field(default_factory=list)
    looser: list[Looser] = field(default_factory=list)

    @property
    def broken(self) -> list[Judged]:
        """Return the checks that fail a run."""
        return [one for outcome in BROKEN for one in self.checks.get(outcome, ())]

    @property
    def total(self) -> int:
        """Return how many checks there are, what any claim needs counted in."""
        return sum(map(len, self.checks.values())) + len(self.short)

    @property
    def undecided(self) -> int:
        """Return how many of them lack the evidence to tell."""
        return len(self.checks.get("insufficient_evidence", ())) + len(self.short)

    @property
    def spoken(self) -> set[str]:
        """Return the sentences that are checks."""
        return {one.sentence for rows in self.checks.values() for one in rows}


def standing(evidence: Evidence, summary: Mapping[str, Any]) -> Standing:
    """Sort a verdict's checks and reasons.

    Args:
        evidence: of the run.
        summary: the content of summary.json, as it may be told.
    """
    reasons = list(summary["reasons"])
    checks = {} if reasons == [WITHHELD] else _checks(evidence, summary["metrics"])
    spoken = Standing(checks, [], []).spoken
    caveats = list(evidence.decided().get("caveats", ()))
    without = [reason for reason in reasons if reason not in spoken and reason not in caveats]
    # Reasons begin with what decided: in a failed run with checks that is a check, or one sentence before all of them.
    decisive = len(without) if not checks else int(summary["verdict"] == "fail" and without[:1] == reasons[:1])
    looser = looser_budgets(evidence.artifacts.config.release.budgets)
    return Standing(checks, without[:decisive], without[decisive:], caveats, looser)


def _checks(evidence: Evidence, metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Judged]]:
    found: dict[str, list[Judged]] = {name: [] for name in OUTCOMES}
    for one in evidence.decided().get("checks", ()):
        check, (group, _, name) = Check(**one), one["metric"].partition(".")
        result, words = metrics.get(group, {}).get(name), title(name)
        if result is not None:
            sentence = without_count(check, result) if is_hidden(result) else check.reason
            said = (sentence, JUDGES.get(group, group), words.name, words.meaning, words.section)
            found[_ending(check)].append(Judged(*said, result, check.budget, SIDES[check.kind]))
    return {name: rows for name, rows in found.items() if rows}


def _ending(check: Check) -> str:
    """Return under which of `OUTCOMES` a check is listed."""
    if check.kind == "unproven" and check.outcome == "fail":
        return "proven"
    return "unsettled" if check.is_unsettled else check.outcome
