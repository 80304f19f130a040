"""How well a filter's operating point holds: on probes, on strangers, on planted near-copies, between eyes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from raydistill.metrics.bootstrap import resample, weighted_mean
from raydistill.metrics.intervals import clustered_rate
from raydistill.metrics.result import MetricResult

GENERATED = "noise_"
"""How the names of treatments begin that push an image through the model's own noise and back."""


def agreement(
    a: NDArray[np.bool_], b: NDArray[np.bool_], clusters: Any, confidence: float = 0.95, seed: int = 0
) -> dict[str, Any]:
    """Compare two flagged sets over the same samples.

    Args:
        a: (N,) flags of one eye.
        b: (N,) flags of another, in the same order.
        clusters: (N,) the patient each sample is nearest to.
        confidence: two-sided confidence of the interval, in (0, 1).
        seed: root of the resamples.

    Returns:
        `jaccard` in [0, 1] (1 when neither flags anything) and `jaccard_interval` (None when there is nothing to
        resample), `kappa` in [-1, 1] (1 when the flags are equal), and the counts `both`, `either`, `n`.

    Source: Jaccard 1912; Cohen 1960; the interval as in `Resamples.logit`.
    """
    both, either = a & b, a | b
    kappa = 1.0 if np.array_equal(a, b) else float(cohen_kappa_score(a, b))
    jaccard, interval = 1.0, None
    if either.any():
        jaccard = float(both.sum() / either.sum())
        flagged = np.asarray(clusters)[either]
        spread = resample(weighted_mean(both[either]), flagged, seed=seed)
        interval = spread.logit(jaccard, spread.num_clusters, confidence)
    counts = {"both": int(both.sum()), "either": int(either.sum()), "n": len(a)}
    return {"jaccard": jaccard, "jaccard_interval": interval, "kappa": kappa, **counts}


def filter_metrics(
    reasons: Mapping[str, int],
    probe: pa.Table,
    calibration: pa.Table,
    *,
    known: NDArray[np.bool_],
    strangers: NDArray[np.bool_],
    confidence: float,
) -> dict[str, MetricResult]:
    """Count the verdicts, and measure FPIR and TPIR of the whole filter (identity or structure).

    Args:
        reasons: samples by the reason of their verdict.
        probe: columns.MATCHES of withheld images of train patients.
        calibration: columns.MATCHES of people nobody trained on.
        known: what the filter would drop of `probe`, one a row.
        strangers: what the filter would drop of `calibration`, one a row.
        confidence: of the intervals.

    Returns:
        `kept`, `dropped.<reason>`, `fpir`, `smallest_fpir`, `tpir`.

    Source: FPIR and TPIR as in ISO/IEC 19795-1 (open-set identification).
    """
    n = sum(reasons.values())
    counted = {
        ("kept" if reason == "kept" else f"dropped.{reason}"): MetricResult(
            value=count, n=n, unit="samples", estimator="count", table="verdicts", confidence=confidence
        )
        for reason, count in sorted({"kept": 0, **reasons}.items())
    }
    patients = probe["query_patient_id"].to_numpy()
    right = probe["nearest_patient_id"].to_numpy() == patients
    strange = len(set(calibration["query_patient_id"].to_pylist()))
    return {
        **counted,
        "smallest_fpir": MetricResult(
            value=1 / (strange + 1),
            n=calibration.num_rows,
            unit="share of calibration images",
            estimator=f"1 / (patients + 1), of {strange} calibration patients: no smaller rate can be supported",
            confidence=confidence,
            reference="Vovk et al. 2005, prop. 2.4",
        ),
        "fpir": clustered_rate(
            strangers,
            calibration["query_patient_id"].to_numpy(),
            confidence,
            unit="share of calibration images",
            exact=True,
        ),
        "tpir": clustered_rate(
            known & right,
            patients,
            confidence,
            unit="share of probe images flagged, the right patient on top",
            exact=True,
        ),
    }


def selftest_metrics(
    planted: pa.Table, flagged: NDArray[np.bool_], agreements: list[dict[str, Any]], confidence: float
) -> dict[str, MetricResult]:
    """Measure the filter on pictures whose truth is known.

    Args:
        planted: the self-test's table; `source_role` train are near-copies where `is_copy`, calibration are innocent.
        flagged: what the filter would drop of them, one a row.
        agreements: one entry a pair of eyes, from `agreement`, with `eyes`, and `among` what.
        confidence: of the intervals.

    Returns:
        `sensitivity`, `false_flag_rate`, by treatment too, and as `.generator` over all copies that the model made
        itself, and as `.generator_recognised` over those that another network calls copies, without the pixels' word.
        By treatment, and as `.generator_all`, every picture counts as a copy; `still_copies` is the share that are.
        `consistency_jaccard` and `consistency_kappa` among planted pictures, as `.identity` by the networks without the
        structural measure that all share, as `.generator` among those of them that the model made, and as `.samples`
        among the teacher's. Where nothing is memorised the latter
        compare false alarms, and few of those are shared.
    """
    roles, treatments, patients = (planted[name].to_numpy() for name in ("source_role", "treatment", "patient_id"))
    results, made = {}, np.char.startswith(treatments.astype(str), GENERATED)
    shows, recognised = (planted[name].to_numpy(zero_copy_only=False) for name in ("is_copy", "is_recognised"))
    for metric, role, unit in (
        ("sensitivity", "train", "share of planted near-copies"),
        ("false_flag_rate", "calibration", "share of treated images of strangers"),
    ):
        mine = roles == role
        counted = mine & shows if role == "train" else mine
        parts = {"": counted, ".generator": counted & made}
        if role == "train":
            parts |= {".generator_recognised": mine & made & recognised, ".generator_all": mine & made}
        parts |= {f".{name}": mine & (treatments == name) for name in sorted(set(treatments[mine]))}
        for name, rows in parts.items():
            results[f"{metric}{name}"] = clustered_rate(flagged[rows], patients[rows], confidence, unit=unit)
    rows = made & (roles == "train")
    results["still_copies"] = clustered_rate(
        shows[rows], patients[rows], confidence, unit="share of what the model made of train images"
    )
    for among in sorted({entry["among"] for entry in agreements}):
        own = [entry for entry in agreements if entry["among"] == among]
        suffix = "" if among == "planted" else f".{among}"
        for name in ("jaccard", "kappa"):
            results[f"consistency_{name}{suffix}"] = _worst_agreement(own, name, confidence)
    return results


def _worst_agreement(agreements: list[dict[str, Any]], name: str, confidence: float) -> MetricResult:
    at_worst = [(entry.get(f"{name}_interval") or (entry[name],))[0] for entry in agreements]
    worst = agreements[int(np.argmin(at_worst))]
    return MetricResult(
        value=worst[name],
        interval=worst.get(f"{name}_interval"),
        n=worst["n"],
        unit=f"{name} of the flagged sets",
        estimator="the pair of eyes that may agree least, each with the structural measure, at equal FPIR",
        note=f"{worst['among']}; between {' and '.join(worst['eyes'])}; {worst['both']} flagged by both, "
        f"{worst['either']} by either",
        confidence=confidence,
        table="agreement.json",
    )
