"""Can the filter be trusted? Plant near-copies of train images, treat strangers the same way, score both.

The filter's scores are threshold-free, like match: they are judged at whatever operating point the policy ends with.
What the teacher made of an image is a near-copy as long as it leads back to the patient, by measures that the filter
doesn't use: another network re-identifies it, or its pixels correlate with the very image's more than strangers' do
with anybody's. From far within the noise of a teacher that learned nothing by heart an image comes back as nobody's.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.columns import JUDGED, MATCHES
from raydistill.core.config import SelfTestConfig
from raydistill.core.generation import MatchConfig
from raydistill.core.section import Compute, Section
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.data.distortions import TREATMENTS, distort
from raydistill.data.images import encode_png
from raydistill.diffusion.sampling import Sampler
from raydistill.distributed.data import map_shards
from raydistill.distributed.shards import Piece, Shard
from raydistill.matching.calibration import calibrate
from raydistill.metrics.filtering import GENERATED, agreement
from raydistill.reid.embedder import embed_both_ways, load_embedder
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.embed import STRUCTURE, eyes_of
from raydistill.stages.gallery import Galleries, Plan
from raydistill.stages.images import pixels, read_people

ROLES = ("train", "calibration")
OTHERS = ("judge", "auditor")
"""Eyes of other backbones and seeds, who tell whether the filter would flag the same with another eye."""

SAMPLES, IDENTITY, MADE = "samples", "identity", "generator"
"""What is compared beside planted pictures: the teacher's samples, planted pictures by the networks alone, and those of
them that the teacher made."""

PLANTED = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("source_role", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("treatment", pa.string(), nullable=False),
        *(MATCHES.field(name) for name in JUDGED[1:]),
        *(pa.field(f"{eye}_score", pa.float32(), nullable=False) for eye in OTHERS),
        pa.field("is_copy", pa.bool_(), nullable=False),
        pa.field("is_recognised", pa.bool_(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
    ]
)
"""One planted picture: what it was made of and how, and its threshold-free scores against the whole gallery.
`query_id` tells a policy nothing. `is_copy`: whether it still leads back to somebody; `is_recognised`: to another
network, by itself: the filter's search for near-copies knows the correlation of pixels too."""

PIXELS, PIXEL_FPIR, MOST_STRANGERS = "pixels", 0.05, 1000
"""Pixels as they lie say too what leads back, where they are so much like the patient's as one stranger's in twenty are
like anybody's, the point of the other networks by default; and by how many strangers, at most, that is known."""


class SelfTestNodeConfig(Section):
    """The self-test's own settings and those of the matching it tests."""

    selftest: SelfTestConfig
    match: MatchConfig
    consistency_fpir: float
    consistency_near_copy_fpir: float
    confidence: float


class SelfTest(Stage):
    """Inputs: `model` (the teacher), `train`, `calibration`, `gallery` (`Embed`), `eye_<name>`, `matches_<name>`.

    Output: `planted/part-*.parquet`, `agreement/agreement.json`.
    """

    version: ClassVar[int] = 16
    resumable: ClassVar[bool] = True
    config: SelfTestNodeConfig

    @property
    def compute(self) -> Compute:
        """What the stage asks of the cluster."""
        return self.config.selftest.compute

    def run(self, context: Context) -> Outcome:
        """Plant, score, and measure how far the eyes agree on the teacher's samples."""
        returns = [f"{GENERATED}{strength:g}" for strength in self.config.selftest.strengths]
        plan = Plan(context.inputs["gallery"], ("filter", *OTHERS), None, context.seed)
        names = [f"{role}-{treatment}.parquet" for role in ROLES for treatment in (*TREATMENTS, *returns)]
        with Galleries.place(plan, self.config.match) as galleries:
            map_shards(
                PlantShard,
                {"inputs": dict(context.inputs), "galleries": galleries, "config": self.config, "seed": self.seed},
                [Shard(name, (self.config.selftest.num_images,)) for name in names],
                out=context.out / "planted",
                work=context.work,
                compute=self.config.selftest.compute,
                progress=context.progress,
            )
        planted = (context.out / "planted").read_table()
        agreements = agreements_of(context.inputs, planted, self.config, derive_seed(self.seed, "agreement"))
        context.out.write_json("agreement/agreement.json", agreements)
        return Outcome(counts={"planted": planted.num_rows}, facts={"treatments": [*TREATMENTS, *returns]})


