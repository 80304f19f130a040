"""Randomness enters through one run seed; every other seed is derived from it by name.

A derived seed depends on what it is for and on nothing else: not on the number of workers, the batch size,
the order of work or the number of restarts.
"""

import hashlib

import numpy as np


def derive_seed(root: int, *names: str | int) -> int:
    """Derive a named seed from a root seed.

    Args:
        root: the run's seed, or another derived seed.
        names: what the seed is for, from coarse to fine, such as `"teacher_samples", 17`.

    Returns:
        An integer in [0, 2**63), from the first 8 bytes of SHA-256 over the root and the names.

    Example:
        >>> derive_seed(0, "teacher") == derive_seed(0, "teacher")
        True
        >>> derive_seed(0, "teacher") == derive_seed(0, "student")
        False
    """
    text = "\x1f".join([str(root), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(root: int, *names: str | int) -> np.random.Generator:
    """Return a NumPy generator on its own named stream.

    Args:
        root: the run's seed, or another derived seed.
        names: what the stream is for.

    Returns:
        A PCG64 generator seeded with `derive_seed(root, *names)`.
    """
    return np.random.default_rng(derive_seed(root, *names))
