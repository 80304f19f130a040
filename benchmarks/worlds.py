"""Worlds whose truth is known: a cohort of phantoms, and generators of which it is known whom they leak.

What judges them is the product's own: roles, galleries, matching, audit, and the audit's part of the gate, which is
its budgets and what it calls too little evidence. The gate's other checks aren't tried: membership and utility, which
need the student itself, samples asked for harder, the filter's self-test. The networks aren't trained here; they are
the packaged ones, which saw other phantoms.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raydistill.core.columns import ROLES, SAMPLES
from raydistill.core.config import Budgets, EvaluateConfig, IngestConfig, SelfTestConfig
from raydistill.core.generation import MatchConfig
from raydistill.core.seeds import derive_seed, generator
from raydistill.core.sources import PhantomSource
from raydistill.core.store import Store
from raydistill.data.distortions import TREATMENTS, distort
from raydistill.data.images import encode_png
from raydistill.data.phantom import render
from raydistill.distributed.shards import Piece
from raydistill.metrics.gate import risk_checks
from raydistill.metrics.result import MetricResult, Verdict, decide
from raydistill.metrics.shortfalls import short_of_evidence
from raydistill.reid.model import PUBLIC, PUBLIC_SIDE
from raydistill.stages.audit import audit
from raydistill.stages.base import Context
from raydistill.stages.embed import PICTURES, EmbedConfig, EmbedPiece, in_groups
from raydistill.stages.gallery import GALLERY, Galleries, Plan, digest_of
from raydistill.stages.images import pixels
from raydistill.stages.ingest import Ingest, IngestNodeConfig
from raydistill.stages.match import MatchPiece
from raydistill.stages.sight import SightConfig, SightShard

Grey = NDArray[np.uint8]

STRANGERS, NEW_VISITS = 10**6, 100
"""Phantoms from this number on are in no cohort, and visits from this number on in no record."""

MATCH = MatchConfig(top_k=1)
ROWS = 256


class World:
    """A cohort, its gallery and an auditor.

    Args:
        folder: where its tables are written.
        seed: of the cohort.
        patients: of the cohort.
        auditor: kind of the packaged network that judges.
        left_out: whether somebody leaves a train patient out of the gallery.
    """

    def __init__(
        self, folder: str, seed: int, patients: int, auditor: str = "regnet", *, left_out: bool = False
    ) -> None:
        self.store, self.seed = Store.open(folder), seed
        source = PhantomSource(kind="phantom", num_patients=patients, resolution=PUBLIC_SIDE, seed=seed)
        # Phantoms have no duplicates, and looking for them takes longer than all else.
        ingest = IngestConfig(resolution=PUBLIC_SIDE, near_duplicate_similarity=None)
        node = Ingest("ingest", IngestNodeConfig(source=source, ingest=ingest), {}, seed)
        node.run(Context(inputs={}, out=self.store / "ingest", work=self.store / "work", seed=seed))
        self.roles = {role: self.store / "ingest" / role for role in ROLES}
        self.eyes = {"auditor": Store.open(str(PUBLIC / auditor))}
        shown = {"gallery": self.roles["train"], "strangers": self.roles["evaluation"]}
        if left_out:
            train = self.records("train")
            first = train["patient_id"][0]
            (self.store / "others").write_table(
                "part-0.parquet", train.filter(pc.not_equal(train["patient_id"], first))
            )
            shown["gallery"] = self.store / "others"
        for name, images in shown.items():
            self._embed(images, self.store / name)
        plan = Plan(self.store / "gallery", ("auditor",), self.store / "strangers", seed)
        self.galleries = Galleries(plan)
        ids = self.galleries.image_ids()
        self.gallery = {"images": len(ids), "sha256": digest_of(ids)}
        for role in ("probe", "calibration", "evaluation"):
            self._match(role, self.roles[role])
        self._plant()

    def records(self, role: str) -> pa.Table:
        """Read the records of a role."""
        return self.roles[role].read_table()

    def audited(self, images: Grey, name: str) -> dict[str, MetricResult]:
        """Audit images as if a student had made them.

        Args:
            images: (N, R, R) uint8.
            name: of a folder for the tables.
        """
        samples = self.store / f"{name}_images"
        columns: dict[str, Any] = {field.name: pa.nulls(len(images), field.type) for field in SAMPLES}
        columns |= {"sample_id": [f"{row:06d}" for row in range(len(images))], "prompt": ["chest x-ray"] * len(images)}
        columns |= {"seed": range(len(images)), "image": [encode_png(image) for image in images]}
        samples.write_table("part-0.parquet", pa.table(columns, schema=SAMPLES), ROWS)
        self._match("samples", samples, self.store / name)
        (self.store / name).write_json(GALLERY, self.gallery)
        for role in ("probe", "calibration", "evaluation"):
            (self.store / name / role).write_table("part-0.parquet", (self.store / "matches" / role).read_table())
        inputs = {"matches": self.store / name, "images": samples, "selftest": self.store, **self.roles}
        context = Context(inputs=inputs, out=self.store / f"{name}_audit", work=self.store / "work", seed=self.seed)
        return audit(context, EvaluateConfig())

    def verdict(self, metrics: dict[str, MetricResult], budgets: Budgets) -> tuple[Verdict, list[str]]:
        """Return what the audit's part of the gate says: verdict and reasons."""
        patients = len(set(self.records("evaluation")["patient_id"].to_pylist()))
        return decide(risk_checks(metrics, budgets), short_of_evidence(metrics, patients, budgets))

    def _embed(self, images: Store, out: Store) -> None:
        config = EmbedConfig(batch_size=MATCH.batch_size, near_copy_max_shift=2, compute=MATCH.compute)
        work = EmbedPiece(images, self.eyes, config)
        for name in images.shards():
            made = [work(piece) for piece in in_groups(images, name, name, []).pieces]
            for folder, tables in zip((*self.eyes, *PICTURES), zip(*made, strict=True), strict=True):
                (out / folder).write_tables(name, list(tables))

    def _match(self, role: str, images: Store, out: Store | None = None) -> None:
        out = out or self.store / "matches"
        work = MatchPiece(self.eyes, {role: images}, self.galleries, MATCH)
        for name in images.shards():
            tables = [work(piece)[0] for piece in in_groups(images, name, f"{role}/{name}", []).pieces]
            (out / role).write_tables(name, tables)

    def _plant(self) -> None:
        """Plant copies of train images as an audit does that has no teacher to make any."""
        how = SightConfig(selftest=SelfTestConfig(), match=MATCH)
        shown = {"eye_auditor": self.eyes["auditor"], "train": self.roles["train"]}
        plant = SightShard(shown, self.galleries, how, self.seed)
        for treatment in TREATMENTS:
            name = f"{treatment}.parquet"
            (planted,) = plant(Piece(name, 0, 0, how.selftest.num_images))
            (self.store / "planted").write_table(name, planted)


