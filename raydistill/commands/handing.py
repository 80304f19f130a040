"""Commands about what is handed on: checking it, and sending it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raydistill.commands.guard import Answer, answering, resuming
from raydistill.core.errors import InputError, LineageError
from raydistill.core.manifest import SUMMARY
from raydistill.core.store import Store
from raydistill.folder import opened, summary_of

if TYPE_CHECKING:
    from raydistill.publishing.target import Transfer

PUBLISHED = {
    "there": "is there already:",
    "planned": "nothing was sent, for --dry-run; it would be",
    "sent": "sent:",
}
"""What is said of a release by what became of it."""

KeyOption = Annotated[Path | None, typer.Option(help="PEM file: release and certificate must be signed by this key.")]
Say = Callable[[str], None]
Check = Callable[[str, bytes | None, Say], dict[str, Any]]
"""Of a place and the custodian's public key: says what it finds, and returns it."""


@answering
def verify(
    run_dir: Annotated[str, typer.Argument(help="A run folder, a release, or its student alone: path or URI.")],
    public_key: KeyOption = None,
) -> Answer:
    """Re-hash a run's artifacts, or a release alone, and name the first broken link; check the signatures.

    Exits with 0 if all holds, 1 if something doesn't, 2 if there is nothing to check or the key can't be read.
    """
    pem, folder = _pem(public_key), Store.open(run_dir)
    what, check = _what_lies_in(folder)
    about: dict[str, Any] = {"what": what, "uri": folder.uri, "holds": True, "problem": None}
    try:
        about |= check(run_dir, pem, typer.echo)
    except LineageError as error:
        about |= {"holds": False, "problem": str(error)}
        return Answer(about, partial(typer.echo, f"error: {error}", err=True), error.exit_code)
    return Answer(about)


@resuming
def publish(
    release: Annotated[str, typer.Argument(help="A release: path or URI.")],
    target: Annotated[str, typer.Argument(help="hf://OWNER/NAME, or an empty folder or bucket.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check, and list what would go where; send nothing.")
    ] = False,
    private: Annotated[bool, typer.Option("--private/--public", help="Of repositories made on the hub.")] = True,
    public_key: KeyOption = None,
) -> Answer:
    """Send a release that verifies and whose verdict is pass to a bucket, or to the Hugging Face hub."""
    from raydistill.publishing.released import checked, open_target

    source = Store.open(release)
    checked(source, _pem(public_key))
    place = open_target(source, target, private=private)
    is_there, transfers = place.check(), place.transfers()
    if not dry_run and not is_there:
        place.send(typer.echo)
    state = "there" if is_there else "planned" if dry_run else "sent"
    return Answer({"state": state, "files": [asdict(one) for one in transfers]}, partial(_show, state, transfers))


def _show(state: str, transfers: Sequence["Transfer"]) -> None:
    for one in transfers if state == "planned" else ():
        typer.echo(f"{one.path} -> {one.to} ({one.size} bytes)")
    typer.echo(f"{PUBLISHED[state]} {len(transfers)} files, {sum(one.size for one in transfers)} bytes")


def _pem(public_key: Path | None) -> bytes | None:
    if public_key and not public_key.is_file():
        raise InputError(f"--public-key {public_key}: there is no such file")
    return public_key.read_bytes() if public_key else None


def _what_lies_in(folder: Store) -> tuple[str, Check]:
    """Return what lies there, and how it is checked."""
    from raydistill.core.signing import SUMS
    from raydistill.report.certified import SIGNED
    from raydistill.report.croissant import CROISSANT

    if not folder.exists("config.yaml"):
        if any(folder.exists(name) for name in (SUMS, CROISSANT, "model_index.json")):
            return "release", _release
        if folder.exists(SIGNED):
            return "certificate", _certificate
        _refuse(folder)
    return "run", _run


def _refuse(folder: Store) -> None:
    """Say why there is nothing to check in a folder.

    Raises:
        InputError: always.
    """
    from raydistill.core.signing import SUMS
    from raydistill.report.bundle import FOLDER
    from raydistill.result import UNDECIDED

    above = Store(folder.filesystem, *(at.rpartition("/")[0] for at in (folder.path, folder.uri)))
    if above.exists(SUMS):
        raise InputError(f"{folder.uri} is a part of a release: verify the whole of it, {above.uri}")
    if folder == above / FOLDER and above.exists(SUMMARY) and not folder.files():
        raise InputError(f"{above.uri} released nothing; its verdict: {summary_of(above)['verdict'] or UNDECIDED}")
    if not folder.exists():
        raise InputError(f"{folder.uri}: no such folder")
    raise InputError(f"neither a run nor a release, its student or a signed certificate is in {folder.uri}")


def _release(place: str, pem: bytes | None, say: Say) -> dict[str, Any]:
    from raydistill.core.signing import SIGNATURE, SUMS
    from raydistill.report.verified import verify_release

    release = Store.open(place)
    if not release.exists(SUMS):
        raise LineageError(f"{release.uri} has no {SUMS}: it wasn't finished, or not copied whole; get it once more")
    if pem and not release.exists(SIGNATURE):
        raise LineageError(
            f"{release.uri} isn't signed, so nothing tells whose it is: ask whoever it is from for a signed one"
        )
    found = verify_release(release, pem)
    assert found
    say(f"{found.files} files are what {SUMS} says; verdict: {found.verdict}, {found.decided}")
    for caveat in found.caveats:
        say(f"but: {caveat}")
    for path in found.beside:
        say(f"not of the release, but of a hub: {path}")
    return asdict(found)


def _certificate(place: str, pem: bytes | None, say: Say) -> dict[str, Any]:
    from raydistill.report.certified import CERTIFICATE, SIGNED, verify_certificate

    verify_certificate(Store.open(place), pem)
    say(f"{CERTIFICATE} is what {SIGNED} signs")
    return {}


def _run(place: str, pem: bytes | None, say: Say) -> dict[str, Any]:
    from raydistill.report.bundle import FOLDER
    from raydistill.report.certified import verify_certificate
    from raydistill.report.verified import verify_release

    runner, nodes = opened(place), {}
    for node, count in runner.verify():
        nodes[node] = count
        say(f"ok  {node}: {count} files")
    release = verify_release(runner.run / FOLDER, pem)
    verify_certificate(runner.run, pem)
    files = sum(nodes.values()) + (release.files if release else 0)
    say(f"{files} files are what their manifests say")
    return {"files": files, "nodes": nodes, "release": release and asdict(release)}
