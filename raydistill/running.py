"""One run from configuration to verdict: session, stages in order, summary, report, release."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from raydistill.core.config import Config
from raydistill.core.errors import ConfigError, InputError
from raydistill.core.manifest import SUMMARY, Manifest
from raydistill.core.store import Store
from raydistill.display import Display
from raydistill.result import UNDECIDED, RunResult

TEMPORARY = "/runtime_resources/working_dir_files/"
"""Part of the path at which Ray unpacks what `ray job submit --working-dir` uploaded."""


def default_run_dir(config: Config) -> str:
    """Return the run folder used when none is given."""
    return f"runs/{config.name}"


def check_before_ray(config: Config, run: Store, stages: Sequence[Any]) -> None:
    """Refuse what can be known to be wrong before anything is started.

    Raises:
        ConfigError, InputError: when the run folder, the source or a setting of a stage can't be used, or where no
            cluster answers and this machine has no room for a stage.
    """
    check_configured(config, run, stages)
    short = short_here(config, stages)
    if short:
        raise ConfigError(short)


def check_configured(config: Config, run: Store, stages: Sequence[Any]) -> None:
    """Refuse what is wrong wherever the stages would run.

    Raises:
        ConfigError, InputError: when the run folder, the source or a setting of a stage can't be used.
    """
    from raydistill.runner import check_folder

    check_folder(run, config)
    for stage in stages:
        try:
            stage.check(config)
        except ConfigError as error:
            raise ConfigError(f"{stage.node}: {error}") from error


def short_here(config: Config, stages: Sequence[Any]) -> str | None:
    """Say which stage the local Ray has no room for and what to do; None where there is room or a cluster answers."""
    from raydistill.distributed.capacity import local
    from raydistill.distributed.session import reachable_address

    if reachable_address() is not None:
        return None
    room = local(config.cluster.num_cpus)
    return _never(stages, room, room)


def _never(stages: Sequence[Any], now: Any, later: Any) -> str | None:
    never = [short for stage in stages for short in _lacks(stage, now, later) if short.never]
    if not never:
        return None
    return (
        f"{never[0].said}: lower its compute.num_workers, num_cpus, num_gpus or memory_gb, take another preset, "
        "raise cluster.num_cpus, join a larger cluster through RAY_ADDRESS, or say that nodes will be added by hand "
        "(cluster.grows)"
    )


def run(config: Config, run_dir: str | None = None, display: Display | None = None) -> RunResult:
    """Bring every node up to date, then write summary, report and, if the verdict allows it, the release.

    Args:
        config: the resolved configuration.
        run_dir: a path or URI; `runs/<name>` by default. The same folder again resumes.
        display: what the person at the terminal sees; nothing by default.

    Returns:
        The verdict, `not yet` where it wasn't reached, and where to look.

    Raises:
        RaydistillError: with a message for that person.
    """
    from raydistill.distributed.environment import prepare_libraries

    prepare_libraries()
    store = Store.open(run_dir or default_run_dir(config))
    from raydistill.pipeline import wire
    from raydistill.runner import Runner

    display = display or Display(quiet=True)
    if store.is_local and TEMPORARY in store.path:
        raise ConfigError(
            f"the run folder {store.path} lies in the job's temporary folder and would go with it: pass --run-dir"
        )
    runner = Runner(store, config, wire(config))
    check_before_ray(config, store, runner.stages)
    states = {stage.node: "pending" for stage in runner.stages}
    cached = {line.node for line in runner.plan() if line.state == "cached"}
    if len(cached) == len(states):
        runner.open()
        display.line(f"everything in {store.uri} is up to date; nothing to run")
        return finish(runner, _found(runner, runner.stages))
    _take_back(store)
    runner.open()
    _run_stages(runner, states, display)
    return finish(runner, states)


def run_alone(config: Config, node: str, run_dir: str, display: Display | None = None) -> Manifest:
    """Bring one node of a run up to date, whose inputs are all there; until it has ended, the run is what it was.

    Keys of what it reads are those that the run knows: the source needn't be there any more.

    Args:
        config: the resolved configuration; the run folder is of this when the node has ended.
        node: what is brought up to date. What isn't current any more is pending then, and report and release are taken
            back.
        run_dir: path or URI of the run.
        display: as for `run`.

    Returns:
        The node's manifest.

    Raises:
        InputError: when something that the node reads isn't there.
    """
    from raydistill.folder import new_runner, unchanged

    display, known = display or Display(quiet=True), unchanged(config, run_dir)
    runner = new_runner(config, run_dir, known)
    number, stage = next((i, one) for i, one in enumerate(runner.stages, start=1) if one.node == node)
    check_before_ray(config, runner.run, [stage])
    states = {line.node: line.state for line in runner.plan()}
    if missing := [other.node for other in stage.sources() if states[other.node] != "cached"]:
        raise InputError(
            f"{node} reads what {missing[0]} makes, and {runner.run.uri} has none for this configuration: finish the "
            f"run up to there (raydistill run), or leave what is set for {missing[0]} as it is"
        )
    if states[node] == "cached" and runner.is_of_this():
        display.line(f"{node} in {runner.run.uri} is up to date; nothing to run")
    else:
        with ExitStack() as stack:
            if states[node] != "cached":
                _connect(stack, runner, [stage], display)
                _say_what_is_waited_for(runner, stage, display)
            _execute(runner, stage, number, display)
    # Also where nothing was to run: a kill may have kept the last attempt from getting so far.
    cached = {line.node for line in runner.plan() if line.state == "cached"}
    if len(cached) < len(runner.stages):
        _take_back(runner.run)
    runner.open()
    found = _found(runner, [other for other in runner.stages if other.node in cached])
    finish(runner, {other.node: "pending" for other in runner.stages} | found)
    manifest: Manifest = runner.manifests[node]
    return manifest


def _take_back(run: Store) -> None:
    """Delete what speaks of other evidence than what will be there: a run killed on the way must not leave it."""
    from raydistill.report.bundle import withdraw
    from raydistill.report.html import PAGE

    withdraw(run)
    run.delete(PAGE)


def _found(runner: Any, stages: Sequence[Any]) -> dict[str, str]:
    """Return the states of nodes that are there."""
    return {one.node: "skipped" if runner.manifests[one.node].skipped else "cached" for one in stages}


def _run_stages(runner: Any, states: dict[str, str], display: Display) -> None:
    """Run the nodes in order; Ray starts, or is joined, before the first that needs it and isn't cached.

    Where Ray alone can say whether there is room for them, it is asked before any work.
    """
    with ExitStack() as stack:
        is_connected, is_asked = False, _ray_alone_knows(runner.stages)
        for number, stage in enumerate(runner.stages, start=1):
            needs_ray = stage.needs_ray or (is_asked and any(later.needs_ray for later in runner.stages[number:]))
            if needs_ray and not is_connected and not runner.is_cached(stage):
                _connect(stack, runner, runner.stages, display)
                is_connected = True
            if stage.needs_ray and is_connected:
                _say_what_is_waited_for(runner, stage, display)
            _run_stage(runner, stage, number, states, display)


def _ray_alone_knows(stages: Sequence[Any]) -> bool:
    """Whether `short_here` can't have told all: of a cluster that is joined, or of this machine's GPUs and memory."""
    from raydistill.distributed.session import reachable_address

    asked = [compute for stage in stages for compute in stage.asks().values()]
    return reachable_address() is not None or any(one.num_gpus or one.memory_gb for one in asked)


def _connect(stack: ExitStack, runner: Any, stages: Sequence[Any], display: Display) -> None:
    from raydistill.distributed.capacity import grown, present
    from raydistill.distributed.session import require_shared, session

    cluster = stack.enter_context(session(runner.config.cluster))
    now = present()
    later = now if cluster["is_local"] else grown(runner.config.cluster)
    require_shared(runner.run.is_local, runner.run.uri, now.nodes, later.nodes if later else None)
    display.line(f"Ray at {cluster['address']}: {_nodes(cluster['nodes'])}, {cluster['cpus']:g} CPUs")
    short = _never(stages, now, later)
    if short:
        raise ConfigError(short)


def _nodes(count: int) -> str:
    return f"{count} node{'s' * (count != 1)}"


def _lacks(stage: Any, now: Any, later: Any) -> list[Any]:
    from raydistill.distributed.capacity import lack

    found = (lack(who, compute, stage.is_gang, now, later) for who, compute in stage.asks().items())
    return [short for short in found if short]


def _say_what_is_waited_for(runner: Any, stage: Any, display: Display) -> None:
    from raydistill.distributed.capacity import present

    for short in [] if runner.is_cached(stage) else _lacks(stage, present(), None):
        said = f"{short.said}: it waits until the cluster has grown"
        display.line(said, stage.node, type(stage).__name__)


def _run_stage(runner: Any, stage: Any, number: int, states: dict[str, str], display: Display) -> None:
    states[stage.node] = "running"
    _write_summary(runner, states)
    try:
        states[stage.node] = _execute(runner, stage, number, display)
    except BaseException:
        states[stage.node] = "failed"
        _write_summary(runner, states)
        raise


def _execute(runner: Any, stage: Any, number: int, display: Display) -> str:
    """Bring a node up to date before a person's eyes; return its state."""
    from raydistill.distributed.gauges import watched

    with display.stage(stage.node, number, len(runner.stages), type(stage).__name__) as shown:
        manifest, cached = runner.execute(stage, watched(shown.progress, stage.node), shown.standings)
        state = "skipped" if manifest.skipped else "cached" if cached else "done"
        shown.finish(state, manifest)
    return state


def finish(runner: Any, states: dict[str, str]) -> RunResult:
    """Write the summary, render the report, fill or empty RUN/release; at the end clear what killed runs left."""
    from raydistill.report.bundle import publish
    from raydistill.report.html import write_report
    from raydistill.runner import WORK

    summary = _write_summary(runner, states)
    write_report(runner, summary)
    publish(runner, summary)
    if summary["verdict"]:
        runner.run.delete(WORK)
    return RunResult(summary["verdict"] or UNDECIDED, summary["reasons"], runner.run.uri, summary)


def _write_summary(runner: Any, states: dict[str, str]) -> dict[str, Any]:
    from raydistill.summary import summarise

    summary = summarise(runner, states)
    runner.run.write_json(SUMMARY, summary)
    return summary
