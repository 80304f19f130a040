"""The share of samples that show a gallery patient, corrected for what the auditor overlooks and what it imagines."""

import numpy as np
from scipy import stats

from raydistill.metrics.intervals import Rate
from raydistill.metrics.result import MetricResult, insufficient

UNIT = "share of samples that show a gallery patient"
REFERENCE = "Rogan and Gladen 1978; Lang and Reiczigel 2014"


def leak_rate(flagged: Rate, strangers: Rate, known: Rate, note: str = "") -> MetricResult:
    """Correct the share of flagged samples for the auditor's errors, as the prevalence of a disease for a test's.

    If a share x of the samples are new pictures of gallery patients and the others of nobody there, the auditor flags
    x t + (1 - x) f of them, where t is the share that it flags of new real images of gallery patients and f that of
    strangers. Whoever copies outright is flagged more often than t; x is then overestimated, and cut off at 1.

    Args:
        flagged: share of samples at or above the threshold.
        strangers: f, the share of unseen real images, or what stands for it.
        known: t, the share of withheld real images of gallery patients, whoever they are taken for.
        note: what was done to f.

    Returns:
        `leak_rate`; insufficient where the auditor can't tell gallery patients from strangers.

    Source: Rogan and Gladen 1978, American Journal of Epidemiology 107:71; interval for estimated error rates, Lang
    and Reiczigel 2014, Preventive Veterinary Medicine 113:13, here with effective sizes for clustered images.
    """
    confidence = flagged.confidence
    if known.low <= strangers.high:
        why = f"the auditor flags {known.value:.3g} of gallery patients' new images and {strangers.value:.3g} of others"
        return insufficient(why, n=flagged.n, unit=UNIT, confidence=confidence, reference=REFERENCE)
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    value = (flagged.value - strangers.value) / (known.value - strangers.value)
    size = flagged.n_eff + z * z
    seen = (flagged.value * flagged.n_eff + z * z / 2) / size
    errors = [(rate.value * rate.n_eff + 1) / (rate.n_eff + 2) for rate in (known, strangers)]
    spread = np.array([p * (1 - p) / (rate.n_eff + 2) for p, rate in zip(errors, (known, strangers), strict=True)])
    power = errors[0] - errors[1]
    centre = (seen - errors[1]) / power
    middle = centre + 2 * z * z * (centre * spread[0] - (1 - centre) * spread[1])
    variance = seen * (1 - seen) / size + centre**2 * spread[0] + (1 - centre) ** 2 * spread[1]
    half = z * np.sqrt(variance) / power
    low, high = float(middle - half), float(middle + half)
    return MetricResult(
        value=min(1.0, value),
        interval=(min(1.0, low, value), min(1.0, max(high, value))),
        confidence=confidence,
        n=flagged.n,
        unit=UNIT,
        estimator="(flagged - f) / (t - f), t and f measured on real images; Lang-Reiczigel interval, effective sizes",
        control=0.0,
        baseline=0.0,
        reference=REFERENCE,
        note=f"flagged {flagged.value:.4f}; f {strangers.value:.4f} of strangers, t {known.value:.4f} of new images of "
        f"gallery patients, each person counted once and as often as the gallery has such{note and f'; {note}'}",
    )
