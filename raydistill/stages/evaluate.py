"""The final evaluation of one set of images: the auditor's risk, membership, utility, fidelity. One stage, four inputs.

Real images, teacher samples, kept samples and student samples go through the same code with the same budget. The
evaluation patients are read here, and by match in the auditor's eye alone.
"""

from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from raydistill.core.config import Config, EvaluateConfig
from raydistill.core.errors import NothingToDo
from raydistill.core.progress import Progress
from raydistill.core.seeds import derive_seed
from raydistill.diffusion.features import public_digest
from raydistill.distributed.task import run_on_worker
from raydistill.metrics.custom import build_metrics, measure
from raydistill.metrics.result import MetricResult
from raydistill.reid.model import check_backbone, weights_digest
from raydistill.stages.audit import audit
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.fidelity import (
    DOMAIN,
    EXTRACTOR,
    Images,
    extractors,
    fidelity_by_finding,
    fidelity_metrics,
)
from raydistill.stages.images import are_samples, pixels, read_sampled
from raydistill.stages.membership import attacked
from raydistill.stages.utility import utility_metrics

Metrics = dict[str, MetricResult]
Grey = NDArray[np.uint8]

RECORD_COLUMNS = ["image_id", "patient_id", "image", "labels", "prompt", "sex", "view", "age"]


class Evaluate(Stage):
    """Inputs: `images`, `train`, `calibration`, `evaluation`, `findings`, and those of the following that apply.

    `verdicts` (judge the kept samples only), `matches` of the auditor, both perhaps with more samples (`more_images`,
    `more_matches`), `attack_matches` and `attack_samples` (asked for harder), `gallery` and
    `strangers` (the auditor's embeddings), `model` (attack it), `shadow` (a model that
    saw none of it), `reference` (predictions of the classifiers taught by real images), `extractor` (the first of
    those; an evaluation without a reference makes it), `teacher_predictions` (of those that the teacher's samples
    taught).
    Output: `metrics.json`, `predictions/`, `tables/`, `operating_point.json`, `extractor/`.
    """

    version: ClassVar[int] = 27
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
        people = None if synthetic else judged["patient_id"].to_numpy()
        learned = Images(images, judged["labels"].to_pylist(), people)
        metrics |= utility_metrics(context, learned, real, self.config, self.root_seed)
        progress(3, steps, "parts")
        sets = (
            learned,
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
