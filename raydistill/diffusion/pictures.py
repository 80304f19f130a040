"""Procedural grey pictures that belong to nobody: what the public autoencoder is trained on.

Fractal noise, soft ellipses, blobs, gratings and pen strokes, blended at random, so that an autoencoder meets smooth
shading, edges, thin lines and texture at every contrast without ever seeing a cohort.
"""

import numpy as np
from numpy.typing import NDArray

from raydistill.core.seeds import generator

Layer = NDArray[np.float32]


def draw(count: int, *, side: int, seed: int) -> NDArray[np.uint8]:
    """Draw pictures; each is a function of the seed and its own number.

    Args:
        count: how many.
        side: their width and height in pixels.
        seed: of the whole set.

    Returns:
        uint8 (count, side, side), 8-bit grey.
    """
    return np.stack([_picture(side, generator(seed, "picture", number)) for number in range(count)])


def _picture(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    canvas = fractal(side, rng) * rng.uniform(0.0, 1.0)
    for _ in range(rng.integers(1, 5)):
        layer = LAYERS[rng.integers(len(LAYERS))](side, rng)
        canvas = canvas + layer * rng.uniform(0.1, 1.0) * rng.choice([-1.0, 1.0])
    low, high = np.quantile(canvas, [0.01, 0.99])
    contrast = rng.uniform(0.2, 1.1)
    grey = (canvas - low) / max(high - low, 1e-6) * contrast + rng.uniform(-0.05, 1.05 - contrast)
    grey = grey + rng.normal(0.0, rng.choice([0.0, 0.005, 0.02]), grey.shape)
    return np.asarray(np.clip(np.rint(grey * 255), 0, 255), dtype=np.uint8)


def _grid(side: int) -> tuple[Layer, Layer]:
    axis = np.linspace(-1.0, 1.0, side, dtype=np.float32)
    return axis[:, None], axis[None, :]


def _turned(side: int, rng: np.random.Generator) -> tuple[Layer, Layer]:
    down, right = _grid(side)
    angle, (top, left) = rng.uniform(0, np.pi), rng.uniform(-0.9, 0.9, 2)
    down, right = down - top, right - left
    return down * np.cos(angle) - right * np.sin(angle), down * np.sin(angle) + right * np.cos(angle)


def _edge(distance: Layer, side: int, rng: np.random.Generator) -> Layer:
    softness = float(rng.choice([0.5, 1.0, 4.0, 12.0])) * 2.0 / side
    return np.asarray(1.0 / (1.0 + np.exp(np.clip(distance / softness, -30.0, 30.0))))


def fractal(side: int, rng: np.random.Generator) -> Layer:
    """Noise whose amplitude falls as 1/f^a, a in [0.7, 2.5], float32 (side, side) in [0, 1]."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.normal(size=(side, side))) * frequency ** -rng.uniform(0.7, 2.5)
    noise = np.fft.irfft2(spectrum, s=(side, side))
    return np.asarray((noise - noise.min()) / (np.ptp(noise) + 1e-9), dtype=np.float32)


def _ellipse(side: int, rng: np.random.Generator) -> Layer:
    across, along = _turned(side, rng)
    size, other = rng.uniform(0.05, 0.9, 2)
    radius = np.hypot(across / size, along / other)
    return _edge((radius - 1.0) * min(size, other), side, rng)


def _blobs(side: int, rng: np.random.Generator) -> Layer:
    down, right = _grid(side)
    canvas = np.zeros((side, side), dtype=np.float32)
    for top, left, width in rng.uniform([-1, -1, 0.02], [1, 1, 0.4], (rng.integers(1, 10), 3)):
        canvas += np.exp(-((down - top) ** 2 + (right - left) ** 2) / (2 * width**2))
    return canvas


def _grating(side: int, rng: np.random.Generator) -> Layer:
    across, along = _turned(side, rng)
    wave: Layer = np.sin(across * rng.uniform(3.0, side / 3) + rng.uniform(0.0, 2.0) * along**2).astype(np.float32)
    return _edge(wave, side, rng) if rng.random() < 0.3 else 0.5 + 0.5 * wave


def _strokes(side: int, rng: np.random.Generator) -> Layer:
    down, right = _grid(side)
    canvas = np.zeros((side, side), dtype=np.float32)
    pen, reach, start = rng.uniform(0.5, 4.0) / side, rng.uniform(0.05, 1.0), rng.uniform(-1.0, 1.0, 2)
    for _ in range(rng.integers(2, 12)):
        end = start + rng.uniform(-reach, reach, 2)
        canvas = np.maximum(canvas, _edge(_distance(down, right, start, end) - pen, side, rng))
        start = end if rng.random() < 0.7 else rng.uniform(-1.0, 1.0, 2)
    return canvas


def _distance(down: Layer, right: Layer, start: NDArray[np.float64], end: NDArray[np.float64]) -> Layer:
    step = end - start
    share = ((down - start[0]) * step[0] + (right - start[1]) * step[1]) / max(float(step @ step), 1e-9)
    share = np.clip(share, 0.0, 1.0)
    return np.asarray(np.hypot(down - start[0] - share * step[0], right - start[1] - share * step[1]))


LAYERS = (fractal, fractal, _ellipse, _ellipse, _blobs, _grating, _strokes, _strokes)
