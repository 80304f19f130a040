"""The verdict in words: its banner, what a fail is about, and what may still be there after a pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raydistill.core.auditing import AuditedConfig
from raydistill.metrics.result import SIDES
from raydistill.report.judged import Judged, Standing
from raydistill.report.numbers import NOT_SHOWN, show
from raydistill.report.outside import WITHHELD
from raydistill.report.words import FILTER, PRIVACY, UTILITY


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
        "Neither this student nor its images should leave the house.",
    ),
    "insufficient_evidence": Banner(
        "Insufficient evidence",
        "?",
        "The data can't settle the question: an interval is too wide, or there are too few patients for any claim. "
        "That isn't a pass, and nothing should leave the house on the strength of it.",
    ),
    None: Banner("Not decided", "…", "What is known so far stands below."),
}

TOO_MUCH = {
    PRIVACY: "The risk to patients is too high",
    FILTER: "The filter fails its self-test",
    UTILITY: "The student's images teach too little",
}
"""What broken budgets mean, by the section of their metrics; privacy first."""

MOST_NAMED = 3
"""Metrics of a section that a banner names; the tables have all."""

ANYWAY = "The configuration says to release anyway (release.release_anyway), against this verdict."
NO_STUDENT = "There is no student, so there is nothing to judge and nothing to release."


def banner(summary: Mapping[str, Any], held: Standing, *, has_student: bool = True) -> Banner:
    """Return a verdict's banner; that of a fail says what decided, that of a pass what may still be there.

    Args:
        summary: the content of summary.json, as it may be told.
        held: what the verdict rests on.
        has_student: whether there is one to judge.
    """
    found = BANNERS[summary["verdict"]]
    if not has_student:
        return replace(found, sentence=NO_STUDENT)
    if summary["verdict"] == "fail":
        return replace(found, sentence=" ".join([*_why(held), found.sentence]))
    if summary["verdict"] != "pass":
        return found
    return replace(found, sentence=f"{found.sentence} {remaining(summary['metrics']['student'].get('leak_rate'))}")


def _why(held: Standing) -> list[str]:
    """Say what failed a run, of what kind it is, and how much nobody knows."""
    said = [f"What decided is {reason}." if reason == WITHHELD else reason for reason in held.alone[:1]]
    sections = {section: [one for one in held.broken if one.section == section] for section in TOO_MUCH}
    others = [one for one in held.broken if one.section not in TOO_MUCH]
    kinds = [*((TOO_MUCH[section], rows) for section, rows in sections.items()), ("A budget is broken", others)]
    said += [f"{kind}: {_named(rows)}." for kind, rows in kinds if rows]
    told = f"{held.undecided} of {held.total} checks lack the evidence to tell" if held.undecided else ""
    # What the filter misses and what the student has touched are about privacy, too.
    if held.broken and not (held.alone or sections[PRIVACY] or sections[FILTER]):
        told = f"No privacy budget is proven broken{'; ' if told else ''}{told}"
    return [*said, f"{told}."] if told else said


def _named(rows: Sequence[Judged]) -> str:
    said = []
    for one in rows[:MOST_NAMED]:
        hidden, unit = one.result["value"] is None, one.result["unit"]
        value = f" (its number is {NOT_SHOWN})" if hidden else f" {show(one.result['value'], unit)}"
        needed = "needed" if one.side == SIDES["min"] else "allowed"
        said.append(f"{one.title}{value}, {one.side} {show(one.budget, unit)} {needed}")
    more = len(rows) - len(said)
    return "; ".join([*said, f"and {more} more"] if more else said)


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
