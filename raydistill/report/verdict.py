"""The verdict in words: its banner, what a fail is about, and what may still be there after a pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raydistill.core.auditing import AuditedConfig
from raydistill.metrics.result import SIDES
from raydistill.metrics.shortfalls import Looser
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
"""Metrics of a section, or looser budgets, that a banner names; the page has all."""

ANYWAY = "The configuration says to release anyway (release.release_anyway), against this verdict."
ASKED = {"leak_rate": "as asked for by default", "attacked_leak_rate": "asked harder than by default"}
"""How images were asked for, by the metric that says how many of them show a patient."""
NO_STUDENT = "There is no student, so there is nothing to judge and nothing to release."


def banner(summary: Mapping[str, Any], held: Standing, *, has_student: bool = True) -> Banner:
    """Return a verdict's banner: of a fail it says what decided, of a pass what it allows and may still be there.

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
    looser = {one.sentence for one in held.looser}
    accepted = [caveat for caveat in held.caveats if caveat not in looser]
    said = [*_by_looser(held.looser), found.sentence, *accepted, remaining(summary["metrics"]["student"])]
    return replace(found, sentence=" ".join(said))


def _by_looser(looser: Sequence[Looser]) -> list[str]:
    """Say of how many budgets a pass is, in one sentence, that raydistill's own are stricter; name the loosest."""
    if not looser:
        return []
    said = [f"{one.name} {one.limit:g} (its own {one.own:g})" for one in looser]
    many = f"{len(said)} budget{'s' if len(said) > 1 else ''}"
    return [f"Pass, by {many} looser than raydistill's own: {_few(said)}."]


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
    for one in rows:
        hidden, unit = one.result["value"] is None, one.result["unit"]
        value = f" (its number is {NOT_SHOWN})" if hidden else f" {show(one.result['value'], unit)}"
        needed = "needed" if one.side == SIDES["min"] else "allowed"
        said.append(f"{one.title}{value}, {one.side} {show(one.budget, unit)} {needed}")
    return _few(said)


def _few(said: Sequence[str]) -> str:
    """Say the first of several, and how many more there are."""
    first, more = said[:MOST_NAMED], len(said) - MOST_NAMED
    return "; ".join([*first, f"and {more} more"] if more > 0 else first)


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


def worst_leak(student: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Return how the images were asked for of which most may show a patient, and that leak; None where none is told.

    Args:
        student: the metrics, as they may be told.
    """
    known = [(way, student[name]) for name, way in ASKED.items() if student.get(name, {}).get("interval")]
    return max(known, key=lambda asked: asked[1]["interval"][1], default=None)


def remaining(student: Mapping[str, Any]) -> str:
    """Say how many images may show a patient for all that is known: the upper end of the leak's interval.

    Args:
        student: the metrics, as they may be told.
    """
    found = worst_leak(student)
    if not found:
        return "How many of the student's images may still show a patient isn't said here."
    way, leak = found
    most, level = show(max(0.0, leak["interval"][1]), leak["unit"]), f"{100 * leak['confidence']:g}\N{NO-BREAK SPACE}%"
    return (
        f"What may still be there: up to {most} of the student's images may show a patient (the upper end of the "
        f"{level} interval of the corrected leak, {way}, before the filter, if leaked pictures are as recognisable as "
        "new real ones of the same people)."
    )
