"""From the picture of a row to the square that is kept of it; a function of the row alone."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from raydistill.core.config import IngestConfig
from raydistill.data.images import BadImage, decode, encode_png, fit_square
from raydistill.data.rows import RawRow, Square, Unusable


def square_of(raw: RawRow, ingest: IngestConfig) -> Square:
    """Decode a row's picture, and cut and scale it.

    Args:
        raw: one that has a problem, or no picture, has no square; one that has its square already keeps it.
        ingest: resolution, and the largest picture that is decoded.
    """
    if raw.problem or raw.image is None:
        return Square()
    if isinstance(raw.image, Square):
        return raw.image
    sha256 = content_hash(raw.image)
    try:
        pixels = _pixels(raw.image, ingest)
    except Unusable as error:
        return Square(sha256, problem=error)
    return Square(sha256, content_hash(pixels), encode_png(fit_square(pixels, ingest.resolution)))


def content_hash(image: bytes | NDArray[np.uint8]) -> str:
    """Hash the source's encoded bytes, or the shape and the pixels of an array, with SHA-256."""
    if isinstance(image, bytes):
        return hashlib.sha256(image).hexdigest()
    return hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def _pixels(image: bytes | NDArray[np.uint8], ingest: IngestConfig) -> NDArray[np.uint8]:
    if isinstance(image, bytes):
        try:
            return decode(image, ingest.max_image_pixels)
        except BadImage as error:
            raise Unusable("too_large" if error.reason == "too_large" else "undecodable", str(error)) from error
    if image.size > ingest.max_image_pixels:
        raise Unusable("too_large", f"{image.size} pixels, the limit is {ingest.max_image_pixels}")
    if image.ndim != 2 or image.dtype != np.uint8 or not image.size:
        raise Unusable("undecodable", f"an array {image.dtype} {image.shape} isn't 8-bit grey (H, W)")
    return image
