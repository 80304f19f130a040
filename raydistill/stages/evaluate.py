"""The final evaluation of one set of images: the auditor's risk, membership, utility, fidelity. One stage, four inputs.

Real images, teacher samples, kept samples and student samples go through the same code with the same budget. The
evaluation patients are read here, and by match in the auditor's eye alone.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.columns import AUDITED
from raydistill.core.config import Config, EvaluateConfig
from raydistill.core.errors import NothingToDo
from raydistill.core.progress import Progress, silent
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.diffusion.features import public_digest, public_features
from raydistill.diffusion.sampling import Sampler
from raydistill.distributed.task import run_on_worker
from raydistill.matching.calibration import OperatingPoint, calibrate
from raydistill.metrics import classifier, fidelity, identification, membership, utility
from raydistill.metrics.custom import build_metrics, measure
from raydistill.metrics.intervals import clustered_rate
from raydistill.metrics.patients import hits_by_patient, patients_hit
from raydistill.metrics.result import MetricResult
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.classifier import train_classifier
from raydistill.stages.images import are_samples, only_kept, pixels, read_made, read_sampled

Metrics = dict[str, MetricResult]
Grey = NDArray[np.uint8]

MEMBERSHIP_BATCH = 32
MEMBERSHIP_DRAWS = 4
"""Noise draws a loss is averaged over; the attacker's budget is this times the noise levels, a forward pass each."""

RECORD_COLUMNS = ["image_id", "patient_id", "image", "labels", "prompt", "sex", "view", "age"]


