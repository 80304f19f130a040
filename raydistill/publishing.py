"""Handing a release on: to a bucket or folder, or to the Hugging Face hub. Only one that verifies, and that passed.

Nothing that is cut off in between looks complete: a bucket gets `SHA256SUMS` last, and each repository of the hub gets
all of its files in one commit, or none.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from raydistill.core.errors import InputError, LineageError
from raydistill.core.signing import SIGNATURE, SUMS
from raydistill.core.store import Store
from raydistill.report.bundle import STUDENT
from raydistill.report.checksums import hashed, read_sums
from raydistill.report.croissant import CROISSANT
from raydistill.report.verified import Verified, verify_release

HUB = "hf://"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
OF_A_NEW_REPOSITORY = {".gitattributes", "README.md"}


@dataclass(frozen=True)
class Transfer:
    """One file of a release on its way.

    Args:
        path: in the release.
        to: the address that it gets.
        size: in bytes.
    """

    path: str
    to: str
    size: int


class Target(Protocol):
    """Where a release is handed on to."""

    def transfers(self) -> list[Transfer]:
        """Say which file would go where, in order; nothing is sent or asked."""
        ...

    def check(self) -> bool:
        """Whether the whole release is there already.

        Raises:
            InputError: when something else is there.
        """
        ...

    def send(self, say: Callable[[str], None]) -> None:
        """Send it."""
        ...


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


def _in_order(release: Store) -> list[str]:
    """List a release's files with their own proof last: without it they are no release."""
    proof = [name for name in (SIGNATURE, SUMS) if release.exists(name)]
    return [*sorted(read_sums(release)), *proof]


@dataclass(frozen=True)
class Bucket:
    """A folder anywhere that a `Store` reaches.

    Args:
        release: to be handed on.
        target: empty, or what an interrupted `send` left.
    """

    release: Store
    target: Store

    def transfers(self) -> list[Transfer]:
        """As `Target` says."""
        names = _in_order(self.release)
        return [Transfer(name, (self.target / name).uri, self.release.size(name)) for name in names]

    def check(self) -> bool:
        """As `Target` says."""
        there, ours = self.target.files(), set(_in_order(self.release))
        other = next((path for path in there if path not in ours), None)
        if other is None and SUMS in there:
            if self.target.read_bytes(SUMS) == self.release.read_bytes(SUMS):
                verify_release(self.target)
                return True
            other = SUMS
        if other:
            raise InputError(f"{self.target.uri} holds something else ({other}): name an empty folder")
        return False

    def send(self, say: Callable[[str], None]) -> None:
        """As `Target` says; what is sent is hashed once more.

        Raises:
            LineageError: when the release has changed meanwhile.
        """
        sums = read_sums(self.release)
        self.target.delete_partial()
        for name in _in_order(self.release):
            content = self.release.read_bytes(name)
            if name in sums and hashed(content) != sums[name]:
                raise LineageError(f"release: {name} in {self.release.uri} has changed since it was verified")
            self.target.write_bytes(name, content)
            say((self.target / name).uri)


@dataclass(frozen=True)
class Hub:
    """A model and a data set repository of the Hugging Face hub: the student alone, and all of the release.

    The token is what `huggingface_hub` finds: `HF_TOKEN`, or that of `hf auth login`.

    Args:
        release: to be handed on.
        repository: `OWNER/NAME` of both.
        private: whether new ones are.
    """

    release: Store
    repository: str
    private: bool

    def transfers(self) -> list[Transfer]:
        """As `Target` says."""
        return [
            Transfer(f"{folder}{name}", f"{HUB}{place}{self.repository}/{name}", self.release.size(f"{folder}{name}"))
            for _, place, folder in self._repositories()
            for name in _in_order(self.release / folder.rstrip("/"))
        ]

    def check(self) -> bool:
        """Whether a commit would change nothing isn't asked: the hub makes none then."""
        return False

    def send(self, say: Callable[[str], None]) -> None:
        """As `Target` says: one commit a repository, the model's first.

        Raises:
            InputError: when a repository holds something else than a release.
            LineageError: when the hub didn't take every file.
        """
        from huggingface_hub import HfApi

        # Of whichever HTTP library the hub's client is built on.
        from huggingface_hub.errors import HTTPError

        api, local = HfApi(), self.release.keep_local()
        for kind, place, folder in self._repositories():
            address = f"{HUB}{place}{self.repository}"
            try:
                self._fill(api, kind, address, folder, str(local / folder))
            except (HTTPError, ValueError) as error:
                said = " ".join(str(error).split())
                raise InputError(
                    f"the hub didn't take {address}: {said}; check its name, the network, and the token (hf auth "
                    "login, or HF_TOKEN)"
                ) from error
            say(address)

    def _fill(self, api: Any, kind: str, address: str, folder: str, local: str) -> None:
        api.create_repo(self.repository, repo_type=kind, private=self.private, exist_ok=True)
        there = set(api.list_repo_files(self.repository, repo_type=kind))
        if there - OF_A_NEW_REPOSITORY and SUMS not in there:
            raise InputError(f"{address} holds something else than a release: name another")
        api.upload_folder(
            repo_id=self.repository,
            repo_type=kind,
            folder_path=local,
            commit_message="Release",
            ignore_patterns=[".gitattributes", ".cache/*"],
            delete_patterns="*",
        )
        there = set(api.list_repo_files(self.repository, repo_type=kind))
        missing = set(_in_order(self.release / folder.rstrip("/"))) - there
        if missing:
            raise LineageError(f"the hub didn't take {min(missing)}: {address} isn't complete")

    def _repositories(self) -> Iterator[tuple[str, str, str]]:
        """Yield the kind of each repository, how its address begins, and the folder of the release that it gets."""
        yield "model", "", f"{STUDENT}/"
        yield "dataset", "datasets/", ""
