"""The figures of the page, read from the run; None for what isn't there."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raydistill.metrics.shortfalls import SMALLEST_PUBLIC_GROUP
from raydistill.report.evidence import METRIC_NODES, Evidence
from raydistill.report.figures import Figure, Point, Series
from raydistill.report.numbers import show, span
from raydistill.report.outside import small_roles
from raydistill.report.plots import bars, dots, path, ridges
from raydistill.report.plots import det as det_plot
from raydistill.report.words import STRANGERS, treatment

Metrics = Mapping[str, Mapping[str, Mapping[str, Any]]]

SYNTHETIC = ("teacher", "filtered", "student")
MODELS = ("teacher", "student")
COPIES_NEARLY_ALL = 0.9
CHANCE = 0.5
"""Membership AUC of an attack that finds nothing."""


def risk(evidence: Evidence, metrics: Metrics) -> Figure | None:
    """Re-identification rates beside the strangers' rate."""
    series = [
        Series(group, [_point(metrics, group, "reidentification_rate", f"{group} samples")]) for group in SYNTHETIC
    ]
    strangers = [_point(metrics, group, "control_rate", f"{group} samples") for group in SYNTHETIC]
    series = known([*series, Series(STRANGERS, strangers)])
    if not series or series[0].name == STRANGERS:
        return None
    names = ("reidentification_rate", "control_rate")
    sources = (evidence.source(group, name, None) for name in names for group in SYNTHETIC)
    return dots(
        "risk", "Images taken for a real patient",
        "Share of images that the auditor matches to a gallery patient, with its interval. The strangers' rate is the same "
        "share among real images of people who aren't in the gallery, as they are: what chance comes to. What lies right "
        "of it may be leak; see whether the intervals part, for while they overlap it may be chance as well. Of images that "
        "are more average than people less is to be expected: their excess risk is held against the adjusted control, "
        "which is smaller.",
        series, unit="share of images", percent=True,
    ).read_from(*sources)  # fmt: skip


def scores(evidence: Evidence, eye: str, column: str = "score", *, public: bool) -> Figure | None:
    """Distributions of the auditor's or the filter's scores; with `structure_score` of the near-copy measure."""
    least = SMALLEST_PUBLIC_GROUP if public else 1
    places = {
        "probe": ("teacher_matches", f"{eye}/probe"),
        "calibration": ("teacher_matches", f"{eye}/calibration"),
        "evaluation": ("teacher_matches", f"{eye}/evaluation"),
        "teacher samples": ("teacher_matches", f"{eye}/samples"),
        "student samples": ("student_matches", f"{eye}/samples"),
    }
    hidden = small_roles(evidence.artifacts) if public else set()
    tables = {label: evidence.table(*place, [column]) for label, place in places.items() if label not in hidden}
    values = {label: table[column].to_numpy() for label, table in tables.items() if table is not None and len(table)}
    if not values:
        return None
    name, heading, caption = SCORE_WORDS[eye, column]
    threshold, point = _threshold(evidence, eye, column)
    read = [evidence.path(*places[label]) for label in values]
    return ridges(name, heading, caption, values, threshold, least).read_from(*read, point)


SCORE_WORDS = {
    ("auditor", "score"): (
        "scores-auditor", "Scores in the auditor's eye",
        "How close images come to the gallery, seen by the network that judges. Probes are new images of gallery patients; "
        "calibration and evaluation are strangers. Samples should look like strangers.",
    ),
    ("filter", "score"): (
        "scores-filter", "Scores in the filter's eye",
        "The same seen by the network that filters. Samples from the threshold on are dropped.",
    ),
    ("filter", "structure_score"): (
        "scores-structure", "Structural scores",
        "How nearly the same picture an image is, whatever the person. Samples from the threshold on are dropped.",
    ),
}  # fmt: skip


def _threshold(evidence: Evidence, eye: str, column: str) -> tuple[dict[str, float], str | None]:
    """Return the line of a threshold, by name, and where it was read; neither while it isn't set."""
    if eye == "auditor":
        for group in ("student", "teacher"):
            node, file = METRIC_NODES[group], "operating_point.json"
            point = evidence.json(node, file)
            if point:
                return {"threshold": point["identity"]["threshold"]}, evidence.path(node, file)
        return {}, None
    policy = evidence.json("tune", "policy/policy.json")
    name = "identity_threshold" if column == "score" else "near_copy_threshold"
    return ({"threshold": policy[name]}, evidence.path("tune", "policy/policy.json")) if policy else ({}, None)


def det(evidence: Evidence, eye: str, *, public: bool) -> Figure | None:
    """The detection error trade-off of an eye on real images: probes against calibration patients.

    Its steps are single people, so none is public.
    """
    if public:
        return None
    columns = ["score", "nearest_patient_id", "query_patient_id"]
    places = [("teacher_matches", f"{eye}/{role}") for role in ("probe", "calibration")]
    probe, strangers = (evidence.table(*place, columns) for place in places)
    if not probe or not strangers:
        return None
    right = probe["nearest_patient_id"].to_numpy() == probe["query_patient_id"].to_numpy()
    known = np.where(right, probe["score"].to_numpy(), -np.inf)
    threshold, point = _threshold(evidence, eye, "score")
    return det_plot(
        f"det-{eye}", f"What a threshold costs in the {eye}'s eye",
        "Each point is a threshold: how many strangers it takes for a gallery patient (FPIR), and how many new images of "
        "gallery patients it misses (FNIR). No point further left than one calibration patient can be supported.",
        known, strangers["score"].to_numpy(), next(iter(threshold.values()), None),
    ).read_from(*(evidence.path(*place) for place in places), point)  # fmt: skip


