"""The licence of a bundle: by its SPDX id, with a text of one's own, or none at all."""

from dataclasses import dataclass
from pathlib import Path

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from raydistill.core.errors import ConfigError

OTHER = "other"
"""Hugging Face's tag of whatever isn't in its list."""

TAGS = {
    **{id_: id_.lower() for id_ in ("Apache-2.0", "MIT", "CC0-1.0", "CDLA-Permissive-2.0", "CDLA-Sharing-1.0")},
    **{f"CC-BY-{kind}4.0": f"cc-by-{kind.lower()}4.0" for kind in ("", "SA-", "NC-", "NC-SA-", "ND-", "NC-ND-")},
    **{"ODC-By-1.0": "odc-by", "ODbL-1.0": "odbl", "PDDL-1.0": "pddl"},
}
"""Hugging Face's tags of licences for data and models, by SPDX id. Source: its repositories-licenses page."""

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
        url: the licence's page in the SPDX list; None of one that isn't there.
    """

    tag: str
    name: str
    text: str
    url: str | None = None

    @property
    def front_matter(self) -> dict[str, str]:
        """What a card says of it, https://huggingface.co/docs/hub/repositories-licenses."""
        named = {"license_name": self.name, "license_link": "LICENSE"} if self.tag == OTHER else {}
        return {"license": self.tag, **named}


def spelled(name: str) -> str:
    """Return an SPDX id as the list spells it, from any case or from Hugging Face's tag; `other` as it is.

    Raises:
        ValueError: when the list has none of that name.
    """
    if name.lower() == OTHER:
        return OTHER
    try:
        found = str(canonicalize_license_expression({tag: id_ for id_, tag in TAGS.items()}.get(name.lower(), name)))
    except InvalidLicenseExpression:
        found = " "
    if " " in found:
        raise ValueError(
            f"no licence of the SPDX list (https://spdx.org/licenses); one of it such as CC-BY-4.0, or {OTHER} with "
            "release.licence_text: FILE"
        )
    return found


def read_licence(name: str, own_text: str | None) -> Licence:
    """Return a licence with what the bundle's LICENSE says.

    Args:
        name: as `spelled` gives it.
        own_text: path of a UTF-8 text file with the licence's words. Without one LICENSE names the licence and says
            where its words are, and of `other` grants nothing.

    Raises:
        ConfigError: when that file can't be read, or has nothing in it.
    """
    text = None if own_text is None else _read(own_text)
    if name == OTHER:
        return Licence(OTHER, "own-terms" if text else "none-granted", text or NONE_GRANTED)
    url = f"https://spdx.org/licenses/{name}.html"
    said = f"This release is licensed under {name}, whose text is at\n{url}\n"
    return Licence(TAGS.get(name, OTHER), name, text or said, url)


def _read(file: str) -> str:
    where = f"release.licence_text: {file}"
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} can't be read as UTF-8 text: {error}") from None
    if not text.strip():
        raise ConfigError(f"{where} is empty")
    return text
