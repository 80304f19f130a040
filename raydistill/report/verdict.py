"""The verdict in words: its banner, what may still be there after a pass, and how checks end."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from raydistill.core.auditing import AuditedConfig
from raydistill.report.numbers import show


@dataclass(frozen=True)
class Banner:
    """A verdict for people: a word, a sign that needs no colour, and what it means in plain sentences."""

    word: str
    sign: str
    sentence: str


BANNERS = {
    "pass": Banner(
        "Pass",
        "✓",
        "Every risk with a budget keeps it with its whole interval, but for those that only a proof can break: of "
        "these none is proven. That is so against the attacks that were run; the bundle may leave the house under the "
        "limits below.",
    ),
    "fail": Banner(
        "Fail",
        "✕",
        "What stands first below decided: neither this student nor its images should leave the house.",
    ),
    "insufficient_evidence": Banner(
        "Insufficient evidence",
        "?",
        "The data can't settle the question: an interval is too wide, or there are too few patients for any claim. "
        "That isn't a pass, and nothing should leave the house on the strength of it.",
    ),
    None: Banner("Not decided", "…", "What is known so far stands below."),
}

OUTCOMES = {
    "fail": "break their budget",
    "proven": "fail their test of proof: that they are too high is proven",
    "insufficient_evidence": "are too uncertain to tell",
    "unsettled": "pass their test of proof: that they are too high is neither proven nor ruled out",
    "pass": "keep their budget",
}
"""What metrics with a budget do, by how that ends."""

ANYWAY = "The configuration says to release anyway (release.release_anyway), against this verdict."
NO_STUDENT = "There is no student, so there is nothing to judge and nothing to release."


def banner(summary: Mapping[str, Any], *, has_student: bool = True) -> Banner:
    """Return a verdict's banner; that of a pass also says what may still be there.

    Args:
        summary: the content of summary.json, as it may be told.
        has_student: whether there is one to judge.
    """
    found = BANNERS[summary["verdict"]]
    if not has_student:
        return replace(found, sentence=NO_STUDENT)
    if summary["verdict"] != "pass":
        return found
    return replace(found, sentence=f"{found.sentence} {remaining(summary['metrics']['student'].get('leak_rate'))}")


def about_audited(audited: AuditedConfig | None) -> str:
    """Say what the page's student is, where it is what somebody else made; else nothing."""
    if audited is None:
        return ""
    what = "images" if audited.images else "a model"
    return (
        f"This is an audit of {what} that somebody else made: where the page speaks of a student, it means that. "
        "Nothing was trained, and nothing is released; membership beside a shadow, utility and the filter's self-test, "
        "which take training, weren't measured."
    )


def remaining(leak: Mapping[str, Any] | None) -> str:
    """Say how many images may show a patient for all that is known: the upper end of the leak's interval."""
    if not leak or not leak["interval"]:
        return "How many of the student's images may still show a patient isn't said here."
    most, level = show(max(0.0, leak["interval"][1]), leak["unit"]), f"{100 * leak['confidence']:g}\N{NO-BREAK SPACE}%"
    return (
        f"What may still be there: up to {most} of the student's images may show a patient (the upper end of the "
        f"{level} interval of the corrected leak, as asked for by default, before the filter)."
    )