Make = Callable[[World, int, np.random.Generator], Grey]


@dataclass(frozen=True)
class Truth:
    """A generator of which everything is known.

    Attributes:
        make: draws so many images.
        leak: share of them that show a gallery patient.
        right: the verdict that is right; two where evidence may honestly not suffice. What copies mustn't pass, however
            little and whatever the budget; who shows as many people as the budget allows mustn't either; and where
            nothing leaks `fail` is a false accusation. Of a leak within the budget no verdict is wrong: none is named,
            and only the interval is held against the truth.
        patients: of its cohort, where it isn't the usual number.
        samples: drawn of it, where it isn't the usual number.
    """

    make: Make
    leak: float
    right: tuple[Verdict, ...]
    patients: int | None = None
    samples: int | None = None

    def __post_init__(self) -> None:
        """Refuse a verdict that can't be right."""
        if ("pass" if self.leak else "fail") in self.right:
            raise ValueError(f"a leak of {self.leak:g} can't rightly end in {' or '.join(self.right)}")


def strangers(world: World, number: int, rng: np.random.Generator, people: int | None = None) -> Grey:
    """Draw phantoms of the cohort's population who aren't in it; of so few people, where a number is given."""
    who = STRANGERS + rng.integers(10**6, size=number if people is None else people)
    who = who if people is None else who[rng.integers(people, size=number)]
    visits = np.zeros(number, int) if people is None else rng.integers(3, size=number)
    return render(who, visits, seed=world.seed, resolution=PUBLIC_SIDE).images


def copies(world: World, number: int, rng: np.random.Generator) -> Grey:
    """Return train images as they are."""
    images = pixels(world.records("train").select(["image"]))
    return images[rng.integers(len(images), size=number)]


def perturbed(world: World, number: int, rng: np.random.Generator, treatments: tuple[str, ...] = TREATMENTS) -> Grey:
    """Return train images, treated by turns."""
    images = copies(world, number, rng)
    for turn, treatment in enumerate(treatments):
        rows = np.arange(turn, number, len(treatments))
        images[rows] = distort(images[rows], treatment, rng.integers(2**31, size=len(rows)).tolist())
    return images


