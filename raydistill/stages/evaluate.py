"""The final evaluation of one set of images: the auditor's risk, membership, utility, fidelity. One stage, four inputs.

Real images, teacher samples, kept samples and student samples go through the same code with the same budget. The
evaluation patients are read here, and by match in the auditor's eye alone.
"""

from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.config import Config, EvaluateConfig
from raydistill.core.errors import LineageError, NothingToDo
from raydistill.core.progress import Progress
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.data.vocabulary import age_band
from raydistill.diffusion.features import public_digest
from raydistill.distributed.task import run_on_worker
from raydistill.metrics import classifier, utility
from raydistill.metrics.custom import build_metrics, measure
from raydistill.metrics.reliability import calibration_error
from raydistill.metrics.result import MetricResult
from raydistill.reid.model import check_backbone, weights_digest
from raydistill.stages.audit import audit
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.classifier import train_classifier
from raydistill.stages.fidelity import (
    DOMAIN,
    EXTRACTOR,
    Images,
    extractors,
    fidelity_by_finding,
    fidelity_metrics,
    write_extractor,
)
from raydistill.stages.images import are_samples, pixels, read_sampled
from raydistill.stages.membership import attacked

Metrics = dict[str, MetricResult]
Grey = NDArray[np.uint8]

RECORD_COLUMNS = ["image_id", "patient_id", "image", "labels", "prompt", "sex", "view", "age"]


AGE_BAND = 20
"""Years of age of one subgroup."""