class Evaluate(Stage):
    """Inputs: `images`, `train`, `evaluation`, `findings`, and those of the following that apply.

    `verdicts` (judge the kept samples only), `matches` of the auditor, both perhaps with more samples (`more_images`,
    `more_matches`), `model` (attack it), `reference` (predictions of the classifier trained on real images). Output:
    `metrics.json`, `predictions/`, `tables/`, `operating_point.json`.
    """

    version: ClassVar[int] = 9
    config: EvaluateConfig

    def check(self, config: Config) -> None:
        """Refuse somebody's own metric that can't be imported."""
        build_metrics(self.config.metrics)

    def key_config(self) -> dict[str, Any]:
        """Put the public weights that look at the images into the key."""
        return {**super().key_config(), "features": public_digest()}

    def run(self, context: Context) -> Outcome:
        """Measure everything the inputs allow, on a worker."""
        alone = Evaluate(self.node, self.config, {}, self.root_seed)
        work = partial(alone._measure, replace(context, progress=silent))
        return run_on_worker(work, self.config.compute, context.progress)

    def _measure(self, context: Context, progress: Progress) -> Outcome:
        most, seed = self.config.max_images, context.seed
        real = read_sampled({"images": context.inputs["evaluation"]}, RECORD_COLUMNS, most, seed)
        synthetic = are_samples(context.inputs["images"])
        columns = ["image", "labels"] if synthetic else ["image", "labels", "patient_id"]
        judged = read_sampled(context.inputs, columns, most, seed)
        if not judged.num_rows:
            raise NothingToDo(f"{self.node} has no image to judge: none was made, or the filter kept none")
        images, real_images = pixels(judged), pixels(real)
        metrics: Metrics = {}
        steps = 4
        if "matches" in context.inputs:
            metrics |= self._risk(context)
        progress(1, steps, "parts")
        if "model" in context.inputs:
            metrics |= self._membership(context, real)
        progress(2, steps, "parts")
        metrics |= self._utility(context, judged, images, real, real_images)
        progress(3, steps, "parts")
        train_images = pixels(read_sampled({"images": context.inputs["train"]}, ["image"], most, seed))
        whose = {
            "patients": real["patient_id"].to_numpy(),
            "judged_patients": None if synthetic else judged["patient_id"].to_numpy(),
        }
        metrics |= _fidelity(
            images, real_images, train_images, **whose, confidence=self.config.confidence, seed=context.seed
        )
        metrics |= measure(build_metrics(self.config.metrics), images, real_images, train_images)
        progress(4, steps, "parts")
        dumped = {name: result.model_dump(mode="json") for name, result in metrics.items()}
        context.out.write_json("metrics.json", dumped)
        patients = len(set(real["patient_id"].to_pylist()))
        return Outcome(
            counts={"images": judged.num_rows, "evaluation_patients": patients, "evaluation_images": real.num_rows}
        )

    def _risk(self, context: Context) -> Metrics:
        """Audit: the judge of this number is a network the filter never used."""
        how = self.config
        store, more = context.inputs["matches"], context.inputs.get("more_matches")
        folders = [matches / "samples" for matches in (store, more) if matches]
        # Where enough was kept at once, nothing more was asked for.
        found = pa.concat_tables([folder.read_table() for folder in folders if folder.shards()])
        samples = only_kept(context.inputs, found, "query_id")
        strangers, control = ((store / role).read_table() for role in ("calibration", "evaluation"))
        identity = _point(strangers, "score", how.audit_fpir, how.confidence)
        structure = _point(strangers, "structure_score", how.audit_near_copy_fpir, how.confidence)
        points = {"identity": identity.model_dump(mode="json"), "structure": structure.model_dump(mode="json")}
        context.out.write_json("operating_point.json", points)
        scores, patients = _numpy(samples, "score"), _numpy(samples, "nearest_patient_id")
        controls = _numpy(control, "score"), _numpy(control, "query_patient_id")
        metrics = identification.rates(scores, patients, *controls, identity.threshold, how.confidence)
        metrics["max_similarity"] = identification.max_similarity(scores, controls[0])
        structures = _numpy(samples, "structure_score")
        metrics |= identification.near_copy_rates(
            structures, patients, _numpy(control, "structure_score"), controls[1], structure.threshold, how.confidence
        )
        metrics |= _train_or_unseen(samples, strangers, identity.threshold, how.confidence)
        metrics |= self._patients_hit(context, samples, identity.threshold)
        metrics["auditor_tpir"] = _found((store / "probe").read_table(), identity.threshold, how.confidence)
        flagged = scores >= identity.threshold
        audited = samples.select(list(AUDITED))
        audited = audited.append_column("flagged", pa.array(flagged))
        audited = audited.append_column("near_copy", pa.array(structures >= structure.threshold))
        context.out.write_table("tables/audit.parquet", audited)
        groups = _asked_for(context.inputs, samples)
        subgroups = identification.subgroup_rates(flagged, patients, groups, how.confidence)
        context.out.write_table("tables/subgroups.parquet", subgroups)
        return metrics

    def _patients_hit(self, context: Context, samples: pa.Table, threshold: float) -> Metrics:
        """Count patients who are hit often, on equally many train and unseen patients with equally many images each."""
        people = (context.inputs[role].read_table(columns=["patient_id"]) for role in ("train", "evaluation"))
        size = min(len(table["patient_id"].unique()) for table in people)
        train, unseen = (
            hits_by_patient(scores[:, 0] >= threshold, _numpy(samples, f"{side}matched_patient_id"), size)
            for side, scores in zip(("", "unseen_"), _matched(samples), strict=True)
        )
        return patients_hit(train, unseen, self.config.confidence)

    def _membership(self, context: Context, real: pa.Table) -> Metrics:
        """Ask the model itself whom it was trained on."""
        how, seed = self.config, context.seed
        train = read_sampled({"images": context.inputs["train"]}, RECORD_COLUMNS, how.max_images, seed)
        size = min(train.num_rows, real.num_rows, how.membership_images)
        sampler = Sampler(context.inputs["model"].keep_local(), how.compute.device)
        # The same draws for everybody: members and strangers must meet the same noise to be comparable.
        draws = [derive_seed(seed, "membership", i) for i in range(MEMBERSHIP_DRAWS)]
        losses, patients = [], []
        for name, table in (("members", train), ("strangers", real)):
            rows = np.random.default_rng(derive_seed(seed, name)).permutation(table.num_rows)[:size]
            part = table.take(np.sort(rows))
            losses.append(
                sampler.denoising_losses(
                    pixels(part),
                    part["prompt"].to_pylist(),
                    fractions=how.membership_timesteps,
                    seeds=draws,
                    batch_size=MEMBERSHIP_BATCH,
                )
            )
            patients.append(part["patient_id"].to_numpy())
        return membership.membership_attack(
            *losses, *patients, confidence=how.confidence, bootstrap=how.bootstrap, seed=derive_seed(seed, "bootstrap")
        )

    def _utility(self, context: Context, judged: pa.Table, images: Grey, real: pa.Table, real_images: Grey) -> Metrics:
        """Train the findings classifier on these images with the same budget as on any others; test it on real ones.

        Images of which nobody said what they show take no part on either side.
        """
        how, findings = self.config, context.inputs["findings"].read_json("findings.json")["findings"]
        taught, tested = (np.asarray(table["labels"].is_valid()) for table in (judged, real))
        if not (findings and taught.any() and tested.any()):
            return utility.without_labels(real.num_rows, how.confidence)
        real, real_images = real.filter(pa.array(tested)), real_images[tested]
        truth = classifier.label_matrix(real["labels"].to_pylist(), findings)
        patients = real["patient_id"].to_numpy()
        labels = classifier.label_matrix(judged["labels"].filter(pa.array(taught)).to_pylist(), findings)
        model = train_classifier(images[taught], labels, how.probe_steps, self.root_seed, how.compute)
        scores = classifier.predict(model, real_images)
        predictions = {"image_id": real["image_id"]} | dict(zip(findings, scores.T, strict=True))
        context.out.write_table("predictions/part-00000.parquet", pa.table(predictions))
        options = (how.confidence, how.bootstrap, context.seed)
        metrics = {"utility_auroc": utility.macro_auroc(truth, scores, patients, *options)}
        by_finding = utility.by_finding(truth, scores, patients, findings, *options)
        context.out.write_table("tables/by_finding.parquet", by_finding)
        for name in ("sex", "view"):
            by_group = utility.by_group(truth, scores, patients, real[name].to_pylist(), *options)
            context.out.write_table(f"tables/utility_by_{name}.parquet", by_group)
        if "reference" in context.inputs:
            reference = context.inputs["reference"].read_table()
            best = np.stack([reference[finding].to_numpy() for finding in findings], axis=1)
            metrics["utility_loss"] = utility.paired_difference(truth, best, scores, patients, *options)
        return metrics


