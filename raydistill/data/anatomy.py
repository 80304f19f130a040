"""Who a phantom patient is and how a visit found them: numbers only, no pixels.

Lengths are in half-sides of the image: the picture spans [-1, 1] in both directions, `u` runs to the right of the
image (the patient's left), `v` runs down. Every quantity is a function of (seed, patient, visit, its name) through a
counter-based hash, so a row never depends on the rows around it. The ranges were set by eye against frontal
radiographs; they are no population statistics.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from raydistill.core.seeds import derive_seed

Floats = NDArray[np.floating[Any]]
"""float32 throughout; NumPy's own annotations lose the width when a Python number meets an array."""
Parameters = Mapping[str, Floats]
"""Named quantities, each of shape (N,), or (N, 2) for (patient's right, patient's left)."""

FINDINGS = ("effusion", "cardiomegaly", "nodule", "pneumothorax", "consolidation", "device")
"""The findings a phantom may show, in the order of their columns."""

_CHRONIC_SHARE = (0.13, 0.14, 0.11, 0.06, 0.08, 0.13)
_CHRONIC_RATE = (0.75, 0.92, 0.90, 0.65, 0.70, 0.95)
_ACUTE_RATE = (0.05, 0.015, 0.02, 0.02, 0.06, 0.015)
_MAX_FOLLOW_UP_YEARS = 15.0


