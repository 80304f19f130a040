"""What an audit holds every set of samples against: matches of real people, and the points that these set."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raydistill.core.config import EvaluateConfig
from raydistill.core.store import Store
from raydistill.matching.calibration import OperatingPoint, calibrate, certain_threshold
from raydistill.metrics import identification
from raydistill.metrics.filtering import GENERATED
from raydistill.metrics.intervals import clustered_rate, korn_graubard, rate_result
from raydistill.metrics.leak import UNIT, leak_rate
from raydistill.metrics.likeness import Likeness
from raydistill.metrics.near_copies import certain_rates, near_copy_rates
from raydistill.metrics.patients import hits_by_patient, patients_hit
from raydistill.metrics.result import MetricResult, insufficient
from raydistill.stages.images import at_most

Metrics = dict[str, MetricResult]

CONTROL_SEED = 0
"""Of the draw of control images: every set of samples, in every run on a cohort, has the same."""


@dataclass(frozen=True)
class Auditor:
    """What one audit holds every set of samples against.

    Attributes:
        control: matches of evaluation images, no more of a patient than train has of one; all by the auditor.
        probe: matches of withheld images of train patients.
        strangers: matches of calibration images.
        identity: the point on `score`.
        structure: the point on `structure_score`.
        people: patient ids of the gallery and of the unseen one, one an image.
        owners: patient by image id of the gallery.
        confidence: of the intervals.
    """

    control: pa.Table
    probe: pa.Table
    strangers: pa.Table
    identity: OperatingPoint
    structure: OperatingPoint
    people: tuple[pa.ChunkedArray, pa.ChunkedArray]
    owners: Mapping[str, str]
    confidence: float

    @classmethod
    def of(cls, inputs: Mapping[str, Store], how: EvaluateConfig) -> "Auditor":
        """Read the matches of real images and set the points; inputs `matches`, `train`, `evaluation`."""
        store = inputs["matches"]
        strangers, control, probe = ((store / role).read_table() for role in ("calibration", "evaluation", "probe"))
        train, unseen = (inputs[r].read_table(columns=["image_id", "patient_id"]) for r in ("train", "evaluation"))
        most = max(Counter(train["patient_id"].to_pylist()).values(), default=0)
        return cls(
            # Of somebody with fifty images all but a few say nothing new, and train is bounded too (decision 24).
            control=at_most(control, most, CONTROL_SEED, "query_patient_id"),
            probe=probe,
            strangers=strangers,
            identity=_point(strangers, "score", how.audit_fpir, how.confidence),
            structure=_point(strangers, "structure_score", how.audit_near_copy_fpir, how.confidence),
            people=(train["patient_id"], unseen["patient_id"]),
            owners=dict(zip(train["image_id"].to_pylist(), train["patient_id"].to_pylist(), strict=True)),
            confidence=how.confidence,
        )

    def certain(self, column: str, samples: int) -> float:
        """Return which `score` certainly shows somebody, or `structure_score` a copy, among so many samples."""
        strangers = self.strangers
        return certain_threshold(numbers(strangers, column), strangers["query_patient_id"].to_pylist(), samples)

    def rates(self, samples: pa.Table) -> Metrics:
        """Measure how often samples, columns.MATCHES, are taken for somebody, and what of it is beyond chance."""
        return self._rates(samples, self._alike(samples))

    def _rates(self, samples: pa.Table, alike: Likeness | None) -> Metrics:
        return identification.rates(
            numbers(samples, "score"),
            numbers(samples, "nearest_patient_id"),
            numbers(self.control, "score"),
            numbers(self.control, "query_patient_id"),
            self.identity.threshold,
            self.confidence,
            alike,
        )

    def risk(self, samples: pa.Table) -> Metrics:
        """Measure what depends on samples, columns.MATCHES."""
        scores = numbers(samples, "score")
        structures, unseen = numbers(samples, "structure_score"), numbers(samples, "unseen_structure_score")
        controls, whose = numbers(self.control, "score"), numbers(self.control, "query_patient_id")
        threshold, how = self.identity.threshold, self.confidence
        alike = self._alike(samples)
        metrics = self._rates(samples, alike) | {"unseen_rate": self._taken_for_unseen(samples, alike)}
        metrics |= identification.similarities(scores, controls, how)
        metrics["leak_rate"] = self._leaked(samples, alike)
        copied = numbers(self.control, "structure_score"), whose
        seen_as = "unseen_structure_score", self.structure.threshold
        by_structure = _likeness_of(samples, self.strangers, *seen_as, self.confidence)
        # One picture that is copied again and again is one piece of evidence, whomever the network takes it for.
        whom = np.array([self.owners[name] for name in samples["structure_image_id"].to_pylist()], dtype=str)
        metrics |= near_copy_rates(structures, whom, *copied, self.structure.threshold, how, by_structure)
        bounded = f"{len(controls)} of {len(self.people[1])} evaluation images: of nobody more than train has of one"
        for name, column, point in (
            ("control_rate", "score", self.identity),
            ("near_copy_control_rate", "structure_score", self.structure),
        ):
            expected = metrics[name].model_copy(update={"baseline": self._expected(column, point)})
            metrics[name] = expected.with_note(bounded) if len(controls) < len(self.people[1]) else expected
        sizes = len(self.people[0]), len(self.people[1])
        copies, people = (self.certain(column, len(samples)) for column in ("structure_score", "score"))
        metrics |= certain_rates("copied", structures, unseen, copies, sizes, how)
        metrics |= certain_rates("identified", scores, numbers(samples, "unseen_score"), people, sizes, how)
        metrics |= _train_or_unseen(samples, self.strangers, threshold, how)
        size = min(len(ids.unique()) for ids in self.people)
        return metrics | _patients_hit(samples, threshold, size, how)

    def _expected(self, column: str, point: OperatingPoint) -> float:
        """Return the largest share of strangers that a point may flag: as calibration people bear out, or as asked."""
        flagged = numbers(self.strangers, column) >= point.threshold
        borne = korn_graubard(flagged, numbers(self.strangers, "query_patient_id"), self.confidence).high
        return max(borne, point.target_fpir, point.supported_fpir)

    def sight(self, planted: pa.Table, samples: int) -> Metrics:
        """Measure what the audit finds of copies whose truth is known: the self-test's planted train images.

        Args:
            planted: the self-test's `PLANTED`.
            samples: among which a certain one would have to be found.
        """
        copies = planted.filter((pc.field("source_role") == "train") & pc.field("is_copy"))
        structures, scores = numbers(copies, "structure_score"), numbers(copies, "auditor_score")
        by_model = pc.starts_with(copies["treatment"], GENERATED).to_numpy()
        found = (scores >= self.identity.threshold) | (structures >= self.structure.threshold)
        certain = structures >= self.certain("structure_score", samples)
        certain |= scores >= self.certain("score", samples)
        asked = {
            "auditor_sensitivity": (found, ~by_model),
            "auditor_sensitivity.generator": (found, by_model),
            "certain_sensitivity": (certain, ~by_model),
        }
        patients, unit = numbers(copies, "patient_id"), "share of planted near-copies"
        return {
            name: clustered_rate(hits[rows], patients[rows], self.confidence, unit=unit)
            for name, (hits, rows) in asked.items()
        }

    def _known(self) -> tuple[NDArray[np.bool_], NDArray[Any], NDArray[np.float64]]:
        """Return which probes are flagged, whose they are, and how much each counts.

        Each person counts once, and people as often as the gallery has such with as many images: who has one is harder
        to find than who has ten, and of those with many there are more probes.
        """
        patients = numbers(self.probe, "query_patient_id")
        hits = numbers(self.probe, "score") >= self.identity.threshold
        return hits, patients, identification.people_weights(patients, self.people[0].to_numpy())

    def _alike(self, samples: pa.Table) -> Likeness | None:
        return _likeness_of(samples, self.strangers, "unseen_score", self.identity.threshold, self.confidence)

    def _taken_for_unseen(self, samples: pa.Table, alike: Likeness | None) -> MetricResult:
        if alike is None:
            why = "an image of each kind is needed: samples, calibration images"
            return insufficient(why, n=len(samples), unit=identification.SAMPLES, confidence=self.confidence)
        return rate_result(alike.samples, unit=identification.SAMPLES, control=alike.strangers.value)

    def _leaked(self, samples: pa.Table, alike: Likeness | None) -> MetricResult:
        threshold = self.identity.threshold
        flagged, strangers = (
            (numbers(table, "score") >= threshold, numbers(table, whose))
            for table, whose in ((samples, "nearest_patient_id"), (self.control, "query_patient_id"))
        )
        found, people, weights = self._known()
        if alike is None or not all(len(hits) for hits in (flagged[0], strangers[0], found)):
            why = "an image of each kind is needed: samples, unseen real images, new images of gallery patients"
            return insufficient(why, n=len(samples), unit=UNIT, confidence=self.confidence)
        rate = korn_graubard(*flagged, self.confidence)
        control, done = alike.control(korn_graubard(*strangers, self.confidence))
        return leak_rate(rate, control, korn_graubard(found, people, self.confidence, weights=weights), done)

    def tpir(self) -> MetricResult:
        """Say how often the auditor finds people it knows: what it can't see in real images it can't in samples."""
        unit = "share of gallery patients whose new image is found, the right patient on top"
        found, patients, weights = self._known()
        if not len(found):
            return insufficient(
                "there is no new image of a gallery patient", n=0, unit=unit, confidence=self.confidence
            )
        right = found & (numbers(self.probe, "nearest_patient_id") == patients)
        rate = korn_graubard(right, patients, self.confidence, exact=True, weights=weights)
        note = f"{right.mean():.3g} of the images; people weighed by how many gallery images such people have"
        return rate_result(rate, unit=unit, reference="ISO/IEC 19795-1; Holt and Smith 1979", note=note)


def _likeness_of(
    samples: pa.Table, strangers: pa.Table, column: str, threshold: float, confidence: float
) -> Likeness | None:
    """Say how often samples, and calibration people, are taken for somebody of the unseen gallery; None without any.

    Args:
        samples: columns.MATCHES.
        strangers: the same of calibration images.
        column: whose values decide, `unseen_…`.
        threshold: from which on somebody is taken for somebody.
        confidence: of the intervals.
    """
    if not len(samples) or not len(strangers):
        return None
    tables = (samples, "unseen_patient_id"), (strangers, "query_patient_id")
    return Likeness(*(korn_graubard(numbers(t, column) >= threshold, numbers(t, who), confidence) for t, who in tables))


def _patients_hit(samples: pa.Table, threshold: float, size: int, confidence: float) -> Metrics:
    """Count patients who are hit often, part by part on equally many train and unseen patients with as many images."""
    sides = [
        (scores, np.array(samples[f"{side}matched_patient_ids"].to_pylist(), dtype=object).reshape(scores.shape))
        for side, scores in zip(("", "unseen_"), _matched(samples), strict=True)
    ]
    parts = [
        [hits_by_patient(scores[:, part] >= threshold, whose[:, part], size) for scores, whose in sides]
        for part in range(sides[0][0].shape[1])
    ]
    return patients_hit([(train, unseen) for train, unseen in parts], confidence)


def _train_or_unseen(samples: pa.Table, strangers: pa.Table, threshold: float, confidence: float) -> Metrics:
    """Compare equally made galleries of train and unseen patients; a sample belongs to the nearest of all.

    Calibration patients are in neither gallery: the same share among their images is the control.
    """
    nearer = numbers(samples, "score") >= numbers(samples, "unseen_score")
    clusters = np.where(nearer, numbers(samples, "nearest_patient_id"), numbers(samples, "unseen_patient_id"))
    control = (*_matched(strangers), numbers(strangers, "query_patient_id"))
    train, unseen = _matched(samples)
    return identification.closer_to_train(train, unseen, clusters, threshold, confidence, control)


def _matched(table: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    columns = (table[f"{side}matched_scores"].to_pylist() or np.empty((0, 1)) for side in ("", "unseen_"))
    train, unseen = (np.array(column, dtype=float) for column in columns)
    return train, unseen


def _point(strangers: pa.Table, column: str, target: float, confidence: float) -> OperatingPoint:
    return calibrate(numbers(strangers, column), numbers(strangers, "query_patient_id"), target, confidence)


def numbers(table: pa.Table, column: str) -> NDArray[Any]:
    """Return a column (N,)."""
    return np.asarray(table[column].to_numpy())