def agreements_of(
    inputs: Mapping[str, Store], planted: pa.Table, config: SelfTestNodeConfig, seed: int
) -> list[dict[str, Any]]:
    """Compare what the filter flags with one eye and with another, each at its own threshold for the same FPIR.

    What is structurally a near-copy it flags with any eye.

    Args:
        inputs: `matches_<eye>`.
        planted: `PLANTED`.
        config: the operating points.
        seed: of the resamples.

    Returns:
        `agreement` of each pair of eyes, among planted pictures, the same by identity alone, those of them that the
        teacher made, and the teacher's samples.
    """
    matches = {n.removeprefix("matches_"): store for n, store in inputs.items() if n.startswith("matches_")}
    samples = {eye: _samples(store) for eye, store in matches.items()}
    flags: dict[str, dict[str, NDArray[np.bool_]]] = {"planted": {}, SAMPLES: {}, IDENTITY: {}, MADE: {}}
    made = np.char.startswith(planted["treatment"].to_numpy().astype(str), GENERATED)
    for eye, store in matches.items():
        identity, structure = thresholds_of(store, config)
        own = planted["score" if eye == "filter" else f"{eye}_score"].to_numpy()
        flags[IDENTITY][eye] = own >= identity
        for among, scores, table in (
            ("planted", own, planted),
            (SAMPLES, samples[eye]["score"].to_numpy(), samples[eye]),
        ):
            flags[among][eye] = (scores >= identity) | (table["structure_score"].to_numpy() >= structure)
        flags[MADE][eye] = flags["planted"][eye][made]
    whose, nearest = planted["patient_id"].to_numpy(), samples["filter"]["nearest_patient_id"].to_numpy()
    clusters = {
        "planted": whose,
        IDENTITY: whose,
        MADE: whose[made],
        SAMPLES: nearest,
    }
    return [
        {"among": among, "eyes": [a, b], **agreement(found[a], found[b], clusters[among], config.confidence, seed)}
        for among, found in flags.items()
        for a, b in combinations(found, 2)
    ]


def thresholds_of(matches: Store, config: SelfTestNodeConfig) -> tuple[float, float]:
    """Return an eye's thresholds on `score` and `structure_score`, from its matches of calibration images."""
    strangers = (matches / "calibration").read_table(columns=["score", "structure_score", "query_patient_id"])
    people, fpirs = (
        strangers["query_patient_id"].to_pylist(),
        (config.consistency_fpir, config.consistency_near_copy_fpir),
    )
    identity, structure = (
        calibrate(strangers[column].to_numpy(), people, fpir, config.confidence).threshold
        for column, fpir in zip(("score", "structure_score"), fpirs, strict=True)
    )
    return identity, structure


def leads_back(
    patients: NDArray[Any], found: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], thresholds: Mapping[str, float]
) -> NDArray[np.bool_]:
    """Say which pictures lead back by any of several measures: the patient on top, at its threshold or above.

    Args:
        patients: (N,) whom each picture was made of.
        found: by measure, (N,) the nearest patient and (N,) the score.
        thresholds: by measure.
    """
    hits = [(who == patients) & (scores >= thresholds[eye]) for eye, (who, scores) in found.items()]
    return np.asarray(np.any(hits, axis=0))


def _samples(matches: Store) -> pa.Table:
    columns = ["query_id", "score", "structure_score", "nearest_patient_id"]
    return (matches / SAMPLES).read_table(columns=columns).sort_by("query_id")