class Evaluate(Stage):
    """Inputs: `images`, `train`, `calibration`, `evaluation`, `findings`, and those of the following that apply.

    `verdicts` (judge the kept samples only), `matches` of the auditor, both perhaps with more samples (`more_images`,
    `more_matches`), `attack_matches` and `attack_samples` (asked for harder), `gallery` and
    `strangers` (the auditor's embeddings), `model` (attack it), `shadow` (a model that
    saw none of it), `reference` (predictions of the classifier trained on real images), `extractor` (that classifier;
    an evaluation without a reference makes it), `teacher_predictions` (of that trained on the teacher's samples).
    Output: `metrics.json`, `predictions/`, `tables/`, `operating_point.json`, `extractor/`.
    """

    version: ClassVar[int] = 22
    config: EvaluateConfig

    def check(self, config: Config) -> None:
        """Refuse somebody's own metric that can't be imported, and an encoder that can't be read."""
        build_metrics(self.config.metrics)
        if self.config.encoder is not None:
            check_backbone(self.config.encoder, config.ingest.resolution)

    def key_config(self) -> dict[str, Any]:
        """Put the public weights that look at the images into the key."""
        own = {} if self.config.encoder is None else {"encoder_weights": weights_digest(self.config.encoder)}
        return {**super().key_config(), "features": public_digest(), **own}

    def run(self, context: Context) -> Outcome:
        """Measure everything the inputs allow, on a worker."""
        alone = Evaluate(self.node, self.config, {}, self.root_seed)
        work = partial(alone._measure, context.silent())
        return run_on_worker(work, self.config.compute, context.progress)

    def _measure(self, context: Context, progress: Progress) -> Outcome:
        most, seed = self.config.max_images, context.seed
        # Sets are compared image by image, so all of them are tested on the same.
        shared = derive_seed(self.root_seed, "evaluation images")
        real = read_sampled({"images": context.inputs["evaluation"]}, RECORD_COLUMNS, most, shared)
        synthetic = are_samples(context.inputs["images"])
        columns = ["image", "labels"] if synthetic else ["image", "labels", "patient_id"]
        judged = read_sampled(context.inputs, columns, most, seed)
        if not judged.num_rows:
            raise NothingToDo(f"{self.node} has no image to judge: none was made, or the filter kept none")
        images, real_images = pixels(judged), pixels(real)
        metrics: Metrics = {}
        steps = 4
        if "matches" in context.inputs:
            metrics |= audit(context, self.config)
        progress(1, steps, "parts")
        if "model" in context.inputs:
            metrics |= attacked(context, self.config)
        progress(2, steps, "parts")
        metrics |= self._utility(context, judged, images, real, real_images)
        progress(3, steps, "parts")
        people = None if synthetic else judged["patient_id"].to_numpy()
        sets = (
            Images(images, judged["labels"].to_pylist(), people),
            Images(real_images, real["labels"].to_pylist(), real["patient_id"].to_numpy()),
        )
        train = self._images(context, "train")
        metrics |= self._fidelity(context, *sets, train)
        metrics |= measure(build_metrics(self.config.metrics), images, real_images, train.pixels)
        progress(4, steps, "parts")
        dumped = {name: result.model_dump(mode="json") for name, result in metrics.items()}
        context.out.write_json("metrics.json", dumped)
        patients = len(set(real["patient_id"].to_pylist()))
        return Outcome(
            counts={"images": judged.num_rows, "evaluation_patients": patients, "evaluation_images": real.num_rows}
        )

    def _fidelity(self, context: Context, judged: Images, real: Images, train: Images) -> Metrics:
        """Compare with evaluation images; the floor is what other real images reach, that no extractor learned from."""
        how, seed = self.config, context.seed
        domain = context.inputs.get("extractor", context.out / EXTRACTOR)
        looks = extractors(domain, how.encoder, train.pixels.shape[1])
        calibration = self._images(context, "calibration")
        # Where the train images are judged themselves, they can't be their own floor.
        floors = {"": train if judged.patients is None else calibration, DOMAIN: calibration}
        findings = context.inputs["findings"].read_json("findings.json")["findings"]
        by_finding = fidelity_by_finding(looks, judged, real, floors, findings, how, seed)
        context.out.write_table("tables/fidelity_by_finding.parquet", by_finding)
        return fidelity_metrics(looks, judged, real, floors, how, seed)

    def _images(self, context: Context, role: str) -> Images:
        table = read_sampled(
            {"images": context.inputs[role]}, ["image", "labels"], self.config.max_images, context.seed
        )
        return Images(pixels(table), table["labels"].to_pylist(), None)

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
        if "reference" not in context.inputs:
            # What learned from real images shows the other evaluations what is like them.
            write_extractor(model, context.out)
        scores = classifier.predict(model, real_images)
        predictions = {"image_id": real["image_id"]} | dict(zip(findings, scores.T, strict=True))
        context.out.write_table("predictions/part-00000.parquet", pa.table(predictions))
        options = (how.confidence, how.bootstrap, context.seed)
        metrics = {
            "utility_auroc": utility.macro_auroc(truth, scores, patients, *options),
            "calibration_error": calibration_error(truth, scores, patients, *options),
        }
        by_finding = utility.by_finding(truth, scores, patients, findings, *options)
        context.out.write_table("tables/by_finding.parquet", by_finding)
        groups = {name: real[name].to_pylist() for name in ("sex", "view")}
        groups["age_band"] = [None if age is None else age_band(age, AGE_BAND) for age in real["age"].to_pylist()]
        by_group = utility.by_group(truth, scores, patients, groups, *options)
        context.out.write_table("tables/utility_by_group.parquet", by_group)
        if "reference" in context.inputs:
            best = _predicted(context.inputs["reference"], findings, real["image_id"])
            metrics["utility_loss"] = utility.paired_difference(truth, best, scores, patients, *options)
        if "teacher_predictions" in context.inputs and context.inputs["teacher_predictions"].shards():
            teacher = _predicted(context.inputs["teacher_predictions"], findings, real["image_id"])
            metrics["utility_over_teacher"] = utility.paired_difference(truth, scores, teacher, patients, *options)
        return metrics


def _predicted(store: Store, findings: list[str], images: pa.ChunkedArray) -> NDArray[np.float64]:
    """Read (N, F) probabilities of another evaluation, which must be of the same images in the same order."""
    table = store.read_table()
    if table["image_id"].to_pylist() != images.to_pylist():
        raise LineageError(f"{store.uri} isn't of the images that this evaluation tests: nothing can be paired")
    return np.stack([table[finding].to_numpy() for finding in findings], axis=1)
