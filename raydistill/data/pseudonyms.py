"""Ids that lead to a person become keyed hashes, before anything is written."""

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from raydistill.core.errors import InputError
from raydistill.data.rows import RawRow

DIGITS = 32
"""Hexadecimal: 128 bits, so that no two of a billion patients share a pseudonym."""

MIN_KEY_BYTES = 32

QUOTED, NOT_SHOWN = re.compile(r"(['\"]).*\1", re.DOTALL), "(what stands there isn't shown: ids are hashed)"
"""From the first quotation mark of what is wrong with a row to the last: somebody's own words."""


def read_key(path: str) -> bytes:
    """Read the secret that ids are hashed with.

    Args:
        path: of a file on this machine.

    Raises:
        InputError: when it can't be read, or holds fewer than 32 bytes.
    """
    try:
        key = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise InputError(f"source.pseudonym_key {path} can't be read: {error.strerror}") from None
    if len(key) < MIN_KEY_BYTES:
        raise InputError(
            f"source.pseudonym_key {path} holds {len(key)} bytes; {MIN_KEY_BYTES} random ones keep ids from being "
            f"guessed: head -c {MIN_KEY_BYTES} /dev/urandom > FILE"
        )
    return key


def key_digest(key: bytes) -> str:
    """Hash a secret, so that what is made with another has another name; 64 hexadecimal digits that don't tell it."""
    return hmac.new(key, b"digest", hashlib.sha256).hexdigest()


def pseudonym(key: bytes, kind: str, name: str) -> str:
    """Return what an id is called outside.

    Args:
        key: the secret.
        kind: of what it is the id: one and the same name has another pseudonym as a patient's than as an image's.
        name: the id; spaces around it don't count.

    Source: HMAC-SHA256, RFC 2104, as pseudonymisation by a keyed hash in ENISA, Pseudonymisation techniques and best
    practices, 2019, 5.1.
    """
    return hmac.new(key, f"{kind}/{name.strip()}".encode(errors="surrogatepass"), hashlib.sha256).hexdigest()[:DIGITS]


def pseudonymised(rows: Iterable[RawRow], key: bytes) -> Iterator[RawRow]:
    """Yield rows that call patients and images by pseudonyms.

    Nor do they say where they lie, or what stands in a field that can't be read: either may hold a name or an id.
    """
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(f"a key of {len(key)} bytes hides no id")
    for raw in rows:
        patient, image = _called(key, "patient", raw.patient_id), _called(key, "image", raw.image_id)
        problem = raw.problem and (raw.problem[0], QUOTED.sub(NOT_SHOWN, raw.problem[1]))
        yield replace(raw, patient_id=patient, image_id=image, origin=None, problem=problem)


def _called(key: bytes, kind: str, name: str | None) -> str | None:
    return pseudonym(key, kind, name) if name and name.strip() else None
