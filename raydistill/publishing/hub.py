"""Handing a release on to the Hugging Face hub."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from raydistill.core.errors import InputError, LineageError
from raydistill.core.store import Store
from raydistill.publishing.target import Transfer, in_order
from raydistill.report.bundle import STUDENT
from raydistill.report.certified import CERTIFICATE

HUB = "hf://"
OF_A_NEW_REPOSITORY = {".gitattributes", "README.md"}


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
            for name in in_order(self.release / folder.rstrip("/"))
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
        if there - OF_A_NEW_REPOSITORY and CERTIFICATE not in there:
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
        missing = set(in_order(self.release / folder.rstrip("/"))) - there
        if missing:
            raise LineageError(f"the hub didn't take {min(missing)}: {address} isn't complete")

    def _repositories(self) -> Iterator[tuple[str, str, str]]:
        """Yield the kind of each repository, how its address begins, and the folder of the release that it gets."""
        yield "model", "", f"{STUDENT}/"
        yield "dataset", "datasets/", ""
