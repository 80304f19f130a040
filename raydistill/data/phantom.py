"""The embedded cohort: chest-radiograph-like pictures of invented patients whose truth is known.

A picture is a function of (seed, patient, visit, resolution) alone. The patient's anatomy persists, the visit changes
pose, breath, exposure and findings; `anatomy` says how, `attenuation` projects it, this module exposes the film.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydistill.core.errors import InputError
from raydistill.data.anatomy import FINDINGS, Draws, Floats, Parameters, clinic, mix, parameters
from raydistill.data.attenuation import Scene, attenuation

__all__ = ["FINDINGS", "Phantoms", "num_visits", "render"]

_CHUNK_PIXELS = 32_768  # float32 arrays of this many pixels stay in a core's cache
_VISITS_EXPONENT = 1.15  # 2**-1.15 = 45 % of patients have a second visit


@dataclass(frozen=True)
class Phantoms:
    """N pictures and their records.

    Attributes:
        images: uint8 (N, R, R), 8-bit grey; bone and fluid are bright.
        labels: findings of each picture, from `FINDINGS` in that order; empty for none.
        view: "PA" or "AP".
        sex: "F" or "M", constant over a patient's visits.
        age: float32 (N,), years, growing with the visit.
    """

    images: NDArray[np.uint8]
    labels: list[list[str]]
    view: list[str]
    sex: list[str]
    age: NDArray[np.float32]


def render(patients: NDArray[np.int64], visits: NDArray[np.int64], *, seed: int, resolution: int) -> Phantoms:
    """Render visits of patients.

    Args:
        patients: int64 (N,), patient numbers; any integers.
        visits: int64 (N,), visit numbers from 0.
        seed: the cohort's seed.
        resolution: side of the square images in pixels, 16 to 1024.

    Returns:
        The pictures and their records, row by row.

    Raises:
        InputError: if the rows don't match, a visit is negative, or the resolution is out of range.
    """
    patients, visits = np.asarray(patients, np.int64), np.asarray(visits, np.int64)
    if patients.ndim != 1 or patients.shape != visits.shape or (visits < 0).any():
        raise InputError("phantom: patients and visits must be two rows of equal length, visits counted from 0")
    if not 16 <= resolution <= 1024:
        raise InputError(f"phantom: a resolution of {resolution} can't be drawn; ask for 16 to 1024 pixels")
    patient, visit = Draws(seed, patients), Draws(seed, patients, visits)
    record = clinic(patient, visit, visits)
    images = _expose(parameters(patient, visit, record), visit.bits("grain"), resolution)
    return Phantoms(
        images=images,
        labels=[[name for name, there in zip(FINDINGS, row, strict=True) if there] for row in record.findings],
        view=np.where(record.portable, "AP", "PA").tolist(),
        sex=np.where(record.female, "F", "M").tolist(),
        age=record.age,
    )


def num_visits(patients: NDArray[np.int64], *, seed: int, max_visits: int) -> NDArray[np.int64]:
    """Return how many visits each patient has.

    Args:
        patients: int64 (N,), patient numbers.
        seed: the cohort's seed.
        max_visits: the most a patient has, at least 1.

    Returns:
        int64 (N,) in [1, max_visits]: n or more with probability n**-1.15, so 45 % have two or more.

    Raises:
        InputError: if `max_visits` is below 1.
    """
    if max_visits < 1:
        raise InputError(f"phantom: max_visits is {max_visits}; a patient has at least one visit")
    tail = Draws(seed, np.asarray(patients, np.int64)).uniform("visits").astype(np.float64)
    return np.clip(tail ** (-1.0 / _VISITS_EXPONENT), 1, max_visits).astype(np.int64)


def _expose(quantities: Parameters, grain: NDArray[np.uint64], resolution: int) -> NDArray[np.uint8]:
    images = np.empty((len(grain), resolution, resolution), np.uint8)
    rows = max(1, _CHUNK_PIXELS // resolution**2)
    for start in range(0, len(grain), rows):
        chunk = {name: values[start : start + rows] for name, values in quantities.items()}
        grey = _develop(chunk, attenuation(Scene.posed(chunk, resolution)))
        grey += chunk["noise"][:, None, None] * _noise(grain[start : start + rows], resolution)
        images[start : start + rows] = np.clip(grey * 255.0 + 0.5, 0.0, 255.0)
    return images


def _develop(chunk: Parameters, beam: Floats) -> Floats:
    """Return the film's grey in about [0, 1]: exposure, contrast, the tube's heel effect, collimation.

    Source: the characteristic curve is 1 - exp(-x**g), Beer-Lambert absorption with a contrast exponent.
    """
    film = {name: chunk[name][:, None, None] for name in ("exposure", "gamma", "black", "white", "border")}
    line = (np.arange(beam.shape[-1], dtype=np.float32) + 0.5) * np.float32(2.0 / beam.shape[-1]) - 1.0
    heel = 1.0 + chunk["heel_u"][:, None, None] * line + chunk["heel_v"][:, None, None] * line[:, None]
    dark = np.exp(-((beam * (2.0 * film["exposure"]) * heel) ** (1.15 * film["gamma"])))
    grey = film["black"] + (film["white"] - film["black"]) * (1.0 - dark)
    left, right, top, bottom = (edge[:, None] for edge in chunk["crop"].T)
    soft = np.float32(beam.shape[-1] / 2.0)
    columns = np.clip(np.minimum(line + 1.0 - left, 1.0 - right - line) * soft + 0.5, 0.0, 1.0)[:, None, :]
    lines = np.clip(np.minimum(line + 1.0 - top, 1.0 - bottom - line) * soft + 0.5, 0.0, 1.0)[:, :, None]
    field = columns * lines
    return np.asarray(grey * field + 0.9 * film["border"] * (1.0 - field))


def _noise(grain: NDArray[np.uint64], resolution: int) -> Floats:
    """Return grain of mean 0 and deviation 1, (B, R, R): a byte of hash for each pixel, uniform."""
    words = -(-(resolution**2) // 8)
    counters = mix(grain)[:, None] + np.arange(words, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    lanes = mix(counters).astype("<u8").view(np.uint8)[:, : resolution**2]
    return ((lanes.astype(np.float32) - 127.5) / np.float32(73.9)).reshape(-1, resolution, resolution)