def mix(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit counters into 64 random-looking bits each, a bijection.

    Source: the output function of SplitMix64; Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014.
    """
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


class Draws:
    """Named random numbers for N rows: row i depends on the seed, its own counters and the name, on nothing else."""

    def __init__(self, seed: int, *counters: NDArray[np.int64]) -> None:
        """Make the streams of N rows; each of `counters` is int64 of shape (N,)."""
        self._seed = seed
        self._rows = np.zeros(len(counters[0]), np.uint64)
        for counter in counters:
            self._rows = mix(self._rows + counter.astype(np.uint64))

    def bits(self, name: str) -> NDArray[np.uint64]:
        """Return 64 random bits a row, shape (N,)."""
        return mix(self._rows ^ np.uint64(derive_seed(self._seed, "phantom", name)))

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0) -> Floats:
        """Return uniforms in [low, high], float32 of shape (N,)."""
        unit = ((self.bits(name) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        return (low + (high - low) * unit).astype(np.float32)

    def normal(self, name: str, mean: float = 0.0, deviation: float = 1.0) -> Floats:
        """Return normals cut at 2.2 deviations, float32 of shape (N,)."""
        normals = np.clip(ndtri(self.uniform(name, 1e-3, 1 - 1e-3)), -2.2, 2.2)
        return np.asarray(np.float32(mean) + np.float32(deviation) * normals)

    def sides(self, name: str, mean: float, deviation: float, asymmetry: float = 0.4) -> Floats:
        """Return normals for right and left, float32 of shape (N, 2); `asymmetry` is each side's own share."""
        own = np.stack([self.normal(f"{name}/{side}") for side in ("right", "left")], axis=1)
        return np.float32(mean) + np.float32(deviation) * (self.normal(name)[:, None] + np.float32(asymmetry) * own)


@dataclass(frozen=True)
class Clinic:
    """What a record says about N pictures.

    Attributes:
        female: bool (N,), constant over a patient's visits.
        portable: bool (N,), true for an AP view.
        age: float32 (N,), years, strictly growing with the visit.
        findings: bool (N, 6), in the order of `FINDINGS`.
    """

    female: NDArray[np.bool_]
    portable: NDArray[np.bool_]
    age: NDArray[np.float32]
    findings: NDArray[np.bool_]


def clinic(patient: Draws, visit: Draws, visits: NDArray[np.int64]) -> Clinic:
    """Draw sex, age, view and findings: patients have chronic tendencies, visits vary around them.

    Args:
        patient: streams of (patient,).
        visit: streams of (patient, visit).
        visits: int64 (N,), the visit's number from 0.

    Returns:
        The clinic of the N rows.
    """
    chronic = np.stack([patient.uniform(f"chronic/{name}") for name in FINDINGS], axis=1) < _CHRONIC_SHARE
    rate = np.where(chronic, _CHRONIC_RATE, _ACUTE_RATE)
    findings = np.stack([visit.uniform(f"present/{name}") for name in FINDINGS], axis=1) < rate
    frailty = patient.uniform("frailty") ** 2 * 0.8 + 0.25 * findings[:, [0, 3, 5]].any(axis=1)
    # A jitter below one visit keeps the order; the bound keeps a patient with a hundred visits alive.
    elapsed = patient.uniform("years_per_visit", 0.05, 1.5) * (visits + 0.8 * visit.uniform("interval"))
    follow_up = -_MAX_FOLLOW_UP_YEARS * np.expm1(-elapsed / _MAX_FOLLOW_UP_YEARS)
    age = 18.0 + 64.0 * patient.uniform("age") ** 0.8 + follow_up
    return Clinic(
        female=patient.uniform("sex") < 0.49,
        portable=visit.uniform("view") < frailty,
        age=age.astype(np.float32),
        findings=findings,
    )


def parameters(patient: Draws, visit: Draws, record: Clinic) -> Parameters:
    """Draw every quantity a picture needs.

    Args:
        patient: streams of (patient,): anatomy, and where a patient's findings sit.
        visit: streams of (patient, visit): pose, breath, exposure, and how far a finding has gone.
        record: what the record says, which shapes the picture.

    Returns:
        Quantities by name; lengths in half-sides of the image, angles in radians.
    """
    return {
        **_pose(visit),
        **_trunk(patient, visit, record),
        **_bones(patient, record),
        **_mediastinum(patient, record),
        **_marks(patient),
        **_findings(patient, visit, record),
        **_film(visit, record),
    }


def _pose(visit: Draws) -> dict[str, Floats]:
    return {
        "shift_u": visit.normal("shift_u", 0.0, 0.02),
        "shift_v": visit.normal("shift_v", 0.0, 0.025),
        "turn": visit.normal("turn", 0.0, 0.016),
        "scale": np.exp(visit.normal("scale", 0.0, 0.02)),
        "stretch": np.exp(visit.normal("stretch", 0.0, 0.012)),
    }


def _trunk(patient: Draws, visit: Draws, record: Clinic) -> dict[str, Floats]:
    female, portable = record.female.astype(np.float32), record.portable.astype(np.float32)
    breath = visit.normal("breath", 0.0, 0.025) - 0.06 * portable
    small = (1.0 - 0.06 * female)[:, None]
    lung_x = patient.normal("lung_x", 0.29, 0.02)[:, None]
    return {
        "torso": patient.normal("torso", 0.91, 0.07) - 0.04 * female,
        "arm": patient.uniform("arm", 0.1, 0.45) + visit.uniform("arm", -0.06, 0.06),
        "axilla": patient.normal("axilla", 0.05, 0.14),
        "shoulder": patient.normal("shoulder", -0.81, 0.045) + 0.015 * visit.normal("shrug") - 0.02 * portable,
        "shoulder_slope": patient.normal("shoulder_slope", 0.20, 0.06),
        "neck": patient.normal("neck", 0.052, 0.009) - 0.008 * female,
        "fat": patient.normal("fat", 0.0, 0.06),
        "aeration": patient.normal("aeration", 0.30, 0.035) + 0.25 * breath,
        "lung_x": np.repeat(lung_x, 2, axis=1),
        "lung_width": patient.sides("lung_width", 0.39, 0.035) * small,
        "lung_apex": patient.sides("lung_apex", 1.03, 0.05, 0.3) * small,
        "lung_level": patient.normal("lung_level", 0.27, 0.03) + 0.3 * breath,
        "dome": patient.sides("dome", 0.0, 0.045, 0.7) + np.stack([0.33 + breath, 0.38 + breath], axis=1),
        "dome_x": patient.sides("dome_x", 0.28, 0.04),
        "dome_bend": patient.sides("dome_bend", 1.35, 0.3),
        "gas": visit.uniform("gas", -0.6, 1.0).clip(0.0) * patient.uniform("gas", 0.3, 1.0),
        "gas_x": patient.normal("gas_x", 0.33, 0.06),
        "breast": female * patient.uniform("breast", 0.35, 1.0),
        "breast_x": patient.normal("breast_x", 0.43, 0.04),
        "breast_y": patient.normal("breast_y", 0.27, 0.07),
        "breast_size": patient.normal("breast_size", 0.27, 0.035),
    }


def _bones(patient: Draws, record: Clinic) -> dict[str, Floats]:
    mineral = patient.normal("mineral", 1.0, 0.15) - 0.004 * (record.age - 50.0)
    blade = patient.sides("blade_x", 0.57, 0.03) - (0.13 * record.portable.astype(np.float32))[:, None]
    return {
        "mineral": mineral.clip(0.55, 1.4),
        "rib_pitch": patient.normal("rib_pitch", 0.165, 0.012),
        "rib_phase": patient.sides("rib_phase", 0.0, 0.3, 0.35),
        "rib_slope": patient.sides("rib_slope", 0.06, 0.09),
        "rib_bend": patient.sides("rib_bend", 0.42, 0.14),
        "rib_front": patient.sides("rib_front", 0.55, 0.15),
        "rib_front_phase": patient.sides("rib_front_phase", 0.0, 0.35, 0.35),
        "rib_strength": patient.normal("rib_strength", 0.075, 0.015),
        "clavicle": patient.sides("clavicle", -0.56, 0.04, 0.5),
        "clavicle_slope": patient.sides("clavicle_slope", -0.15, 0.05, 0.5),
        "clavicle_wave": patient.sides("clavicle_wave", 0.03, 0.02, 0.4),
        "clavicle_width": patient.normal("clavicle_width", 0.034, 0.005),
        "blade": blade,
        "humerus": patient.sides("humerus", 0.86, 0.03),
        "spine_bend": patient.normal("spine_bend", 0.0, 0.035),
        "spine_lean": patient.normal("spine_lean", 0.0, 0.02),
        "spine_width": patient.normal("spine_width", 0.065, 0.008),
        "vertebra": patient.normal("vertebra", 0.118, 0.008),
    }


def _mediastinum(patient: Draws, record: Clinic) -> dict[str, Floats]:
    portable = record.portable.astype(np.float32)
    large = (
        1.0 + record.findings[:, 1].astype(np.float32) * patient.uniform("cardiomegaly", 0.30, 0.48) + 0.09 * portable
    )
    return {
        "heart_x": patient.normal("heart_x", 0.085, 0.025) + 0.07 * (large - 1.0),
        "heart_y": patient.normal("heart_y", 0.21, 0.03),
        "heart_long": patient.normal("heart_long", 0.33, 0.028) * large,
        "heart_short": patient.normal("heart_short", 0.225, 0.018) * (1.0 + 0.7 * (large - 1.0)),
        "heart_tilt": patient.normal("heart_tilt", 0.60, 0.16),
        "trunk_width": patient.sides("trunk_width", 0.125, 0.018, 0.6) * (1.0 + 0.15 * portable)[:, None],
        "knob": (patient.normal("knob", 0.045, 0.02) + 0.0009 * (record.age - 45.0)).clip(0.0),
        "knob_y": patient.normal("knob_y", -0.33, 0.04),
        "pulmonary": patient.sides("pulmonary", 0.035, 0.018, 0.7),
        "hilum_y": patient.sides("hilum_y", -0.06, 0.035),
        "hilum": patient.sides("hilum", 0.15, 0.05, 0.6).clip(0.02),
        "trachea_x": patient.normal("trachea_x", -0.012, 0.018),
        "carina": patient.normal("carina", -0.27, 0.035),
        **{f"vessel_{i}": patient.uniform(f"vessel_{i}", -np.pi, np.pi) for i in range(6)},
        "vessels": patient.uniform("vessels", 0.10, 0.20),
    }


def _marks(patient: Draws) -> dict[str, Floats]:
    marks: dict[str, Floats] = {}
    for i in range(3):
        lateral = patient.uniform(f"mark_side_{i}", -1.0, 1.0)
        marks[f"mark_x_{i}"] = np.sign(lateral) * (0.24 + 0.34 * np.abs(lateral))
        marks[f"mark_y_{i}"] = patient.uniform(f"mark_y_{i}", -0.55, 0.25)
        marks[f"mark_size_{i}"] = patient.uniform(f"mark_size_{i}", 0.018, 0.034)
        marks[f"mark_{i}"] = patient.uniform(f"mark_{i}", -0.4, 0.5).clip(0.0)
    return marks


def _findings(patient: Draws, visit: Draws, record: Clinic) -> dict[str, Floats]:
    effusion, _, nodule, pneumothorax, consolidation, device = record.findings.astype(np.float32).T

    def one_side(name: str, both: float = 0.0) -> Floats:
        where = patient.uniform(name)
        return np.stack([where < 0.5 + both, where > 0.5 - both], axis=1).astype(np.float32)

    level = visit.uniform("effusion", 0.16, 0.48) * effusion
    gap = visit.uniform("pneumothorax", 0.11, 0.24) * pneumothorax
    return {
        "effusion": one_side("effusion_side", 0.12) * level[:, None],
        "pneumothorax": one_side("pneumothorax_side") * gap[:, None],
        "nodule": nodule * patient.uniform("nodule", 0.24, 0.36),
        "nodule_x": np.sign(patient.uniform("nodule_side", -1.0, 1.0)) * patient.uniform("nodule_x", 0.30, 0.50),
        "nodule_y": patient.uniform("nodule_y", -0.45, 0.15),
        "nodule_size": patient.uniform("nodule_size", 0.06, 0.095) * visit.uniform("nodule_growth", 0.9, 1.2),
        "consolidation": consolidation * visit.uniform("consolidation", 0.6, 0.95),
        "consolidation_x": np.sign(patient.uniform("lobe", -1.0, 1.0)) * visit.uniform("consolidation_x", 0.28, 0.46),
        "consolidation_y": visit.uniform("consolidation_y", -0.40, 0.20),
        "consolidation_size": visit.uniform("consolidation_size", 0.15, 0.25),
        "device": device,
        "device_side": np.where(patient.uniform("device_side") < 0.6, 1.0, -1.0).astype(np.float32),
        "device_x": patient.uniform("device_x", 0.40, 0.54),
        "device_y": patient.uniform("device_y", -0.48, -0.34),
        "device_size": patient.uniform("device_size", 0.065, 0.105),
        "device_turn": patient.uniform("device_turn", -0.6, 0.6),
    }


def _film(visit: Draws, record: Clinic) -> dict[str, Floats]:
    portable = record.portable.astype(np.float32)
    crop = np.stack([visit.uniform(f"crop/{edge}", -2.0, 0.16) for edge in ("left", "right", "top", "bottom")], axis=1)
    return {
        "exposure": np.exp(visit.normal("exposure", 0.0, 0.16)),
        "gamma": np.exp(visit.normal("gamma", 0.0, 0.18) - 0.16 * portable - 0.002 * (record.age - 50.0)),
        "black": visit.uniform("black", 0.0, 0.06) + 0.05 * portable * visit.uniform("haze"),
        "white": visit.uniform("white", 0.78, 0.97),
        "heel_u": visit.normal("heel_u", 0.0, 0.035),
        "heel_v": visit.normal("heel_v", 0.0, 0.035),
        "noise": visit.uniform("noise", 0.004, 0.014),
        "crop": crop.clip(0.0),
        "border": (visit.uniform("border") < 0.15).astype(np.float32),
    }
