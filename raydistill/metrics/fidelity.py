"""Fidelity of synthetic images to real ones, on the features of any extractor, always beside a real-against-real floor.

Features are (N, D) arrays of one fixed extractor; its choice decides what the numbers can see.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors

from raydistill.core.seeds import generator
from raydistill.metrics.bootstrap import resample, weighted_mean
from raydistill.metrics.intervals import clustered_rate
from raydistill.metrics.result import MetricResult, insufficient

Floats = NDArray[np.float64]

KID_BLOCKS = 10
KID_BLOCK_MIN = 4
PRDC_UNITS = {
    "precision": "share of synthetic images among the real ones",
    "recall": "share of real images among the synthetic ones",
    "density": "real neighbourhoods a synthetic image lies in, over k",
    "coverage": "share of real images with a synthetic neighbour",
}
PRDC_SOURCES = {
    "precision": "Kynkäänniemi et al. 2019",
    "recall": "Kynkäänniemi et al. 2019",
    "density": "Naeem et al. 2020",
    "coverage": "Naeem et al. 2020",
}


def all_metrics(
    real: Any,
    synthetic: Any,
    floor: Any,
    *,
    patients: Any = None,
    judged_patients: Any = None,
    k: int = 5,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, MetricResult]:
    """Return every fidelity metric of a synthetic set, each with that of a second real set as its control.

    Args:
        real: (N, D) features of the real images to compare with.
        synthetic: (M, D) features of the images to judge.
        floor: (L, D) features of other real images, of other patients: what perfect fidelity reaches. The larger of
            it and the judged set is cut to the other's size, as these metrics depend on it.
        patients: (N,) whose images the real ones are: not independent of each other.
        judged_patients: (M,) the same of the judged images, where they are real too; samples are independent.
        k: neighbourhood of precision, recall, density and coverage.
        confidence: two-sided confidence, in (0, 1).
        seed: root of the blocks and of the cut.

    Returns:
        `frechet_distance`, `kernel_distance`, `precision`, `recall`, `density`, `coverage`.
    """
    size = min(len(floor), len(synthetic))
    rows = [np.sort(generator(seed, "floor").permutation(len(one))[:size]) for one in (floor, synthetic)]
    second, synthetic = np.asarray(floor)[rows[0]], np.asarray(synthetic)[rows[1]]
    judged_patients = None if judged_patients is None else np.asarray(judged_patients)[rows[1]]
    reached = {
        "frechet_distance": frechet_distance(second, real).value,
        "kernel_distance": kernel_distance(second, real, confidence=confidence, seed=seed).value,
        **{name: result.value for name, result in prdc(real, second, k, confidence=confidence).items()},
    }
    how: dict[str, Any] = {"confidence": confidence, "seed": seed}
    whose = {"patients": patients, "judged_patients": judged_patients}
    return {
        "frechet_distance": frechet_distance(synthetic, real, control=reached["frechet_distance"]),
        "kernel_distance": kernel_distance(
            synthetic, real, clusters=(judged_patients, patients), control=reached["kernel_distance"], **how
        ),
        **prdc(real, synthetic, k, controls=reached, **whose, **how),
    }


def frechet_distance(a: Any, b: Any, *, control: float | None = None) -> MetricResult:
    """Return the squared Fréchet distance of two sets, taken as Gaussians.

    Args:
        a: (N, D) features.
        b: (M, D) features.
        control: the same distance between two real sets of this size.

    Source: |mean a - mean b|² + tr(A + B - 2 (A B)^½), Heusel et al. 2017 (NeurIPS, GANs Trained by a Two
    Time-Scale Update Rule); bias in n, Chong and Forsyth 2020 (CVPR).
    """
    x, y = _features(a), _features(b)
    unit, n = "squared feature units", len(x)
    if min(len(x), len(y)) < 2:
        return insufficient("a covariance needs 2 images a set", n=n, unit=unit, reference="Heusel et al. 2017")
    small = min(len(x), len(y)) < 10 * x.shape[1]
    bias = f"biased upwards: {min(len(x), len(y))} images for {x.shape[1]} features, fewer than ten each"
    return MetricResult(
        value=max(0.0, _frechet(x, y)),
        n=n,
        unit=unit,
        estimator="plug-in Gaussian moments; no interval, for resampling shifts the distance itself",
        control=control,
        baseline=0.0,
        reference="Heusel et al. 2017",
        note=f"against {len(y)} real images" + (f"; {bias}; compare at equal n only" if small else ""),
    )


def kernel_distance(
    a: Any,
    b: Any,
    *,
    clusters: tuple[Any, Any] = (None, None),
    control: float | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> MetricResult:
    """Return the kernel distance of two sets: unbiased squared MMD with the kernel (x·y / D + 1)³.

    Args:
        a: (N, D) features.
        b: (M, D) features.
        clusters: (N,) and (M,) patients of either set, whose images stay in one block; None where images are
            independent.
        control: the same distance between two real sets.
        confidence: two-sided confidence, in (0, 1).
        seed: root of the random blocks.

    Returns:
        The estimate, which may fall slightly below 0, with an interval from its values on disjoint blocks.

    Source: Bińkowski et al. 2018 (ICLR, Demystifying MMD GANs); block standard error, Zaremba et al. 2013 (NeurIPS).
    """
    x, y = _features(a), _features(b)
    unit, smallest = "squared MMD", min(len(x), len(y))
    if smallest < 2:
        return insufficient("an unbiased estimate needs 2 images a set", n=len(x), unit=unit, confidence=confidence)
    rng = generator(seed, "kernel_distance")
    parts = [_blocks(rows, own, rng) for rows, own in zip((x, y), clusters, strict=True)]
    value, reach = _squared_mmd(x, y), None
    if min(len(block) for side in parts for block in side) >= KID_BLOCK_MIN:
        error = stats.sem([_squared_mmd(one, other) for one, other in zip(*parts, strict=True)])
        reach = float(stats.t.ppf(0.5 + confidence / 2, KID_BLOCKS - 1) * error)
    return MetricResult(
        value=value,
        interval=None if reach is None else (value - reach, value + reach),
        confidence=confidence,
        n=len(x),
        unit=unit,
        estimator=f"unbiased on all images; t interval over {KID_BLOCKS} disjoint blocks at {100 * confidence:g} %",
        control=control,
        baseline=0.0,
        reference="Bińkowski et al. 2018",
        note=f"against {len(y)} real images" + ("" if reach is not None else "; too few images for an interval"),
    )


def prdc(
    real: Any,
    synthetic: Any,
    k: int = 5,
    *,
    patients: Any = None,
    judged_patients: Any = None,
    controls: Mapping[str, float | None] | None = None,
    confidence: float = 0.95,
    bootstrap: int = 500,
    seed: int = 0,
) -> dict[str, MetricResult]:
    """Return precision, recall, density and coverage by k-nearest-neighbour balls.

    Args:
        real: (N, D) features.
        synthetic: (M, D) features.
        k: neighbours that make the radius of a ball, the centre itself not counted.
        patients: (N,) patients of the real images, whose images then count as clusters.
        judged_patients: (M,) the same of the judged images, where they are real too.
        controls: the same four between two real sets, by name.
        confidence: two-sided confidence, in (0, 1), given the balls.
        bootstrap: resamples for density, which isn't a share.
        seed: root of those.

    Source: improved precision and recall, Kynkäänniemi et al. 2019 (NeurIPS), with closed balls; density and
    coverage, Naeem et al. 2020 (ICML).
    """
    x, y = _features(real), _features(synthetic)
    if min(len(x), len(y)) <= k:
        why = f"{k} neighbours need {k + 1} images a set"
        return {name: insufficient(why, n=len(y), unit=unit) for name, unit in PRDC_UNITS.items()}
    inside, found, covered = _balls(x, y, k)
    people, rows = _clusters(patients, len(x)), _clusters(judged_patients, len(y))
    hits = {"precision": (inside > 0, rows), "recall": (found, people), "coverage": (covered, people)}
    common = {name: _context(name, k, controls) for name in PRDC_UNITS}
    results = {name: clustered_rate(*pair, confidence, **common[name]) for name, pair in hits.items()}
    spread = resample(weighted_mean(inside / k), rows, repetitions=bootstrap, seed=seed).percentile(confidence)
    results["density"] = MetricResult(
        value=float(inside.mean() / k),
        interval=spread,
        confidence=confidence,
        n=len(y),
        estimator=f"mean over samples; bootstrap percentile interval at {100 * confidence:g} %",
        **common["density"],
    )
    return {name: results[name] for name in PRDC_UNITS}


def _context(name: str, k: int, controls: Mapping[str, float | None] | None) -> dict[str, Any]:
    return {
        "unit": PRDC_UNITS[name],
        "control": (controls or {}).get(name),
        "reference": PRDC_SOURCES[name],
        "note": f"k = {k}; interval given the neighbourhoods",
    }


def _frechet(x: Floats, y: Floats) -> float:
    """Distance through singular values: tr (A B)^½ is the nuclear norm of R_a R_bᵀ, where A = R_aᵀ R_a."""
    roots = [_root(x), _root(y)]
    shift = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    shared = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return float(shift + sum((root**2).sum() for root in roots) - 2 * shared)


def _root(x: Floats) -> Floats:
    centred: Floats = (x - x.mean(axis=0)) / np.sqrt(len(x) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r"))


def _clusters(given: Any, count: int) -> NDArray[Any]:
    return np.arange(count) if given is None else np.asarray(given)


def _blocks(rows: Floats, clusters: Any, rng: np.random.Generator) -> list[Floats]:
    """Deal the rows into disjoint blocks of about as many whole clusters each."""
    codes = np.unique(_clusters(clusters, len(rows)), return_inverse=True)[1]
    dealt = np.array_split(rng.permutation(int(codes.max()) + 1), KID_BLOCKS)
    return [rows[np.isin(codes, block)] for block in dealt]


def _squared_mmd(x: Floats, y: Floats) -> float:
    within = sum((_kernel(z, z).sum() - _kernel_diagonal(z).sum()) / (len(z) * (len(z) - 1)) for z in (x, y))
    return float(within - 2 * _kernel(x, y).mean())


def _kernel(x: Floats, y: Floats) -> Floats:
    return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)


def _kernel_diagonal(x: Floats) -> Floats:
    return np.asarray(((x * x).sum(axis=1) / x.shape[1] + 1) ** 3)


def _balls(x: Floats, y: Floats, k: int) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return how many balls of x hold each y (M,), which x lie in a ball of y, and which x hold a y in theirs (N,)."""
    around_x, around_y = _radii(x, k), _radii(y, k)
    inside, found, covered, start = np.zeros(len(y)), np.zeros(len(x), bool), np.zeros(len(x), bool), 0
    for distances in pairwise_distances_chunked(x, y):
        rows = slice(start, start + len(distances))
        held = distances <= around_x[rows, None]
        inside += held.sum(axis=0)
        covered[rows], found[rows] = held.any(axis=1), (distances <= around_y).any(axis=1)
        start = rows.stop
    return inside, found, covered


def _radii(x: Floats, k: int) -> Floats:
    return np.asarray(NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x).kneighbors()[0][:, -1])


def _features(values: Any) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or not np.isfinite(array).all():
        raise ValueError(f"features must be finite and (images, dimensions), got shape {array.shape}")
    return array
