"""Mirror images, left to right: a picture that is a copy, mirrored, is a copy.

A picture is the sum of a part that its mirror image has too and of one that its mirror image has with the other sign.
Among vectors that tell the two parts apart a mirror image is a change of signs, and of two inner products a . b + c . d
and a . b - c . d the larger is a . b + |c . d|: both orientations are compared at the price of one.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def in_halves(pictures: npt.NDArray[Any]) -> Floats:
    """Turn pictures (..., S, S), S even, into vectors (..., S * S) of the same lengths and inner products.

    The first half of the numbers are those that change their sign where the picture is mirrored; the others keep it.
    """
    middle = pictures.shape[-1] // 2
    left, right = pictures[..., :middle], pictures[..., : middle - 1 : -1]
    halves = np.stack([left - right, left + right], axis=-3) * math.sqrt(0.5)
    return np.asarray(halves.reshape(*pictures.shape[:-2], -1), dtype=np.float32)


def flipped(vectors: Floats, odd: int) -> Floats:
    """Return the vectors (..., D) of the mirror images: the first `odd` numbers with the other sign."""
    return np.concatenate([-vectors[..., :odd], vectors[..., odd:]], axis=-1)


def either_way(queries: Floats, rows: Floats, odd: int) -> Floats:
    """Multiply queries (N, D), as they are or mirrored, whichever gives more, with rows (G, D): (N, G)."""
    products = queries[:, odd:] @ rows[:, odd:].T
    products += np.abs(queries[:, :odd] @ rows[:, :odd].T)
    return products
