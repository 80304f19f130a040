"""The licence of a bundle: its text by SPDX id, or a text of one's own.

Texts are those of the SPDX licence list, in `licences/`; only of licences whose text has no name to fill in.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from raydistill.core.errors import ConfigError

OTHER = "other"
"""Hugging Face's tag of whatever isn't in its list."""

TEXTS = {path.stem: path for path in sorted((Path(__file__).parent / "licences").glob("*.txt"))}
TAGS: Mapping[str, str] = {"ODC-By-1.0": "odc-by"}
"""Hugging Face's tags that aren't the SPDX id in lower case."""

NONE_GRANTED = """\
No licence is granted.

Whoever made this release has chosen none. All rights are reserved: ask them before you use, copy or pass on any of it.
"""


@dataclass(frozen=True)
class Licence:
    """What a bundle may be used for.

    Args:
        tag: Hugging Face's.
        name: the SPDX id, or what stands in its place.
        text: of the file LICENSE.
    """

    tag: str
    name: str
    text: str

    @property
    def url(self) -> str | None:
        """The licence's page in the SPDX list; None of one that isn't there."""
        return None if self.tag == OTHER else f"https://spdx.org/licenses/{self.name}.html"

    @property
    def front_matter(self) -> dict[str, str]:
        """What a card says of it, https://huggingface.co/docs/hub/repositories-licenses."""
        named = {"license_name": self.name, "license_link": "LICENSE"} if self.tag == OTHER else {}
        return {"license": self.tag, **named}


def spelled(name: str) -> str:
    """Return an SPDX id as the list spells it, from any case or from Hugging Face's tag; `other` as it is.

    Raises:
        ValueError: when there is no text of it.
    """
    known = {OTHER: OTHER} | {id_.lower(): id_ for id_ in TEXTS} | {tag: id_ for id_, tag in TAGS.items()}
    if name.lower() not in known:
        near = difflib.get_close_matches(name.lower(), known, n=1)
        meant = f"did you mean {known[near[0]]}? " if near else ""
        raise ValueError(
            f"no text of this licence is packaged; {meant}There are {', '.join(TEXTS)}; "
            f"for another one set release.licence: {OTHER} and release.licence_text: FILE"
        )
    return known[name.lower()]


def read_licence(name: str, own_text: str | None) -> Licence:
    """Return a licence with its text.

    Args:
        name: as `spelled` gives it.
        own_text: path of a UTF-8 text file, for `other`; without one no licence is granted.

    Raises:
        ConfigError: when that file can't be read, or has nothing in it.
    """
    if name != OTHER:
        return Licence(TAGS.get(name, name.lower()), name, TEXTS[name].read_text(encoding="utf-8"))
    if own_text is None:
        return Licence(OTHER, "none-granted", NONE_GRANTED)
    where = f"release.licence_text: {own_text}"
    try:
        text = Path(own_text).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} can't be read as UTF-8 text: {error}") from None
    if not text.strip():
        raise ConfigError(f"{where} is empty")
    return Licence(OTHER, "own-terms", text)
