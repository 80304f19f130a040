"""Prompts are data too: from structured fields, in a closed public language, k-anonymous over patients.

A prompt is used as it is only if at least k train patients share it. Otherwise it is generalised step by step: without
the age, the sex, the view, then without one finding after the other, the rarest first. The end of every way is the
base prompt, which says nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pyarrow as pa

from raydistill.core.columns import REQUESTS
from raydistill.core.config import PromptConfig
from raydistill.data.vocabulary import BASE_PROMPT, SEXES, VIEWS, Fields, age_band, plain_words, template_texts

__all__ = ["FREQUENCIES", "Description", "PromptTable", "describe", "template_texts"]

OF_ONE_SAMPLE = ("sample_id", "seed", "guidance_scale", "num_inference_steps")
FREQUENCIES = pa.schema(
    [*(f for f in REQUESTS if f.name not in OF_ONE_SAMPLE), pa.field("count", pa.int64(), nullable=False)]
)
"""The joint frequencies from which requests are drawn: one row a prompt, `count` train images.

The fields are what the prompt says, no more: empty `labels` are "no finding", null ones are "not said"."""

SHARING = pa.schema([pa.field("prompt", pa.string(), nullable=False), pa.field("patients", pa.int64(), nullable=False)])
"""How many train patients share a prompt, one row a prompt. It tells more than a model needs to be asked."""

_SINGLE_FIELDS = ("view", "sex", "age_band")


class Description(NamedTuple):
    """What is known of one image before anything is generalised: fields, and free text already scrubbed."""

    fields: Fields
    text: str | None = None


class _Rank(NamedTuple):
    """How specific fields are; every step of generalisation lowers it."""

    findings: int
    view: bool
    sex: bool
    age: bool


@dataclass(frozen=True)
class PromptTable:
    """The prompts in use, by the train split.

    Args:
        texts: free texts that at least k train patients share, with the fields their images have in common.
        cells: fields that at least k train patients share.
        images_with: train images by finding word; decides which finding is the rarest.
        max_findings: findings that a prompt may hold.
        said: what each prompt in use says.
        counts: train images by prompt.
        patients: train patients by prompt: at least k, except of the base prompt.
    """

    texts: Mapping[str, Fields]
    cells: frozenset[Fields]
    images_with: Mapping[str, int]
    max_findings: int
    said: Mapping[str, Fields] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    patients: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def fit(
        cls, patient_ids: Sequence[str], descriptions: Sequence[Description], config: PromptConfig
    ) -> "PromptTable":
        """Find the prompts that at least k patients share.

        Args:
            patient_ids: patient of every train image.
            descriptions: the same images' descriptions; with the policy `template` their text isn't used.
            config: k, the policy and the most findings of a prompt.

        Returns:
            A table that doesn't depend on the order of the images.
        """
        images_with = Counter(label for described in descriptions for label in described.fields.labels or ())
        rows = list(zip(patient_ids, descriptions, strict=True))
        texts = _shared_texts(rows, config.k) if config.policy == "free_text" else {}
        rest = [(patient, described.fields) for patient, described in rows if described.text not in texts]
        table = cls(texts, _shared_cells(rest, images_with, config), images_with, config.max_findings)
        return table._with_use(rows)

    def _with_use(self, rows: Sequence[tuple[str, Description]]) -> "PromptTable":
        said: dict[str, Fields] = {}
        counts: Counter[str] = Counter()
        patients: dict[str, set[str]] = defaultdict(set)
        for patient, described in rows:
            prompt, fields = self._choose(described)
            said[prompt] = _common(said.get(prompt, fields), fields)
            counts[prompt] += 1
            patients[prompt].add(patient)
        return replace(self, said=said, counts=counts, patients={p: len(shared) for p, shared in patients.items()})

    def prompt_for(self, described: Description) -> str:
        """Return the most specific prompt in use that is true of an image, of whatever role."""
        return self._choose(described)[0]

    def _choose(self, described: Description) -> tuple[str, Fields]:
        if described.text is not None and described.text in self.texts:
            return described.text, self.texts[described.text]
        ways = _generalise(described.fields, self.images_with, self.max_findings)
        fields = next(fields for fields in ways if fields in self.cells)
        return fields.prompt(), fields

    def frequencies(self) -> pa.Table:
        """Return the joint frequencies of the train split, sorted by prompt (schema `FREQUENCIES`)."""
        rows = []
        for prompt, count in sorted(self.counts.items()):
            said = self.said[prompt]
            fields = {"labels": said.labels, "view": said.view, "sex": said.sex, "age_band": said.age_band}
            rows.append({"prompt": prompt, **fields, "count": count})
        return pa.Table.from_pylist(rows, schema=FREQUENCIES)

    def sharing(self) -> pa.Table:
        """Return how many train patients share each prompt, sorted by prompt (schema `SHARING`)."""
        return pa.Table.from_pylist([{"prompt": p, "patients": n} for p, n in sorted(self.patients.items())], SHARING)

    def reached_k(self) -> int | None:
        """Return the fewest patients that share a prompt other than the base prompt; None when there is no other."""
        return min((n for prompt, n in self.patients.items() if prompt != BASE_PROMPT), default=None)


def describe(
    labels: Sequence[str] | None,
    view: str | None,
    sex: str | None,
    age: float | None,
    *,
    age_band_years: int,
    text: str | None = None,
) -> Description:
    """Put a record's values into the words of the public language; what has no word there isn't said.

    Args:
        labels: finding words as `vocabulary.findings` returns them; None when nothing is known.
        view: as the source has it.
        sex: as the source has it.
        age: in years.
        age_band_years: width of a band.
        text: the record's free text, already scrubbed; only with the policy `free_text`.
    """
    fields = Fields(
        labels=None if labels is None else tuple(labels),
        view=VIEWS.get(plain_words(view or "")),
        sex=SEXES.get(plain_words(sex or "")),
        age_band=None if age is None else age_band(age, age_band_years),
    )
    return Description(fields, text or None)


def _generalise(fields: Fields, images_with: Mapping[str, int], max_findings: int) -> Iterator[Fields]:
    """Yield ever more general fields, from all that may be said to nothing."""
    by_rarity = sorted(fields.labels or (), key=lambda label: (-images_with.get(label, 0), label))
    kept = by_rarity[:max_findings]
    yield (fields := replace(fields, labels=None if fields.labels is None else tuple(sorted(kept))))
    for name in reversed(_SINGLE_FIELDS):
        if getattr(fields, name) is not None:
            yield (fields := replace(fields, **{name: None}))
    while len(kept) > 1:
        kept.pop()
        yield replace(fields, labels=tuple(sorted(kept)))
    yield Fields()


def _rank(fields: Fields) -> _Rank:
    # "No finding" says as much as one finding does.
    findings = 0 if fields.labels is None else max(1, len(fields.labels))
    return _Rank(findings, fields.view is not None, fields.sex is not None, fields.age_band is not None)


def _shared_cells(
    rows: Sequence[tuple[str, Fields]], images_with: Mapping[str, int], config: PromptConfig
) -> frozenset[Fields]:
    """Go from the most specific fields to the most general and pass on every patient of a cell with fewer than k.

    A step lowers the rank, so a cell has got all its patients before it is judged.
    """
    waiting: dict[_Rank, dict[Fields, list[tuple[str, Iterator[Fields]]]]] = defaultdict(lambda: defaultdict(list))

    def enter(patient: str, way: Iterator[Fields]) -> None:
        fields = next(way)
        waiting[_rank(fields)][fields].append((patient, way))

    for patient, fields in rows:
        enter(patient, _generalise(fields, images_with, config.max_findings))
    shared = {Fields()}
    while waiting:
        for cell, members in waiting.pop(max(waiting)).items():
            if cell == Fields() or len({patient for patient, _ in members}) >= config.k:
                shared.add(cell)
            else:
                for patient, way in members:
                    enter(patient, way)
    return frozenset(shared)


def _shared_texts(rows: Sequence[tuple[str, Description]], k: int) -> dict[str, Fields]:
    """Return the texts of at least k patients, each with the fields that all its images have in common."""
    patients: dict[str, set[str]] = defaultdict(set)
    common: dict[str, Fields] = {}
    for patient, (fields, text) in rows:
        if text is not None:
            patients[text].add(patient)
            common[text] = _common(common.get(text, fields), fields)
    return {text: fields for text, fields in common.items() if len(patients[text]) >= k}


def _common(a: Fields, b: Fields) -> Fields:
    """Return what is true of both."""
    labels = tuple(sorted({*a.labels} & {*b.labels})) if a.labels is not None and b.labels is not None else None
    view, sex, band = (getattr(a, name) if getattr(a, name) == getattr(b, name) else None for name in _SINGLE_FIELDS)
    return Fields(labels, view, sex, band)