def _fidelity(images: Grey, real_images: Grey, train_images: Grey, **how: Any) -> Metrics:
    """Compare with evaluation images; the floor is what real train images reach."""
    judged, real, floor = (public_features(grey, pooled=True) for grey in (images, real_images, train_images))
    return fidelity.all_metrics(real, judged, floor, **how)


def _found(probe: pa.Table, threshold: float, confidence: float) -> MetricResult:
    """Say how often the auditor finds people it knows: what it can't see in real images it can't see in samples."""
    patients = _numpy(probe, "query_patient_id")
    hits = (_numpy(probe, "score") >= threshold) & (_numpy(probe, "nearest_patient_id") == patients)
    unit = "share of probe images found, the right patient on top"
    return clustered_rate(hits, patients, confidence, unit=unit, reference="ISO/IEC 19795-1")


def _train_or_unseen(samples: pa.Table, strangers: pa.Table, threshold: float, confidence: float) -> Metrics:
    """Compare equally made galleries of train and unseen patients; a sample belongs to the nearest of all.

    Calibration patients are in neither gallery: the same share among their images is the control.
    """
    nearer = _numpy(samples, "score") >= _numpy(samples, "unseen_score")
    clusters = np.where(nearer, _numpy(samples, "nearest_patient_id"), _numpy(samples, "unseen_patient_id"))
    theirs, patients = _matched(strangers), _numpy(strangers, "query_patient_id")
    control = identification.closer_to_train_share(theirs[0], theirs[1], patients).value
    train, unseen = _matched(samples)
    return identification.closer_to_train(train, unseen, clusters, threshold, confidence, control)


def _matched(table: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    train, unseen = (np.array(table[f"{side}matched_scores"].to_pylist(), dtype=float) for side in ("", "unseen_"))
    return train, unseen


def _asked_for(inputs: Mapping[str, Store], samples: pa.Table) -> dict[str, list[str | None]]:
    """Say of every matched sample what was asked of the model, by attribute."""
    asked = read_made(inputs, ["sample_id", "view", "sex", "age_band", "labels"])
    place = {sample_id: row for row, sample_id in enumerate(asked["sample_id"].to_pylist())}
    rows = asked.take([place[query_id] for query_id in samples["query_id"].to_pylist()])
    findings = [labels if labels is None else "+".join(labels) or "no finding" for labels in rows["labels"].to_pylist()]
    return {name: rows[name].to_pylist() for name in ("view", "sex", "age_band")} | {"findings": findings}


def _point(strangers: pa.Table, column: str, target: float, confidence: float) -> OperatingPoint:
    return calibrate(_numpy(strangers, column), _numpy(strangers, "query_patient_id"), target, confidence)


def _numpy(table: pa.Table, column: str) -> NDArray[Any]:
    return np.asarray(table[column].to_numpy())
