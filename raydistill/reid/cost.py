"""Operations of re-identification networks, counted without loading weights."""

from functools import lru_cache, partial

from raydistill.core.training import BackboneConfig, ReidConfig
from raydistill.data.operations import Shapes, counted, gpu_hours, operators, seconds_per_row
from raydistill.reid.model import ReidNetwork, described

TRAINED = 3
"""A row of training in forward passes, forward and backward. Source: Kaplan et al., arXiv 2001.08361, section 2.1."""


def rows_per_step(config: ReidConfig) -> int:
    """Return the images of a step: the batch, and the phantoms beside it."""
    patients = config.optimizer.batch_size // config.images_per_patient
    return config.optimizer.batch_size + int(config.rehearsed * patients) * config.images_per_patient


def training_tflop(config: ReidConfig, resolution: int) -> float:
    """Return the 10^12 operations of a training.

    Args:
        config: of an eye that is trained.
        resolution: side of the images in pixels.
    """
    rows = config.optimizer.steps * rows_per_step(config)
    return TRAINED * rows * _flops(config.backbone, config.embedding_dim, resolution) / 1e12


def training_hours(config: ReidConfig, resolution: int) -> tuple[float | None, str]:
    """Return the hours of one worker, None where nothing is known of them, and what they rest on.

    On CPUs a pass is timed here.

    Args:
        config: of an eye that is trained.
        resolution: side of the images in pixels.
    """
    rows = rows_per_step(config)
    if config.compute.num_gpus:
        # Each worker is asked for all operators, for its part of the batch.
        calls = TRAINED * config.optimizer.steps * config.compute.max_workers
        asked = calls * _operators(config.backbone, config.embedding_dim, resolution)
        return gpu_hours(training_tflop(config, resolution), asked, config.compute, config.deepspeed.precision)
    seconds = _seconds(config.backbone, config.embedding_dim, resolution, max(2, rows // config.compute.max_workers))
    if seconds is None:
        return None, "no time: too large a network to be timed on a CPU"
    hours = TRAINED * config.optimizer.steps * rows * seconds / 3600
    return hours, "counted: a pass of the network timed on one thread here"


def _network(backbone: BackboneConfig, embedding_dim: int, resolution: int) -> ReidNetwork:
    config, side = described(backbone, resolution)
    # In training an image is seen once, and embedded in several shifts only afterwards.
    return ReidNetwork(config, resolution, embedding_dim, side).train()


def _shapes(resolution: int, rows: int) -> Shapes:
    return [(rows, resolution, resolution)]


@lru_cache
def _flops(backbone: BackboneConfig, embedding_dim: int, resolution: int) -> float:
    # A batch of two: normalising over a batch takes more than one image.
    return counted(partial(_network, backbone, embedding_dim, resolution), _shapes(resolution, 2)) / 2


@lru_cache
def _operators(backbone: BackboneConfig, embedding_dim: int, resolution: int) -> int:
    return operators(partial(_network, backbone, embedding_dim, resolution), _shapes(resolution, 2))


@lru_cache
def _seconds(backbone: BackboneConfig, embedding_dim: int, resolution: int, rows: int) -> float | None:
    make = partial(_network, backbone, embedding_dim, resolution)
    return seconds_per_row(make, partial(_shapes, resolution), rows)
