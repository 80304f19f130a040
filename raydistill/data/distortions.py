"""What an imaging device or a copier does to one picture: the same picture for a person, other pixels for a network.

Strengths are shares of the picture's side (or of the grey range), so that they mean the same at every resolution.
Each has a lower bound too: a treatment that does nothing would make a self-test look better than it is. A model that
learned from mirrored images too (`teacher.horizontal_flip`) shows what it knows by heart either way round.
"""

import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from raydistill.core.seeds import generator
from raydistill.data.images import mirrored

Grey = NDArray[np.uint8]

SHIFT = (1 / 32, 1 / 12)
"""Length of a translation, in sides: a table or a patient a little elsewhere."""
CROP = (0.85, 0.95)
"""Side of the part that is kept and enlarged, in sides: another collimation."""
CONTRAST = (1.15, 1.5)
"""Gain or its inverse about the mean: another exposure or window."""
BLUR = (1 / 64, 1 / 32)
"""Standard deviation of a Gaussian, in sides: motion, or a smaller copy."""
JPEG_QUALITY = (20, 60)
"""Pillow's quality, of 95: a copy sent by mail."""
NOISE = (0.02, 0.06)
"""Standard deviation of added Gaussian noise, in grey ranges: a lower dose."""
ROTATE = (2.0, 6.0)
"""Angle to either side, in degrees: a tilted patient or cassette."""


def distort(images: Grey, treatment: str, seeds: Sequence[int]) -> Grey:
    """Treat every picture with its own strength and direction.

    Args:
        images: (N, R, R) uint8.
        treatment: one of `TREATMENTS`.
        seeds: N seeds; an image's result depends on its own seed and on nothing else of the batch.

    Returns:
        (N, R, R) uint8.

    Raises:
        KeyError: when the treatment isn't known.
        ValueError: when there isn't one seed an image.
    """
    treat = _TREATMENTS[treatment]
    pairs = zip(images, seeds, strict=True)
    treated = [treat(image, generator(seed, "distort", treatment)) for image, seed in pairs]
    return np.stack(treated) if treated else images.copy()


def _shift(image: Grey, rng: np.random.Generator) -> Grey:
    length, angle = rng.uniform(*SHIFT) * len(image), rng.uniform(0, 2 * np.pi)
    offset = (length * np.sin(angle), length * np.cos(angle))
    return _to_grey(ndimage.shift(image.astype(np.float32), offset, order=1, mode="nearest"))


def _crop(image: Grey, rng: np.random.Generator) -> Grey:
    side = len(image)
    kept = rng.uniform(*CROP) * side
    left, top = rng.uniform(0, side - kept, 2)
    box = (left, top, left + kept, top + kept)
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC, box=box))


def _contrast(image: Grey, rng: np.random.Generator) -> Grey:
    gain = rng.uniform(*CONTRAST) ** rng.choice((-1, 1))
    return _to_grey((image - image.mean()) * gain + image.mean())


def _blur(image: Grey, rng: np.random.Generator) -> Grey:
    return _to_grey(ndimage.gaussian_filter(image.astype(np.float32), rng.uniform(*BLUR) * len(image), mode="nearest"))


def _jpeg(image: Grey, rng: np.random.Generator) -> Grey:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=int(rng.integers(*JPEG_QUALITY, endpoint=True)))
    return np.asarray(Image.open(buffer))


def _noise(image: Grey, rng: np.random.Generator) -> Grey:
    return _to_grey(image + rng.normal(0, rng.uniform(*NOISE) * 255, image.shape))


def _rotate(image: Grey, rng: np.random.Generator) -> Grey:
    angle = rng.uniform(*ROTATE) * rng.choice((-1, 1))
    return _to_grey(ndimage.rotate(image.astype(np.float32), angle, reshape=False, order=1, mode="nearest"))


def _mirror(image: Grey, _rng: np.random.Generator) -> Grey:
    return mirrored(image)


def _to_grey(values: NDArray[np.floating]) -> Grey:
    return np.asarray(np.rint(np.clip(values, 0, 255)), dtype=np.uint8)


_TREATMENTS: Mapping[str, Callable[[Grey, np.random.Generator], Grey]] = {
    "shift": _shift,
    "crop": _crop,
    "contrast": _contrast,
    "blur": _blur,
    "jpeg": _jpeg,
    "noise": _noise,
    "rotate": _rotate,
    "mirror": _mirror,
}

TREATMENTS: tuple[str, ...] = tuple(_TREATMENTS)
"""Every treatment's name."""
