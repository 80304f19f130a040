"""Figures by group: by finding and by subgroup, how useful images are, how real they look, whom they show."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from raydistill.metrics.shortfalls import SMALLEST_PUBLIC_GROUP
from raydistill.report.evidence import METRIC_NODES, Evidence
from raydistill.report.figures import Figure, Point, Series
from raydistill.report.plots import dots
from raydistill.report.sections import MODELS, SYNTHETIC, known, why_none
from raydistill.report.words import plain

SETS = ("real", *SYNTHETIC)
LOOKS_REAL = "kernel_distance"
"""Of the measures of fidelity the one that few images don't bias."""

COLUMNS = ["name", "value", "low", "high", "n", "note", "group_size"]


def by_finding(evidence: Evidence, *, public: bool) -> Figure | None:
    """Utility of real, teacher, filtered and student images, finding by finding."""
    return _drawn(
        evidence, "tables/by_finding.parquet", SETS, plain, public,
        name="findings", title="What a classifier learns from the images",
        caption="AUROC on real evaluation images of a classifier trained on each set with the same budget. 0.5 is "
        "guessing.",
        unit="AUROC", lines={"guessing": 0.5},
    )  # fmt: skip


def utility_by_subgroup(evidence: Evidence, *, public: bool) -> Figure | None:
    """Utility for real people of each sex, view and age."""
    return _drawn(
        evidence, "tables/utility_by_group.parquet", SETS, _subgroup, public,
        name="utility_groups", title="For whom it is learned",
        caption="The same classifiers on real evaluation images of each subgroup, mean AUROC over findings. Each "
        "interval stands alone: with many subgroups some look bad by chance.",
        unit="AUROC", lines={"guessing": 0.5},
    )  # fmt: skip


def fidelity_by_finding(evidence: Evidence, *, public: bool) -> Figure | None:
    """Kernel distance to real images, finding by finding."""
    return _drawn(
        evidence, "tables/fidelity_by_finding.parquet", SETS, _finding, public,
        name="fidelity_findings", title="How real each finding looks",
        caption="Kernel distance between images with a finding and real evaluation images that have it, on public "
        "features. 0 is no difference; what real images of other patients reach is in the row of the real ones.",
        unit="kernel distance", wanted=f": {LOOKS_REAL}",
    )  # fmt: skip


def subgroups(evidence: Evidence, *, public: bool) -> Figure | None:
    """Re-identification rate by what was asked of the model."""
    return _drawn(
        evidence, "tables/subgroups.parquet", MODELS, _subgroup, public,
        name="subgroups", title="Risk by subgroup",
        caption="Share of images taken for a gallery patient, by what was asked for. Each interval stands alone: with "
        "many subgroups some look bad by chance.",
        unit="share of images", percent=True,
    )  # fmt: skip


def _drawn(
    evidence: Evidence,
    place: str,
    sets: Sequence[str],
    words: Callable[[str], str],
    public: bool,
    *,
    wanted: str = "",
    name: str,
    title: str,
    caption: str,
    **how: Any,
) -> Figure | None:
    """Draw a table of results of several sets of images: the rows whose names end as wanted."""
    rows = {group: _rows(evidence, group, place, words, wanted, public) for group in sets}
    series = known([Series(group, points) for group, points in rows.items()])
    if not series:
        return None
    sources = (evidence.path(METRIC_NODES[one.name], place) for one in series)
    return dots(name, title, caption, series, **how).read_from(*sources)


def _rows(
    evidence: Evidence, group: str, place: str, words: Callable[[str], str], wanted: str, public: bool
) -> list[Point]:
    """Read a table of results; outside the house only the groups that are large enough."""
    table = evidence.table(METRIC_NODES[group], place, COLUMNS)
    rows = [row for row in (table.to_pylist() if table is not None else []) if row["name"].endswith(wanted)]
    rows = [row for row in rows if not public or _size(row) >= SMALLEST_PUBLIC_GROUP]
    return [Point(words(r["name"]), r["value"], r["low"], r["high"], r["n"], why_none(r)) for r in rows]


def _size(row: Mapping[str, Any]) -> int:
    """Return how many real patients or images a row is of; where that isn't said, its n."""
    return int(row["n"] if row.get("group_size") is None else row["group_size"])


def _subgroup(name: str) -> str:
    attribute, _, value = name.partition("=")
    return f"{plain(attribute)}: {plain(value)}"


def _finding(name: str) -> str:
    return plain(name.partition(":")[0])