class PlantShard:
    """Makes the planted pictures of one role and treatment, and their scores. Built on an actor."""

    def __init__(
        self, inputs: Mapping[str, Store], galleries: Galleries, config: SelfTestNodeConfig, seed: int
    ) -> None:
        """Load the teacher and the eyes, find the gallery."""
        device = config.selftest.compute.device
        self.sampler = Sampler(inputs["model"].keep_local(), device)
        self.eyes = {eye: load_embedder(store.keep_local(), device) for eye, store in eyes_of(inputs).items()}
        # The same on either device; a GPU that isn't claimed isn't used.
        self.reference = galleries.open(config.match.search_device if config.selftest.compute.num_gpus else "cpu")
        self.image_ids, self.patient_ids = galleries.image_ids(), galleries.patient_ids()
        self.inputs, self.config, self.seed = inputs, config, seed
        self.thresholds = {eye: thresholds_of(inputs[f"matches_{eye}"], config)[0] for eye in OTHERS}
        self.thresholds[PIXELS] = self._pixel_threshold()

    def __call__(self, piece: Piece) -> tuple[pa.Table]:
        """Choose images, treat them, score the results against the gallery."""
        role, _, treatment = piece.shard.removesuffix(".parquet").partition("-")
        columns, most = ["image_id", "patient_id", "image", "prompt"], self.config.selftest.num_images
        records = read_people(self.inputs[role], columns, most, derive_seed(self.seed, role))
        seeds = [derive_seed(self.seed, treatment, image_id) for image_id in records["image_id"].to_pylist()]
        treated = self._treat(pixels(records), records["prompt"].to_pylist(), treatment, seeds)
        return (self._scored(role, treatment, records, treated),)

    def _pixel_threshold(self) -> float:
        columns = ["image", "patient_id"]
        strangers = read_people(
            self.inputs["calibration"], columns, MOST_STRANGERS, derive_seed(self.seed, "strangers")
        )
        alike = self.reference.in_place(STRUCTURE, pixels(strangers)).cosines[:, 0]
        return calibrate(alike, strangers["patient_id"].to_pylist(), PIXEL_FPIR, self.config.confidence).threshold

    def _treat(
        self, images: NDArray[np.uint8], prompts: list[str], treatment: str, seeds: list[int]
    ) -> NDArray[np.uint8]:
        if not treatment.startswith(GENERATED):
            return distort(images, treatment, seeds)
        return self.sampler.noise_and_denoise(
            images,
            prompts,
            seeds,
            strength=float(treatment.removeprefix(GENERATED)),
            num_inference_steps=self.config.selftest.num_inference_steps,
            batch_size=self.config.selftest.batch_size,
        )

    def _scored(self, role: str, treatment: str, records: pa.Table, treated: NDArray[np.uint8]) -> pa.Table:
        seen = {
            name: self.reference.nearest(name, embed_both_ways(eye, treated, self.config.match.batch_size), 1)
            for name, eye in self.eyes.items()
        }
        found, copied = seen["filter"], self.reference.copied(STRUCTURE, treated)
        alike = {eye: seen[eye] for eye in OTHERS} | {PIXELS: self.reference.in_place(STRUCTURE, treated)}
        leads = {by: (np.asarray(self.patient_ids.take(a.indices[:, 0])), a.cosines[:, 0]) for by, a in alike.items()}
        patients, distorted = np.asarray(records["patient_id"]), not treatment.startswith(GENERATED)
        shows = leads_back(patients, leads, self.thresholds)
        recognised = leads_back(patients, {eye: leads[eye] for eye in OTHERS}, self.thresholds)
        columns = {
            "query_id": [self._name(role, treatment, image_id) for image_id in records["image_id"].to_pylist()],
            "source_role": [role] * len(treated),
            "image_id": records["image_id"],
            "patient_id": records["patient_id"],
            "treatment": [treatment] * len(treated),
            "score": found.cosines[:, 0],
            "nearest_image_id": self.image_ids.take(found.indices[:, 0]),
            "nearest_patient_id": self.patient_ids.take(found.indices[:, 0]),
            "structure_score": copied.cosines[:, 0],
            "structure_image_id": self.image_ids.take(copied.indices[:, 0]),
            **{f"{eye}_score": seen[eye].cosines[:, 0] for eye in OTHERS},
            "is_copy": shows | distorted,
            "is_recognised": recognised | distorted,
            "image": [encode_png(image) for image in treated],
        }
        return pa.table(columns, schema=PLANTED)

    def _name(self, *made_of: str) -> str:
        """Name a picture so that a policy, which reads the name, can't tell a copy from a stranger by it."""
        return f"planted-{derive_seed(self.seed, 'name', *made_of):016x}"
