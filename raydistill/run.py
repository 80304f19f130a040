"""One run from configuration to verdict: session, stages in order, summary, report, release."""

from dataclasses import dataclass
from typing import Any

from raydistill.core.config import Config
from raydistill.core.store import Store
from raydistill.display import Display


@dataclass(frozen=True)
class RunResult:
    """What a run came to: the verdict, its reasons, and where everything is."""

    verdict: str
    reasons: list[str]
    run_uri: str
    summary: dict[str, Any]


def default_run_dir(config: Config) -> str:
    """Return the run folder used when none is given."""
    return f"runs/{config.name}"


def check_before_ray(config: Config, run: Store) -> None:
    """Refuse what can be known to be wrong before anything is started.

    Raises:
        InputError: when the source or the run folder can't be used.
    """
    from raydistill.data.sources import open_source
    from raydistill.runner import check_folder

    check_folder(run)
    open_source(config.source).check()


def run(config: Config, run_dir: str | None = None, display: Display | None = None) -> RunResult:
    """Bring every node up to date, then write summary, report and, if the verdict allows it, the release.

    Args:
        config: the resolved configuration.
        run_dir: a path or URI; `runs/<name>` by default. The same folder again resumes.
        display: what the person at the terminal sees; nothing by default.

    Returns:
        The verdict and where to look.

    Raises:
        RaydistillError: with a message for that person.
    """
    from raydistill.distributed.session import prepare_libraries, require_shared, session

    prepare_libraries()
    store = Store.open(run_dir or default_run_dir(config))
    check_before_ray(config, store)
    from raydistill.pipeline import wire
    from raydistill.runner import Runner

    runner = Runner(store, config, wire(config))
    runner.open()
    display = display or Display(quiet=True)
    states = {stage.node: "pending" for stage in runner.stages}
    if all(line.state == "cached" for line in runner.plan()):
        display.line(f"everything in {store.uri} is up to date; nothing to run")
        states = dict.fromkeys(states, "cached")
        return finish(runner, states)
    with session(config.cluster) as cluster:
        require_shared(store.is_local, store.uri)
        display.line(f"Ray at {cluster['address']}: {cluster['nodes']} nodes, {cluster['cpus']:g} CPUs")
        _run_stages(runner, states, display)
    return finish(runner, states)


def _run_stages(runner: Any, states: dict[str, str], display: Display) -> None:
    for number, stage in enumerate(runner.stages, start=1):
        states[stage.node] = "running"
        _write_summary(runner, states)
        with display.stage(stage.node, number, len(runner.stages)) as shown:
            try:
                manifest, cached = runner.execute(stage, shown.progress)
            except BaseException:
                states[stage.node] = "failed"
                _write_summary(runner, states)
                raise
            states[stage.node] = "cached" if cached else "done"
            shown.finish(cached, manifest.counts, manifest.seconds)


def finish(runner: Any, states: dict[str, str]) -> RunResult:
    """Write the summary, render the report, fill or empty RUN/release."""
    from raydistill.report.bundle import publish
    from raydistill.report.html import write_report

    summary = _write_summary(runner, states)
    write_report(runner, summary)
    publish(runner, summary)
    return RunResult(summary["verdict"], summary["reasons"], runner.run.uri, summary)


def _write_summary(runner: Any, states: dict[str, str]) -> dict[str, Any]:
    from raydistill.summary import summarise

    summary = summarise(runner, states)
    runner.run.write_json("summary.json", summary)
    return summary