def same_people(world: World, number: int, rng: np.random.Generator) -> Grey:
    """Return new visits of train patients: another pose, breath and exposure of the same anatomy."""
    ids = sorted(set(world.records("train")["patient_id"].to_pylist()))
    who = np.array([int(name.removeprefix("phantom-")) for name in ids])[rng.integers(len(ids), size=number)]
    visits = NEW_VISITS + rng.integers(10**6, size=number)
    return render(who, visits, seed=world.seed, resolution=PUBLIC_SIDE).images


def average(world: World, number: int, rng: np.random.Generator) -> Grey:
    """Draw pictures that are more average than people's: means of two phantoms of no cohort."""
    pair = [strangers(world, number, rng).astype(np.uint16) for _ in range(2)]
    return np.asarray(sum(pair) // 2, dtype=np.uint8)


def partly(
    world: World, number: int, rng: np.random.Generator, leaked: Make, share: float, others: Make = strangers
) -> Grey:
    """Return phantoms of no cohort, and a share of what leaks."""
    images, count = others(world, number, rng), round(share * number)
    images[rng.permutation(number)[:count]] = leaked(world, count, rng)
    return images


half_average = partial(partly, leaked=average, share=0.5)

TRUTHS = {
    "exact copier": Truth(copies, 1.0, ("fail",)),
    "copier with perturbations": Truth(perturbed, 1.0, ("fail",)),
    "1 % copier": Truth(partial(partly, leaked=copies, share=0.01), 0.01, ("fail",)),
    "perturbed 1 % copier": Truth(
        partial(partly, leaked=partial(perturbed, treatments=("shift", "crop", "blur")), share=0.01), 0.01, ("fail",)
    ),
    # What a teacher that learned from mirrored images too makes of those it knows by heart.
    "mirrored 5 % copier": Truth(
        partial(partly, leaked=partial(perturbed, treatments=("mirror",)), share=0.05), 0.05, ("fail",)
    ),
    # As many people and samples as an honest generator passes with. Pixel by pixel these are no copies; a network sees.
    "moved 1 % copier": Truth(
        partial(partly, leaked=partial(perturbed, treatments=("shift", "crop", "rotate")), share=0.01),
        0.01,
        ("fail",),
        patients=2000,
        samples=2000,
    ),
    "identity leaker": Truth(same_people, 1.0, ("fail",)),
    "30 % identity leaker": Truth(partial(partly, leaked=same_people, share=0.3), 0.3, ("fail",)),
    "10 % identity leaker": Truth(
        partial(partly, leaked=same_people, share=0.1), 0.1, ("fail", "insufficient_evidence")
    ),
    # What a model makes resembles nobody as much as people do: strangers are a control that leaves room for a leak.
    "average, 8 % identity leaker": Truth(
        partial(partly, leaked=same_people, share=0.08, others=average),
        0.08,
        ("fail", "insufficient_evidence"),
        patients=2000,
        samples=2000,
    ),
    # As much as the budget allows, and less.
    "5 % identity leaker": Truth(
        partial(partly, leaked=same_people, share=0.05),
        0.05,
        ("fail", "insufficient_evidence"),
        patients=2000,
        samples=2000,
    ),
    "2 % identity leaker": Truth(
        partial(partly, leaked=same_people, share=0.02), 0.02, (), patients=2000, samples=2000
    ),
    # Half way between people and averages, a ratio of the control that few cohorts prove to be below 1.
    "half average, 8 % identity leaker": Truth(
        partial(partly, leaked=same_people, share=0.08, others=half_average),
        0.08,
        ("fail", "insufficient_evidence"),
        patients=2000,
        samples=2000,
    ),
    "half average and honest": Truth(half_average, 0.0, ("pass", "insufficient_evidence"), patients=2000, samples=2000),
    # A claim that nobody is shown takes more people than the proof that somebody is: most of these pass.
    "average and honest": Truth(average, 0.0, ("pass", "insufficient_evidence"), patients=2000, samples=2000),
    "honest": Truth(strangers, 0.0, ("pass", "insufficient_evidence"), patients=2000, samples=2000),
    "honest, fewer people": Truth(strangers, 0.0, ("pass", "insufficient_evidence")),
    "mode-collapsed": Truth(partial(strangers, people=3), 0.0, ("insufficient_evidence",)),
    "too small to tell": Truth(strangers, 0.0, ("insufficient_evidence",), patients=60),
}

LARGE = {
    "honest, many people": Truth(strangers, 0.0, ("pass",), patients=8000, samples=8000),
    "average and honest, many people": Truth(average, 0.0, ("pass",), patients=8000, samples=8000),
}
"""So many that an honest generator must pass."""


def drawn(truth: Truth, world: World, number: int, name: str) -> Grey:
    """Draw from a generator; another sequence for each world and name."""
    return truth.make(world, number, generator(derive_seed(world.seed, name), "draw"))
