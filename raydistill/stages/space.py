"""What the search may set: what is open, what stays, and what of it the cohort supports."""

from collections.abc import Mapping
from typing import Any

from raydistill.core.searching import SearchSpace
from raydistill.distributed.tune import Bounds

IS_LOG = {"target_fpir": True, "near_copy_fpir": True, "patient_quota": True, "balance": False, "prompt_patients": True}
FPIRS = ("target_fpir", "near_copy_fpir")
IS_WHOLE = ("patient_quota", "prompt_patients", "num_inference_steps")
CHOICES = {"guidance_scale": "guidance_scales", "num_inference_steps": "steps"}
"""Settings that are one of a few values, by what the configuration calls those."""


def bounds_of(space: SearchSpace) -> dict[str, Bounds | tuple[float, ...]]:
    """Return the range of every setting that is used, or all that it may be."""
    ranges = {name: getattr(space, name) for name in IS_LOG}
    bounds: dict[str, Bounds | tuple[float, ...]] = {
        name: Bounds(ends[0], ends[1], is_log=IS_LOG[name], is_whole=name in IS_WHOLE)
        for name, ends in ranges.items()
        if ends is not None
    }
    return bounds | {name: getattr(space, values) for name, values in CHOICES.items() if getattr(space, values)}


def searched(space: SearchSpace) -> dict[str, Bounds | tuple[float, ...]]:
    """Return the range of every setting that may be more than one value."""
    return {
        name: values
        for name, values in bounds_of(space).items()
        if (values.low < values.high if isinstance(values, Bounds) else len(values) > 1)
    }


def setting_of(space: SearchSpace, tried: Mapping[str, Any]) -> dict[str, float]:
    """Return a whole setting: what is tried, and what stays as it is."""
    whole = {
        name: tried.get(name, values.low if isinstance(values, Bounds) else values[0])
        for name, values in bounds_of(space).items()
    }
    return {name: int(value) if name in IS_WHOLE else float(value) for name, value in whole.items()}


def in_reach(space: SearchSpace, supported: float, most_sharing: int | None = None) -> SearchSpace:
    """Return a space without what the cohort doesn't support.

    Args:
        space: as configured.
        supported: the smallest FPIR that calibration supports; all smaller ones are one and the same.
        most_sharing: train patients who share a prompt, at most; None where no prompt says anything.
    """
    ends = {name: getattr(space, name) for name in FPIRS}
    reached = {name: (max(low, supported), max(high, supported)) for name, (low, high) in ends.items()}
    if space.prompt_patients and most_sharing:
        low, high = space.prompt_patients
        reached["prompt_patients"] = (min(low, most_sharing), min(high, most_sharing))
    return space.model_copy(update=reached)


def cut_fpirs(asked: SearchSpace, reached: SearchSpace, patients: int) -> list[str]:
    """Say which FPIRs were asked for that so many calibration patients don't support, and what was tried instead."""
    return [
        f"{patients} calibration patients can't support a {name} of {wanted:.3g}; nothing under {least:.3g} was tried"
        for name in FPIRS
        if (wanted := getattr(asked, name)[0]) < (least := getattr(reached, name)[0])
    ]


def cut_prompts(asked: SearchSpace, reached: SearchSpace) -> list[str]:
    """Say that more train patients were asked for than share any prompt. It stays inside: it counts patients."""
    if asked.prompt_patients == reached.prompt_patients or not (asked.prompt_patients and reached.prompt_patients):
        return []
    wanted, most = asked.prompt_patients[1], reached.prompt_patients[1]
    return [
        f"no prompt is shared by {wanted} train patients (tune.space.prompt_patients); {most} were asked for at most"
    ]
