"""What the prompts of a release say of patients: who shares them, what the scrubber would have taken, who is linked."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from raydistill.data.scrub import scrub
from raydistill.data.vocabulary import BASE_PROMPT
from raydistill.metrics.intervals import paired_difference
from raydistill.metrics.result import MetricResult, insufficient

RARE_SHARE = 0.1
"""An attribute that fewer patients have is rare."""

FEWEST_SAMPLES = 20
"""Samples that ask for something rare; of fewer nothing is said."""

Attributes = frozenset[str]


def prompt_k(
    asked: Mapping[str, Attributes],
    train: Mapping[str, int],
    people: Mapping[str, Collection[Attributes]],
    confidence: float,
) -> MetricResult:
    """Return the fewest train patients whom a prompt of the release fits: its k-anonymity, as measured.

    A prompt of train records fits those who share it. Any other fits those of whom one record has all that it asks for;
    one that fits nobody singles out nobody. What a prompt asks for in words alone nobody can count.

    Args:
        asked: each distinct prompt, and what it asks for.
        train: train patients by the prompt of their records.
        people: by train patient, what each of their records says.
        confidence: for the record; a count of what is there has no interval.

    Returns:
        The count. Without a value where prompts can't be read, whose number is `n` then, or, with an `n` of 0, where
        none says anything of a train patient.

    Source: Sweeney 2002, k-anonymity, IJUFKS 10:557.
    """
    unit, distinct = "train patients whom the rarest prompt fits", asked.keys() - {BASE_PROMPT}
    foreign = {prompt: asked[prompt] for prompt in distinct if prompt not in train}
    fitted = [
        sum(any(wanted <= record for record in own) for own in people.values()) for wanted in foreign.values() if wanted
    ]
    counts = sorted([train[prompt] for prompt in distinct if prompt in train] + [count for count in fitted if count])
    unread = sum(not wanted for wanted in foreign.values())
    if unread:
        why = f"{unread} of {len(distinct)} prompts can't be read: their table has no structured fields for them"
        return insufficient(why, n=unread, unit=unit, confidence=confidence)
    if not counts:
        return insufficient("no prompt says anything of a train patient", n=0, unit=unit, confidence=confidence)
    return MetricResult(
        value=counts[0],
        interval=(counts[0], counts[0]),
        confidence=confidence,
        n=len(distinct),
        unit=unit,
        estimator="minimum over the prompts of all samples but the one that says nothing; a count, not an estimate",
        reference="Sweeney 2002",
        note=f"{len(distinct)} prompts, {len(foreign)} not of train records, of which {fitted.count(0)} fit nobody; "
        f"{counts.count(counts[0])} as rare as this",
    )


def marked_prompts(asked: Sequence[str], confidence: float) -> MetricResult:
    """Return the share of prompts in which the scrubber finds a date, a name, an id or a de-identification mark.

    Args:
        asked: the prompt of each sample.
        confidence: for the record.

    Source: prompts with traces of de-identification are the most memorised, The Devil is in the Prompts, arXiv
    2502.07516.
    """
    distinct, unit = sorted(set(asked)), "share of prompts"
    if not distinct:
        return insufficient("nothing was asked", n=0, unit=unit, confidence=confidence)
    found = [removed for prompt in distinct if (removed := scrub(prompt)[1])]
    kinds = sorted({kind for removed in found for kind in removed})
    share = len(found) / len(distinct)
    return MetricResult(
        value=share,
        interval=(share, share),
        confidence=confidence,
        n=len(distinct),
        unit=unit,
        estimator="count over the prompts of all samples, not an estimate",
        reference="arXiv 2502.07516",
        note=f"found: {', '.join(kinds)}" if kinds else "nothing that the scrubber knows",
    )


def rare_attributes(patients: Mapping[str, Attributes]) -> Attributes:
    """Return the attributes that fewer than a tenth of patients have.

    Args:
        patients: what is known of each, such as `finding=mass`.
    """
    having = Counter(name for own in patients.values() for name in own)
    return frozenset(name for name, count in having.items() if count < RARE_SHARE * len(patients))


def _share(wanted: Attributes, people: Mapping[str, Attributes]) -> float:
    return sum(bool(wanted & own) for own in people.values()) / len(people)


def prompt_linkage(
    asked: Sequence[Attributes],
    nearest: Sequence[Sequence[str]],
    unseen: Sequence[Sequence[str]],
    patients: Mapping[str, Attributes],
    others: Mapping[str, Attributes],
    confidence: float,
    clusters: tuple[Sequence[str], Sequence[str]] | None = None,
) -> MetricResult:
    """Ask whether the patient whom a sample resembles has the rare attribute of its prompt, more often than chance.

    A sample that was asked for a rare finding shows it, so it resembles people who have it, in either gallery. Only
    what the train gallery has more of than an equally made one of strangers points at the patients behind the prompts.

    Args:
        asked: what each sample was asked for.
        nearest: of each part of the train gallery the patient whom it resembles most.
        unseen: the same of an unseen gallery, its parts made as those.
        patients: what is known of train patients.
        others: what is known of those of the unseen gallery.
        confidence: two-sided confidence, in (0, 1).
        clusters: whom each sample resembles most of the whole train gallery, and of the unseen one; of the first parts
            without it.

    Returns:
        The difference of the two shares, the mean over the parts, among samples that were asked for something rare; 0
        is chance.

    Source: linkage beyond a control, Giomi et al. 2023, PoPETs 2023(2):312; interval as in `paired_difference`.
    """
    rare, unit = rare_attributes({**patients, **others}), "difference of shares"
    wanted = [one & rare for one in asked]
    rows = [row for row, one in enumerate(wanted) if one]
    sides = clusters or tuple([own[0] for own in side] for side in (nearest, unseen))
    people = {sides[0][row] for row in rows}
    if len(rows) < FEWEST_SAMPLES or len(people) < 2:
        why = f"{len(rows)} samples were asked for something that under {RARE_SHARE:.0%} of patients have"
        return insufficient(f"{why}; {FEWEST_SAMPLES} are needed", n=len(rows), unit=unit, confidence=confidence)
    first = np.array([np.mean([bool(wanted[row] & patients[who]) for who in nearest[row]]) for row in rows])
    second = np.array([np.mean([bool(wanted[row] & others[who]) for who in unseen[row]]) for row in rows])
    # What is asked for is what several train patients have, so train patients have it a little more often by choice.
    chance = np.mean([_share(wanted[row], patients) - _share(wanted[row], others) for row in rows])
    fewer = min(([side[row] for row in rows] for side in sides), key=lambda ids: len(set(ids)))
    value, low, high = (float(bound - chance) for bound in paired_difference(first, second, fewer, confidence))
    return MetricResult(
        value=value,
        interval=(low, high),
        confidence=confidence,
        n=len(rows),
        unit=unit,
        estimator="paired difference to an equally made unseen gallery, less that of the galleries' people; MOVER on "
        "limits clustered by the patients of the side with fewer",
        control=float(second.mean()),
        baseline=0.0,
        reference="Giomi et al. 2023",
        note=f"train {first.mean():.3f}, unseen {second.mean():.3f}; {len(rare)} rare attributes",
    )
