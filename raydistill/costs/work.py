"""How much each stage has to do, by its configuration and by what is known of the rows that it reads."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic_core import to_jsonable_python

from raydistill.core.config import Config
from raydistill.core.generation import SampleConfig
from raydistill.core.manifest import Manifest, canonical_json
from raydistill.core.section import Compute
from raydistill.core.training import FRESH, DiffusionConfig
from raydistill.data.requests import Requests, read_prompts
from raydistill.stages.attack import Attack
from raydistill.stages.base import Stage, View
from raydistill.stages.given import GivenEyeConfig, GivenModelConfig
from raydistill.stages.ingest import Ingest
from raydistill.stages.sample import Sample

Counts = Mapping[str, Mapping[str, int]]
Workers = Literal["all", "one", "room"]


def counts_of(manifest: Manifest) -> dict[str, int]:
    """Return the counts of a finished node, and of ingest the number of prompts, `prompts`."""
    prompts = manifest.facts.get("prompts")
    return {**manifest.counts, **({"prompts": prompts["distinct"]} if isinstance(prompts, dict) else {})}


@dataclass(frozen=True)
class Known:
    """What is known beside a stage's own configuration.

    Attributes:
        config: the whole configuration.
        counts: of the nodes that are finished.
        named: gives a GPU that isn't named the name of one that is assumed.
    """

    config: Config
    counts: Counts = field(default_factory=dict)
    named: Callable[[Compute], Compute] = lambda compute: compute

    @property
    def resolution(self) -> int:
        """Side of the images in pixels."""
        return self.config.ingest.resolution

    def rows(self, view: View) -> int | None:
        """Return the number of images in a view; None where it isn't known yet."""
        node, counts = view.node, self.counts.get(view.node.node, {})
        if isinstance(node, Ingest):
            return counts.get(view.folder)
        if "rows" in counts:
            return counts["rows"]
        if isinstance(node, Attack):
            ways = ways_of(node)
            return None if ways is None else sum(map(self.asked, ways))
        return samples_of(node.config) if isinstance(node, Sample) else None

    def asked(self, way: SampleConfig) -> int:
        """Return the images of one of an attack's ways: of each prompt one at least, where their number is known."""
        return max(way.num_samples, self.counts.get("ingest", {}).get("prompts", 0))


@dataclass(frozen=True)
class Counted:
    """Operations of a work.

    Attributes:
        tflop: 10^12 of them.
        hours: gives the hours of one worker, None where its pace isn't known, and what they rest on.
    """

    tflop: float
    hours: Callable[[], tuple[float | None, str]]


@dataclass(frozen=True)
class Work:
    """What a stage has to do.

    Attributes:
        said: in words.
        unit: things of which each takes equally long, in the plural.
        amount: how many of them; None where it isn't known yet.
        alike: works of the same text take equally long for a unit on the same hardware.
        count: counts its operations, where that can be done.
        workers: all that compute asks for, one, or as many as there is room for.
        has_fixed_part: of the amount only a part of the time depends: fewer are never reckoned faster than measured.
    """

    said: str
    unit: str
    amount: float | None
    alike: str
    count: Callable[[], Counted] | None = None
    workers: Workers = "all"
    has_fixed_part: bool = False


def alike(kind: str, *parts: Any) -> str:
    """Return a text that is equal for works of which a unit takes equally long."""
    return canonical_json([kind, to_jsonable_python(parts)])


def architecture(model: DiffusionConfig) -> dict[str, Any]:
    """Return what decides how long a pass of a diffusion model takes."""
    return {name: getattr(model, name) for name in ("pretrained", "lora", *FRESH)}


def networks(stage: Stage) -> dict[str, Any]:
    """Return what decides how long the re-identification networks take that a stage reads, by name."""
    read = {name: view.node.config for name, view in stage.inputs.items() if name.startswith("eye_")}
    eyes = {name: config.eye if isinstance(config, GivenEyeConfig) else config for name, config in read.items()}
    return {name: [getattr(eye, x) for x in ("embedder", "backbone", "embedding_dim")] for name, eye in eyes.items()}


def model_of(stage: Stage) -> DiffusionConfig:
    """Return the configuration of the diffusion model that a stage reads."""
    config = stage.inputs["model"].node.config
    if isinstance(config, GivenModelConfig):
        return DiffusionConfig(pretrained=config.model, local_files_only=config.local_files_only)
    assert isinstance(config, DiffusionConfig)
    return config


def samples_of(sampling: SampleConfig) -> int | None:
    """Return how many images are asked for at first, where that is known before ingest."""
    requests = sampling.requests
    if requests.per_prompt is None:
        return sampling.num_samples
    if requests.table is None:
        return None
    return Requests(read_prompts(requests.table), requests, 0, "").total(sampling.num_samples)


def ways_of(attack: Attack) -> Sequence[SampleConfig] | None:
    """Return what an attack asks for in each of its ways; `Known.asked` says how much. None where nobody knows yet."""
    how, samples = attack.config.attack, attack.config.samples
    usual = samples.num_samples if how.num_samples else samples_of(samples)
    return None if usual is None else list(how.ways(samples.model_copy(update={"num_samples": usual})).values())


def passes_of(sampling: SampleConfig) -> float:
    """Return the passes of the UNet for an image, on average: steps, twice with guidance."""
    ways = sampling.ways or ((sampling.guidance_scale, sampling.num_inference_steps),)
    return sum(steps * (1 if guidance == 1.0 else 2) for guidance, steps in ways) / len(ways)


def many(count: float | None, what: str) -> str:
    """Say a number of things, or that it isn't known yet."""
    return f"{what}, as many as ingest gives" if count is None else f"{count:,.0f} {what}"
