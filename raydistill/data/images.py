"""Encoded pictures to 8-bit grey squares and back. A picture that can't be used says why, in one word."""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from raydistill.core.quiet import quiet

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
DEFAULT_MAX_PIXELS = 64_000_000

BadImageReason = Literal["empty", "not_an_image", "broken", "too_large", "several_frames", "no_pixels"]
BAD_IMAGE_REASONS: tuple[str, ...] = get_args(BadImageReason)

# Everything Pillow's decoders raise on malformed bytes.
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError, OverflowError,
    RuntimeError, MemoryError, ZeroDivisionError, AssertionError, struct.error, zlib.error,
)  # fmt: skip
_DEEP_MODES = ("I", "F")


class BadImage(Exception):
    """A picture that can't be used.

    Args:
        reason: one of `BAD_IMAGE_REASONS`.
        detail: what exactly, for a person.
    """

    def __init__(self, reason: BadImageReason, detail: str) -> None:
        """Remember reason and detail."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def decode(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode one PNG, JPEG, BMP, TIFF or WebP picture to 8-bit grey.

    Colour becomes luminance (ITU-R BT.601, as Pillow does), transparency lies on black, a JPEG's orientation tag is
    applied, and grey deeper than 8 bits is stretched from the range it uses to [0, 255].

    Args:
        data: the encoded bytes.
        max_pixels: a larger picture is refused before it is decoded; beyond Pillow's own limit it always is.

    Returns:
        (H, W) uint8.

    Raises:
        BadImage: when there is no single still picture of a readable size in the bytes.
    """
    if not data:
        raise BadImage("empty", "zero bytes")
    try:
        return _read(io.BytesIO(data), max_pixels)
    except UnidentifiedImageError as error:
        raise BadImage("not_an_image", f"none of {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise BadImage("too_large", str(error)) from error
    except DECODER_ERRORS as error:
        raise BadImage("broken", f"{type(error).__name__}: {error}") from error


def _read(stream: io.BytesIO, max_pixels: int) -> NDArray[np.uint8]:
    with quiet():
        opened = Image.open(stream, formats=FORMATS)
    with opened as picture:
        width, height = picture.size
        if width * height > max_pixels:
            raise BadImage("too_large", f"{width} x {height} pixels, the limit is {max_pixels}")
        frames = getattr(picture, "n_frames", 1)
        if frames != 1:
            raise BadImage("several_frames", f"{frames} frames")
        picture.load()
        return _grey(ImageOps.exif_transpose(picture))


def _grey(picture: Image.Image) -> NDArray[np.uint8]:
    if picture.mode in _DEEP_MODES or picture.mode.startswith("I;16"):
        return _stretch(np.asarray(picture, np.float64))
    if "A" in picture.getbands() or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer).convert("RGB")
    if picture.mode not in ("L", "1", "RGB"):
        picture = picture.convert("RGB")
    return np.asarray(picture.convert("L"))


def _stretch(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Map the used range to [0, 255]: 10-, 12- and 16-bit devices store in the same 16 bits."""
    if not np.isfinite(values).all():
        raise BadImage("no_pixels", "pixels that are not finite numbers")
    low, high = values.min(), values.max()
    scaled = (values - low) * (255.0 / (high - low)) if high > low else np.zeros_like(values)
    return np.rint(scaled).astype(np.uint8)


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Encode an 8-bit grey picture (H, W) as PNG; equal pictures give equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def mirrored(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the mirror images, left to right, of pictures (..., H, W)."""
    return np.ascontiguousarray(images[..., ::-1])


def fit_square(image: NDArray[np.uint8], resolution: int) -> NDArray[np.uint8]:
    """Cut the largest centred square and resize it with antialiased Lanczos.

    Cropping and not padding: bars would show each device's aspect ratio, which a re-identification network would
    learn in place of the anatomy and a generator would paint. Cut and resize are one step, so a very long picture
    never becomes a larger one.

    Args:
        image: (H, W) uint8.
        resolution: side of the result, in pixels.

    Returns:
        (resolution, resolution) uint8.
    """
    height, width = image.shape
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    size = (resolution, resolution)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS, box=box))


def decode_batch(encoded: Sequence[bytes]) -> NDArray[np.uint8]:
    """Decode pictures of one size.

    Returns:
        (N, R, R) uint8; (0, 0, 0) for no picture.

    Raises:
        BadImage: when one can't be decoded.
        ValueError: when they differ in size.
    """
    return np.stack([decode(data) for data in encoded]) if len(encoded) else np.zeros((0, 0, 0), np.uint8)
