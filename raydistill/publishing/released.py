"""Which release may be handed on, and what an address stands for."""

import re

from raydistill.core.errors import InputError
from raydistill.core.store import Store
from raydistill.publishing.bucket import Bucket
from raydistill.publishing.hub import HUB, Hub
from raydistill.publishing.target import Target
from raydistill.report.croissant import CROISSANT
from raydistill.report.verified import Verified, verify_release

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def checked(release: Store, public_key: bytes | None) -> Verified:
    """Verify a release that is to be handed on.

    Args:
        release: the whole of it.
        public_key: the custodian's, PEM, whose signature must be there.

    Raises:
        InputError: when it isn't a release, or its verdict isn't `pass`.
        LineageError: when it isn't what it says.
    """
    if not release.exists(CROISSANT) or not (found := verify_release(release, public_key)):
        raise InputError(f"{release.uri} is no release: name the folder release/ of a run, or a copy of it")
    if found.verdict != "pass":
        raise InputError(f"{release.uri} isn't published: its verdict is {found.verdict}, and only a pass may be")
    return found


def open_target(release: Store, target: str, *, private: bool) -> Target:
    """Return what an address stands for.

    Args:
        release: to be handed on.
        target: `hf://OWNER/NAME`, or a folder or bucket as `Store.open` takes it.
        private: whether a repository that is made on the hub is seen by its owners alone.

    Raises:
        InputError: when it isn't an address.
    """
    if not target.startswith(HUB):
        return Bucket(release, Store.open(target))
    repository = target.removeprefix(HUB)
    if not REPOSITORY.fullmatch(repository):
        raise InputError(f"{target} isn't {HUB}OWNER/NAME: a model and a data set repository of that name are filled")
    return Hub(release, repository, private)