def selftest(evidence: Evidence, metrics: Metrics) -> Figure | None:
    """Sensitivity and false flags by treatment."""
    results = metrics.get("selftest", {})
    names = {"sensitivity": "sensitivity", "false flags": "false_flag_rate"}
    labels = {name: "all" if "." not in name else treatment(name.split(".", 1)[1]) for name in results}
    series = [
        Series(shown, [_point(metrics, "selftest", n, labels[n]) for n in results if n.split(".")[0] == family])
        for shown, family in names.items()
    ]
    series = known(series)
    if not series:
        return None
    return dots(
        "selftest", "Does the filter see what it should?",
        "Near-copies of train images were planted: treated, or pushed part of the way through the teacher's noise and "
        "denoised. Sensitivity is the share it flags; false flags are the same treatment of strangers.",
        series, unit="share flagged", percent=True,
    ).read_from(evidence.path("selftest", "planted"), evidence.path("verdicts", "metrics.json"))  # fmt: skip


def memorisation(evidence: Evidence, metrics: Metrics) -> Figure | None:
    """Where teacher and student stand between having learnt nothing and copying everything."""
    epochs = {name: float(_facts(evidence, name).get("epochs", 0.0)) for name in MODELS}
    epochs = {name: seen for name, seen in epochs.items() if seen > 0}
    points = {name: _point(metrics, name, "reidentification_rate", name) for name in epochs}
    series = known([Series(name, [point]) for name, point in points.items()])
    if not series:
        return None
    strangers = _point(metrics, "teacher", "control_rate", STRANGERS)
    return path(
        "memorisation", "Where on the path to memorisation this run was",
        f"{regime(points.get('teacher'), strangers)} {known_by_heart(metrics.get('teacher', {}))}The longer a small set "
        "is trained on, the more of it is copied.",
        series, epochs, strangers.value,
    ).read_from(*(read for name in epochs for read in _epochs_and_rate(evidence, name)))  # fmt: skip


def _epochs_and_rate(evidence: Evidence, model: str) -> tuple[str | None, str | None]:
    key = evidence.artifacts.manifests[model].key
    return f"{model}/{key}/manifest.json", evidence.source(model, "reidentification_rate", None)


def regime(teacher: Point | None, strangers: Point) -> str:
    """Say how much the teacher copied, as far as this measure shows it."""
    if teacher is None or teacher.value is None or strangers.value is None:
        return "How much the teacher copied can't be said from this run."
    if teacher.value >= COPIES_NEARLY_ALL:
        return "The teacher copies nearly everything it was shown: little is left to train a student on."
    edge = strangers.high if strangers.high is not None else strangers.value
    if (teacher.low if teacher.low is not None else teacher.value) > edge:
        return "The teacher copies some of what it was shown: its samples match patients more often than strangers do."
    return "This measure doesn't show copying by the teacher: its rate can't be told from the strangers'."


def known_by_heart(teacher: Mapping[str, Mapping[str, Any]]) -> str:
    """Say that an attack finds the teacher's images, so that no sentence on copies stands alone; else nothing."""
    found = [teacher.get(name, {}) for name in ("membership_calibrated_auc", "membership_auc")]
    found = [result for result in found if result.get("interval") and result["interval"][0] > CHANCE]
    if not found:
        return ""
    auc, interval = show(found[0]["value"]), span(found[0]["interval"])
    return (
        "It knows its training images from others all the same: an attack on the teacher itself tells them apart "
        f"(membership AUC {auc}, {interval}; {CHANCE} is chance). "
    )


def timings(evidence: Evidence, nodes: Sequence[str]) -> Figure | None:
    """Seconds of every finished node."""
    manifests = evidence.artifacts.manifests
    ran = [name for name in nodes if name in manifests and not manifests[name].skipped]
    seconds = {name: manifests[name].seconds for name in ran}
    caption = "Wall-clock time of every stage when it last ran; cached stages show what they took then."
    figure = bars("timings", "Where the time went", caption, seconds) if seconds else None
    return figure and figure.read_from("<node>/<key>/manifest.json")


def _facts(evidence: Evidence, node: str) -> Mapping[str, Any]:
    manifest = evidence.artifacts.manifests.get(node)
    return manifest.facts if manifest else {}


def _point(metrics: Metrics, group: str, name: str, label: str) -> Point:
    result = metrics.get(group, {}).get(name, {})
    low, high = result.get("interval") or (None, None)
    return Point(label, result.get("value"), low, high, result.get("n"), why_none(result))


def why_none(result: Mapping[str, Any]) -> str | None:
    """Return the note of what has no value."""
    return result.get("note") if result.get("value") is None else None


def known(series: Sequence[Series]) -> list[Series]:
    """Leave out what was not measured, and everything where nothing has a value; a point without one keeps its note."""
    some = [Series(one.name, [p for p in one.points if p.value is not None or p.note]) for one in series]
    some = [one for one in some if one.points]
    return some if any(point.value is not None for one in some for point in one.points) else []
