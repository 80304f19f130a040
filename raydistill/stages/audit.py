"""The auditor's part of an evaluation: what the matches of one set of samples say about the people it was made from.

The judge of these numbers is a network the filter never used.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raydistill.core.columns import AUDITED
from raydistill.core.config import EvaluateConfig
from raydistill.core.errors import InputError
from raydistill.core.store import Store
from raydistill.matching.calibration import OperatingPoint, calibrate, certain_threshold
from raydistill.metrics import identification
from raydistill.metrics.filtering import GENERATED
from raydistill.metrics.intervals import clustered_rate, korn_graubard, rate_result
from raydistill.metrics.leak import UNIT, leak_rate
from raydistill.metrics.likeness import Likeness
from raydistill.metrics.near_copies import certain_rates, near_copy_rates
from raydistill.metrics.pairwise import pairwise_threshold_fpir
from raydistill.metrics.patients import hits_by_patient, patients_hit
from raydistill.metrics.result import MetricResult, insufficient
from raydistill.metrics.worst_way import worst_way
from raydistill.stages.attack import way_of
from raydistill.stages.base import Context
from raydistill.stages.gallery import GALLERY, digest_of, vectors_of
from raydistill.stages.images import only_kept, read_made
from raydistill.stages.prompts import prompt_metrics

Metrics = dict[str, MetricResult]

Scores = NDArray[np.floating[Any]]

IMAGES_OF = "images_of_patient"
IMAGE_COUNTS = {10: "10 or more", 5: "5 to 9", 2: "2 to 4", 1: "1"}
"""Groups of patients by their images, by the fewest."""


@dataclass(frozen=True)
class Auditor:
    """What one audit holds every set of samples against.

    Attributes:
        control: matches of evaluation images, all by the auditor.
        probe: matches of withheld images of train patients.
        strangers: matches of calibration images.
        identity: the point on `score`.
        structure: the point on `structure_score`.
        people: patient ids of the gallery and of the unseen one, one an image.
        confidence: of the intervals.
    """

    control: pa.Table
    probe: pa.Table
    strangers: pa.Table
    identity: OperatingPoint
    structure: OperatingPoint
    people: tuple[pa.ChunkedArray, pa.ChunkedArray]
    confidence: float

    @classmethod
    def of(cls, inputs: Mapping[str, Store], how: EvaluateConfig) -> "Auditor":
        """Read the matches of real images and set the points; inputs `matches`, `train`, `evaluation`."""
        store = inputs["matches"]
        strangers, control, probe = ((store / role).read_table() for role in ("calibration", "evaluation", "probe"))
        people = [inputs[role].read_table(columns=["patient_id"])["patient_id"] for role in ("train", "evaluation")]
        return cls(
            control=control,
            probe=probe,
            strangers=strangers,
            identity=_point(strangers, "score", how.audit_fpir, how.confidence),
            structure=_point(strangers, "structure_score", how.audit_near_copy_fpir, how.confidence),
            people=(people[0], people[1]),
            confidence=how.confidence,
        )

    def certain(self, column: str, samples: int) -> float:
        """Return which `score` certainly shows somebody, or `structure_score` a copy, among so many samples."""
        strangers = self.strangers
        return certain_threshold(_numpy(strangers, column), strangers["query_patient_id"].to_pylist(), samples)

    def rates(self, samples: pa.Table) -> Metrics:
        """Measure how often samples, columns.MATCHES, are taken for somebody, and what of it is beyond chance."""
        return identification.rates(
            _numpy(samples, "score"),
            _numpy(samples, "nearest_patient_id"),
            _numpy(self.control, "score"),
            _numpy(self.control, "query_patient_id"),
            self.identity.threshold,
            self.confidence,
            self._likeness(samples, "unseen_score", self.identity),
        )

    def risk(self, samples: pa.Table) -> Metrics:
        """Measure what depends on samples, columns.MATCHES."""
        scores, patients = _numpy(samples, "score"), _numpy(samples, "nearest_patient_id")
        structures, unseen = _numpy(samples, "structure_score"), _numpy(samples, "unseen_structure_score")
        controls, whose = _numpy(self.control, "score"), _numpy(self.control, "query_patient_id")
        threshold, how = self.identity.threshold, self.confidence
        metrics = self.rates(samples) | {"unseen_rate": self._taken_for_unseen(samples)}
        metrics |= identification.similarities(scores, controls, how)
        metrics["leak_rate"] = self._leaked(samples)
        copied = _numpy(self.control, "structure_score"), whose
        alike = self._likeness(samples, "unseen_structure_score", self.structure)
        metrics |= near_copy_rates(structures, patients, *copied, self.structure.threshold, how, alike)
        for name, column, point in (
            ("control_rate", "score", self.identity),
            ("near_copy_control_rate", "structure_score", self.structure),
        ):
            metrics[name] = metrics[name].model_copy(update={"baseline": self._expected(column, point)})
        sizes = len(self.people[0]), len(self.people[1])
        copies, people = (self.certain(column, len(samples)) for column in ("structure_score", "score"))
        metrics |= certain_rates("copied", structures, unseen, copies, sizes, how)
        metrics |= certain_rates("identified", scores, _numpy(samples, "unseen_score"), people, sizes, how)
        metrics |= _train_or_unseen(samples, self.strangers, threshold, how)
        size = min(len(ids.unique()) for ids in self.people)
        return metrics | _patients_hit(samples, threshold, size, how)

    def _expected(self, column: str, point: OperatingPoint) -> float:
        """Return the largest share of strangers that a point may flag: as calibration people bear out, or as asked."""
        flagged = _numpy(self.strangers, column) >= point.threshold
        borne = korn_graubard(flagged, _numpy(self.strangers, "query_patient_id"), self.confidence).high
        return max(borne, point.target_fpir, point.supported_fpir)

    def sight(self, planted: pa.Table, samples: int) -> Metrics:
        """Measure what the audit finds of copies whose truth is known: the self-test's planted train images.

        Args:
            planted: the self-test's `PLANTED`.
            samples: among which a certain one would have to be found.
        """
        copies = planted.filter((pc.field("source_role") == "train") & pc.field("is_copy"))
        structures, scores = _numpy(copies, "structure_score"), _numpy(copies, "auditor_score")
        by_model = pc.starts_with(copies["treatment"], GENERATED).to_numpy()
        found = (scores >= self.identity.threshold) | (structures >= self.structure.threshold)
        certain = structures >= self.certain("structure_score", samples)
        certain |= scores >= self.certain("score", samples)
        asked = {
            "auditor_sensitivity": (found, ~by_model),
            "auditor_sensitivity.generator": (found, by_model),
            "certain_sensitivity": (certain, ~by_model),
        }
        patients, unit = _numpy(copies, "patient_id"), "share of planted near-copies"
        return {
            name: clustered_rate(hits[rows], patients[rows], self.confidence, unit=unit)
            for name, (hits, rows) in asked.items()
        }

    def _known(self) -> tuple[NDArray[np.bool_], NDArray[Any], NDArray[np.float64]]:
        """Return which probes are flagged, whose they are, and how much each counts.

        Each person counts once, and people as often as the gallery has such with as many images: who has one is harder
        to find than who has ten, and of those with many there are more probes.
        """
        patients = _numpy(self.probe, "query_patient_id")
        hits = _numpy(self.probe, "score") >= self.identity.threshold
        return hits, patients, identification.people_weights(patients, self.people[0].to_numpy())

    def _likeness(self, samples: pa.Table, column: str, point: OperatingPoint) -> Likeness | None:
        """Say how often samples, and calibration people, are taken for somebody of the unseen gallery."""
        if not len(samples) or not len(self.strangers):
            return None
        tables = (samples, "unseen_patient_id"), (self.strangers, "query_patient_id")
        return Likeness(
            *(korn_graubard(_numpy(t, column) >= point.threshold, _numpy(t, who), self.confidence) for t, who in tables)
        )

    def _taken_for_unseen(self, samples: pa.Table) -> MetricResult:
        alike = self._likeness(samples, "unseen_score", self.identity)
        if alike is None:
            why = "an image of each kind is needed: samples, calibration images"
            return insufficient(why, n=len(samples), unit=identification.SAMPLES, confidence=self.confidence)
        return rate_result(alike.samples, unit=identification.SAMPLES, control=alike.strangers.value)

    def _leaked(self, samples: pa.Table) -> MetricResult:
        threshold = self.identity.threshold
        flagged, strangers = (
            (_numpy(table, "score") >= threshold, _numpy(table, whose))
            for table, whose in ((samples, "nearest_patient_id"), (self.control, "query_patient_id"))
        )
        found, people, weights = self._known()
        alike = self._likeness(samples, "unseen_score", self.identity)
        if alike is None or not all(len(hits) for hits in (flagged[0], strangers[0], found)):
            why = "an image of each kind is needed: samples, unseen real images, new images of gallery patients"
            return insufficient(why, n=len(samples), unit=UNIT, confidence=self.confidence)
        rate = korn_graubard(*flagged, self.confidence)
        control, done = alike.control(rate, korn_graubard(*strangers, self.confidence))
        return leak_rate(rate, control, korn_graubard(found, people, self.confidence, weights=weights), done)

    def tpir(self) -> MetricResult:
        """Say how often the auditor finds people it knows: what it can't see in real images it can't in samples."""
        unit = "share of gallery patients whose new image is found, the right patient on top"
        found, patients, weights = self._known()
        if not len(found):
            return insufficient(
                "there is no new image of a gallery patient", n=0, unit=unit, confidence=self.confidence
            )
        right = found & (_numpy(self.probe, "nearest_patient_id") == patients)
        rate = korn_graubard(right, patients, self.confidence, exact=True, weights=weights)
        note = f"{right.mean():.3g} of the images; people weighed by how many gallery images such people have"
        return rate_result(rate, unit=unit, reference="ISO/IEC 19795-1; Holt and Smith 1979", note=note)


def audit(context: Context, how: EvaluateConfig) -> Metrics:
    """Measure the risk and write what it can be recomputed from: `tables/…audit.parquet`, `operating_point.json`.

    Args:
        context: with the inputs `matches`, `train`, `evaluation`, `images`, maybe `attack_matches` with
            `attack_samples`, `selftest`, the auditor's embeddings `gallery` and `strangers`, and those of `Evaluate`
            beside them.
        how: operating points and confidence.
    """
    store, more = context.inputs["matches"], context.inputs.get("more_matches")
    _check_gallery(context.inputs)
    folders = [matches / "samples" for matches in (store, more) if matches]
    # Where enough was kept at once, nothing more was asked for.
    found = pa.concat_tables([folder.read_table() for folder in folders if folder.shards()])
    samples, auditor = only_kept(context.inputs, found, "query_id"), Auditor.of(context.inputs, how)
    points = {"identity": auditor.identity, "structure": auditor.structure}
    dumped: dict[str, Any] = {name: point.model_dump(mode="json") for name, point in points.items()}
    certain = {"certain_copy": {"threshold": auditor.certain("structure_score", len(samples))}}
    certain["certain_identity"] = {"threshold": auditor.certain("score", len(samples))}
    context.out.write_json("operating_point.json", dumped | certain)
    metrics = auditor.risk(samples)
    asked = _asked_for(context.inputs, samples)
    metrics |= prompt_metrics(context.inputs, samples, asked, how)
    if "selftest" in context.inputs:
        metrics |= auditor.sight((context.inputs["selftest"] / "planted").read_table(), len(samples))
    metrics["auditor_tpir"] = auditor.tpir()
    flagged = _write(context, "tables/audit.parquet", samples, auditor)
    clusters = _numpy(samples, "nearest_patient_id")
    groups = _groups(asked) | {IMAGES_OF: _image_counts(clusters, auditor.people[0])}
    by_group = identification.subgroup_rates(flagged, clusters, groups, how.confidence)
    # Groups of what was asked for are synthetic; these are of real people.
    sizes = Counter(f"{IMAGES_OF}={name}" for name in _image_counts(auditor.people[0].unique(), auditor.people[0]))
    own = pa.array([sizes.get(name) for name in by_group["name"].to_pylist()], pa.int64())
    by_group = by_group.append_column("group_size", own)
    context.out.write_table("tables/subgroups.parquet", by_group)
    if "gallery" in context.inputs:
        metrics["pairwise_threshold_fpir"] = pairwise_threshold_fpir(
            vectors_of(context.inputs["strangers"]),
            vectors_of(context.inputs["gallery"]),
            _numpy(auditor.control, "score"),
            _numpy(auditor.control, "query_patient_id"),
            how.confidence,
            context.seed,
        )
    return metrics | (_attacked(context, auditor) if "attack_matches" in context.inputs else {})


def _check_gallery(inputs: Mapping[str, Store]) -> None:
    """Refuse matches with a gallery that isn't the train images: whoever is left out can't be found."""
    ids = inputs["train"].read_table(columns=["image_id"])["image_id"]
    whole = digest_of(ids)
    for name in ("matches", "more_matches", "attack_matches"):
        if name not in inputs or not inputs[name].shards("samples"):
            continue
        gallery = inputs[name].read_json(GALLERY)
        if gallery["sha256"] != whole:
            raise InputError(
                f"{inputs[name].uri} was matched with a gallery of {gallery['images']} images, which aren't the "
                f"{len(ids)} train images: who isn't in the gallery can't be found, so nothing can be said of the risk"
            )


def _attacked(context: Context, auditor: Auditor) -> Metrics:
    """Measure the same on samples that were asked for harder: all ways together, and the way that leaks most."""
    samples = (context.inputs["attack_matches"] / "samples").read_table()
    flagged = _write(context, "tables/attack_audit.parquet", samples, auditor)
    ways = np.array([way_of(name) for name in samples["query_id"].to_pylist()], dtype=str)
    clusters = _numpy(samples, "nearest_patient_id")
    by_way = identification.subgroup_rates(flagged, clusters, {"way": ways.tolist()}, auditor.confidence)
    context.out.write_table("tables/attacks.parquet", by_way)
    risk = auditor.risk(samples)
    # Of a way that made no image there is no match.
    made = context.inputs["attack_samples"].read_table(columns=["sample_id"])["sample_id"].to_pylist()
    asked = sorted({way_of(sample_id) for sample_id in made})
    metrics = {f"attacked_{name}": risk[name] for name in identification.ATTACKED}
    return metrics | {"attacked_worst_excess_risk": _worst_way(samples, ways, asked, auditor)}


def _worst_way(samples: pa.Table, ways: NDArray[np.str_], asked: Sequence[str], auditor: Auditor) -> MetricResult:
    """Return the largest excess risk of the ways asked for, at a confidence corrected for having looked at all."""
    corrected = replace(auditor, confidence=1 - (1 - auditor.confidence) / max(1, len(asked)))
    parts = {name: samples.filter(pa.array(ways == name)) for name in asked}
    return worst_way({name: corrected.rates(part)["excess_risk"] for name, part in parts.items()})


def _write(context: Context, name: str, samples: pa.Table, auditor: Auditor) -> NDArray[np.bool_]:
    """Write what can be recomputed; return which samples are flagged."""
    flagged = _numpy(samples, "score") >= auditor.identity.threshold
    copied = _numpy(samples, "structure_score") >= auditor.structure.threshold
    audited = samples.select(list(AUDITED)).append_column("flagged", pa.array(flagged))
    context.out.write_table(name, audited.append_column("near_copy", pa.array(copied)))
    return np.asarray(flagged)


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
    nearer = _numpy(samples, "score") >= _numpy(samples, "unseen_score")
    clusters = np.where(nearer, _numpy(samples, "nearest_patient_id"), _numpy(samples, "unseen_patient_id"))
    control = (*_matched(strangers), _numpy(strangers, "query_patient_id"))
    train, unseen = _matched(samples)
    return identification.closer_to_train(train, unseen, clusters, threshold, confidence, control)


def _matched(table: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    columns = (table[f"{side}matched_scores"].to_pylist() or np.empty((0, 1)) for side in ("", "unseen_"))
    train, unseen = (np.array(column, dtype=float) for column in columns)
    return train, unseen


def _asked_for(inputs: Mapping[str, Store], samples: pa.Table) -> pa.Table:
    """Return what was asked of the model for every matched sample, a row a row."""
    asked = read_made(inputs, ["sample_id", "prompt", "view", "sex", "age_band", "labels"])
    place = {sample_id: row for row, sample_id in enumerate(asked["sample_id"].to_pylist())}
    return asked.take([place[query_id] for query_id in samples["query_id"].to_pylist()])


def _groups(asked: pa.Table) -> dict[str, list[str | None]]:
    """Name the subgroup of every sample, by attribute."""
    labels = asked["labels"].to_pylist()
    findings = [names if names is None else "+".join(names) or "no finding" for names in labels]
    return {name: asked[name].to_pylist() for name in ("view", "sex", "age_band")} | {"findings": findings}


def _image_counts(nearest: NDArray[Any] | pa.Array, people: pa.ChunkedArray) -> list[str | None]:
    """Name how many gallery images the patient has whom each sample resembles most: who has many is at most risk."""
    counts = {entry["values"]: entry["counts"] for entry in people.value_counts().to_pylist()}
    return [next(name for least, name in IMAGE_COUNTS.items() if counts[who] >= least) for who in nearest.tolist()]


def _point(strangers: pa.Table, column: str, target: float, confidence: float) -> OperatingPoint:
    return calibrate(_numpy(strangers, column), _numpy(strangers, "query_patient_id"), target, confidence)


def _numpy(table: pa.Table, column: str) -> NDArray[Any]:
    return np.asarray(table[column].to_numpy())
