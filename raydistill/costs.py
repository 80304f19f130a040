"""What a run's sampling will cost, said before it starts."""

from collections.abc import Collection

from raydistill.core.config import Config
from raydistill.core.generation import SampleConfig
from raydistill.core.training import DiffusionConfig


def costs(config: Config, cached: Collection[str]) -> dict[str, str]:
    """Estimate what each sampling node that isn't there yet will take.

    Args:
        config: the whole configuration.
        cached: nodes that are there.

    Returns:
        A line for each node.
    """
    asked = {
        "teacher_samples": (config.teacher, config.teacher_samples),
        "student_samples": (config.student, config.student_samples),
    }
    said = {}
    for node, (model, sampling) in asked.items():
        if node in cached:
            continue
        samples = _samples(sampling)
        if samples is None:
            said[node] = "per_prompt images of each prompt; how many prompts there are is known after ingest"
            continue
        said[node] = _said(model, sampling, samples, config)
    sampling = config.teacher_samples
    if sampling.target_kept and "more_samples" not in cached and (samples := _samples(sampling)):
        # With `per_prompt` more may be asked for at first than the budget allows: then nothing follows.
        more = max(0, sampling.budget(samples) - samples)
        most = _said(config.teacher, sampling, more, config)
        said["more_samples"] = f"until the filter has kept {sampling.target_kept:,}; at most {most}"
    return said


def _said(model: DiffusionConfig, sampling: SampleConfig, samples: int, config: Config) -> str:
    from raydistill.diffusion.cost import estimate

    cost, compute = estimate(model, sampling, samples, config.ingest.resolution), sampling.compute
    return cost.said(compute.max_workers, compute.price_per_hour)


def _samples(sampling: SampleConfig) -> int | None:
    """How many images are asked for, where that is known yet."""
    from raydistill.data.requests import Requests, read_prompts

    requests = sampling.requests
    if requests.per_prompt is None:
        return sampling.num_samples
    if requests.table is None:
        return None
    return Requests(read_prompts(requests.table), requests, 0, "").total(sampling.num_samples)
