"""A run folder as it is: what `status`, `verify` and `report` read, whether or not its run is finished."""

import json
from collections.abc import Callable
from typing import Any

from raydistill.core.config import Config
from raydistill.core.errors import InputError
from raydistill.core.loading import parse, validate
from raydistill.core.manifest import SUMMARY
from raydistill.core.store import Store, readable


def new_runner(
    resolved: Config,
    run_dir: str,
    known: dict[str, str] | None = None,
    more: Callable[[list[Any]], list[Any]] = lambda stages: [],
) -> Any:
    """Return the runner of a configuration in a folder.

    Args:
        resolved: the whole configuration.
        run_dir: a path or URI.
        known: keys taken as given, by node.
        more: given the pipeline's stages, returns others that read them.
    """
    from raydistill.distributed.environment import prepare_libraries

    prepare_libraries()
    from raydistill.pipeline import wire
    from raydistill.runner import Runner

    stages = list(wire(resolved))
    return Runner(Store.open(run_dir), resolved, [*stages, *more(stages)], known)


def opened(run_dir: str, more: Callable[[list[Any]], list[Any]] = lambda stages: []) -> Any:
    """Return the runner of a run folder, by the keys of its summary: source and weights may be gone.

    Args:
        run_dir: a path or URI.
        more: given the pipeline's stages, returns others that read them.

    Raises:
        InputError: when that isn't a run folder, or a damaged one.
    """
    store = Store.open(run_dir)
    where = f"{store.uri}/config.yaml"
    resolved = validate(parse(read(store, "config.yaml"), where), f"{where}: ")
    keys = {node: entry["key"] for node, entry in read_summary(run_dir)["nodes"].items() if entry["key"]}
    return new_runner(resolved, run_dir, keys, more)


def unchanged(resolved: Config, run_dir: str) -> dict[str, str]:
    """Return the keys, by a run's summary, of the nodes that another configuration leaves as they are.

    Such are the nodes whose own part of it is the same, as is that of everything they read, and whose artifact is there
    and of this version.

    Args:
        resolved: the other configuration.
        run_dir: a path or URI of the run; without a summary nothing is known.
    """
    if not Store.open(run_dir).exists(SUMMARY):
        return {}
    runner, keys = opened(run_dir), dict[str, str]()
    before = {stage.node: stage for stage in runner.stages}
    for stage in new_runner(resolved, run_dir).stages:
        same, key = before.get(stage.node), runner.known.get(stage.node)
        if same and key and stage.is_like(same) and {view.node.node for view in stage.inputs.values()} <= keys.keys():
            manifest = runner.load(stage.node, key)
            if manifest and manifest.version == stage.version:
                keys[stage.node] = key
    return keys


def read_summary(run_dir: str) -> dict[str, Any]:
    """Return what `raydistill.summary` wrote.

    Raises:
        InputError: when there is none, or it isn't whole.
    """
    return summary_of(Store.open(run_dir))


def summary_of(store: Store) -> dict[str, Any]:
    """Return the summary of the run in a folder; errors as those of `read_summary`."""
    try:
        return dict(json.loads(read(store, SUMMARY)))
    except ValueError as error:
        raise InputError(f"{store.uri}/{SUMMARY} is damaged; `raydistill run` writes it again") from error


def read(store: Store, name: str) -> bytes:
    """Return a file of a run folder.

    Raises:
        InputError: when that isn't a run folder of this schema, or the file isn't there.
    """
    from raydistill.runner import check_folder

    with readable(store.uri):
        for needed in ("config.yaml", name):
            if not store.exists(needed):
                raise InputError(f"no {needed} in {store.uri}: is it a run folder?")
    check_folder(store)
    return store.read_bytes(name)
