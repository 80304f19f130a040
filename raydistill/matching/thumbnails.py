"""What near-copies are compared by: small pictures as vectors, of which three kinds are kept of every gallery image."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from raydistill.core.errors import InputError
from raydistill.matching.mirror import in_halves

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

THUMBNAIL = 32
"""Side of what is compared, in pixels: the cost of a pair doesn't depend on the resolution."""

PLAIN_SIDE = 16
"""Side at which pixels are compared as they lie: noise and blur are averaged away."""

GREY = 127.5
"""The middle of the grey range: seen from there, pixels have the smallest numbers and the least rounding."""

PLAIN_LENGTH = 1.25
"""Squared length that a gallery row of pixels and its one more entry have at most."""

DETAIL_BLUR = 3.0
"""Standard deviation, in pixels of a thumbnail, of the blur that leaves only what all pictures of a kind share."""

PLAIN, DETAIL = "_plain", "_detail"
KINDS = ("", PLAIN, DETAIL)
"""Ends of the names of arrays: templates have none."""


def compared_by(images: Grey, max_shift: int) -> dict[str, Floats]:
    """Make of gallery images (G, R, R), 8-bit grey, an array (G, D) of every one of `KINDS`; for `StructureIndex`."""
    return {"": templates(images, max_shift), PLAIN: plain_vectors(images), DETAIL: detail_vectors(images)}


def templates(images: Grey, max_shift: int) -> Floats:
    """Make of gallery images what copies are looked for among.

    Args:
        images: (G, R, R), 8-bit grey.
        max_shift: translation that is to be searched to either side along each axis, in thumbnail pixels (1/32 of the
            side); that much of the border is left out of the templates.

    Returns:
        (G, side * side) float32, `in_halves`: of pixels of zero mean and unit length, or all zeros; side = 32 - 2
        max_shift.

    Raises:
        InputError: when there are no images, they aren't square and 8-bit, or the shift leaves no middle.
    """
    if not 0 <= max_shift < THUMBNAIL // 2:
        raise InputError(f"near_copy_max_shift must be from 0 to {THUMBNAIL // 2 - 1}, not {max_shift}")
    if not len(images):
        raise InputError("near-copy search: the gallery is empty")
    middle = slice(max_shift, THUMBNAIL - max_shift)
    return standardised(resized(checked(images), THUMBNAIL)[:, middle, middle])


def plain_vectors(images: Grey) -> Floats:
    """Make of gallery images (G, R, R), 8-bit grey, what pixels are compared with as they lie.

    Returns:
        (G, 257) float32 rows of length 1 at most: the pixels y, `in_halves`, of length 1 at most, and -|y|^2 / 2, over
        the length that both together have at most.
    """
    pixels = centred(checked(images))
    half = -0.5 * np.square(pixels, dtype=np.float64).sum(axis=1, keepdims=True)
    return np.asarray(np.concatenate([pixels, half], axis=1) / math.sqrt(PLAIN_LENGTH), dtype=np.float32)


def detail_vectors(images: Grey) -> Floats:
    """Make of images (N, R, R), 8-bit grey, their details: thumbnails less their own blur.

    Returns:
        (N, 1024) float32, `in_halves`: of zero mean and unit length, or all zeros.
    """
    small = resized(checked(images), THUMBNAIL)
    return standardised(small - ndimage.gaussian_filter(small, (0, DETAIL_BLUR, DETAIL_BLUR)))


def centred(images: Grey) -> Floats:
    """Return pixels (N, 256) about the middle of the grey range, so scaled that the farthest picture has length 1."""
    small = resized(images, PLAIN_SIDE).clip(0.0, 255.0)
    return in_halves((small - GREY) / (GREY * PLAIN_SIDE))


def standardised(pictures: Floats) -> Floats:
    """Give pictures (..., S, S) zero mean and unit length, or zeros where they are flat: (..., S * S), `in_halves`."""
    return in_halves(unit(pictures.reshape(*pictures.shape[:-2], -1)).reshape(pictures.shape))


def resized(images: Grey, side: int) -> Floats:
    """Resize images (N, R, R) to (N, side, side) float32, antialiased."""
    pictures = (Image.fromarray(image.astype(np.float32)) for image in images)
    return np.stack([np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC)) for picture in pictures])


def unit(vectors: Floats) -> Floats:
    """Give vectors (..., d) zero mean and unit length; a constant one becomes zeros."""
    centred = vectors - vectors.mean(axis=-1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=-1, keepdims=True)
    return np.asarray(np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 1e-3))


def checked(images: Grey) -> Grey:
    """Return images after making sure that they are square and 8-bit; an InputError says what they are."""
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise InputError(f"near-copy search: expected uint8 images (N, R, R), got {images.dtype} {images.shape}")
    return images
