"""Commands that look at a run, or at what one would be."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from raydistill.commands.guard import (
    Answer,
    ConfigOption,
    RunArgument,
    RunDirOption,
    SetOption,
    answering,
    show_table,
)
from raydistill.core.errors import InputError
from raydistill.core.loading import load_config
from raydistill.core.prices import PACKAGED, read_prices
from raydistill.folder import new_runner, opened, read_summary


@answering
def plan(
    config: ConfigOption = None,
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    prices: Annotated[
        Path | None, typer.Option(help="YAML table of prices; the packaged examples without one.")
    ] = None,
    rates_from: Annotated[
        str | None, typer.Option(help="Run folder whose measured rates are used; --run-dir's own by default.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="GPU of stages that don't name theirs, such as L4.")] = None,
) -> Answer:
    """Show every node, cached or not, what it reads, and what is still to run with hours, machines and money.

    Refuses what a configuration alone shows to be wrong.
    """
    resolved, table = load_config(config, overrides or []), read_prices(prices, gpu)
    from raydistill.distributed.environment import prepare_libraries

    prepare_libraries()
    from raydistill.costs import words
    from raydistill.costs.plan import estimate, own_rates, rates_of
    from raydistill.running import check_configured, default_run_dir, short_here

    folder, source = run_dir or default_run_dir(resolved), str(prices or PACKAGED)
    runner = new_runner(resolved, folder)
    check_configured(resolved, runner.run, runner.stages)
    lines = runner.plan()
    rates = rates_of(rates_from) if rates_from else own_rates(folder)
    ahead = estimate(resolved, runner.stages, runner.manifests, table, rates)
    here = short_here(resolved, runner.stages)

    def show() -> None:
        rows = [(x.node, x.stage, x.state, x.key or "", ", ".join(sorted(set(x.inputs.values())))) for x in lines]
        show_table(("node", "stage", "state", "key", "reads"), rows)
        if ahead.bills:
            typer.echo()
            show_table(words.HEADER, words.rows(ahead))
            typer.echo("\n".join(words.sentences(ahead, table, source)))
        if here:
            typer.echo(f"`raydistill run` would refuse this here: {here}")

    nodes, cost = [line.__dict__ for line in lines], words.fields(ahead, table, source)
    return Answer({"nodes": nodes, "cost": cost, "short_here": here}, show)


@answering
def status(
    run_dir: RunArgument,
    metrics: Annotated[bool, typer.Option("--metrics", help="Show every metric too.")] = False,
) -> Answer:
    """Show how far a run is, from its summary."""
    summary = read_summary(run_dir)
    return Answer(summary, partial(_show, summary, metrics))


def _show(summary: dict[str, Any], metrics: bool) -> None:
    rows = [(name, n["state"], f"{n['seconds'] or 0:.0f} s", n["rows"] or "") for name, n in summary["nodes"].items()]
    show_table(("node", "state", "time", "rows"), rows)
    if metrics:
        from raydistill.summary import metric_tables

        typer.echo(metric_tables(summary))
    typer.echo(f"verdict: {summary['verdict'] or 'not yet'}")
    for reason in summary["reasons"]:
        typer.echo(f"  - {reason}")


@answering
def checkpoint(
    run_dir: RunArgument,
    node: Annotated[str, typer.Argument(help="A training that isn't finished, such as teacher.")],
    folder: Annotated[Path, typer.Argument(help="Where to write; it must not exist.")],
) -> Answer:
    """Write the last checkpoint of a training as the model it would have become. A teacher's is private."""
    runner = opened(run_dir)
    if folder.exists():
        raise InputError(f"{folder} is there already: choose another folder")
    states = {line.node: line for line in runner.plan()}
    stages = {stage.node: stage for stage in runner.stages}
    if node not in states:
        raise InputError(f"no node {node} in {runner.run.uri}; there are {', '.join(states)}")
    if states[node].state == "waiting":
        raise InputError(f"{node} hasn't begun: what it reads isn't complete yet")
    if states[node].state == "cached":
        raise InputError(f"{node} is finished: its artifact is {runner.run.uri}/{node}/{states[node].key}")
    steps = stages[node].write_checkpoint(runner.context(stages[node]), folder)
    said = partial(typer.echo, f"{node} after {steps} steps: {folder}")
    return Answer({"node": node, "steps": steps, "folder": str(folder)}, said)


@answering
def report(run_dir: RunArgument) -> Answer:
    """Render report.html of a run again."""
    from raydistill.report.html import write_report

    runner = opened(run_dir)
    runner.plan()
    write_report(runner, read_summary(run_dir))
    where = f"{runner.run.uri}/report.html"
    return Answer({"report": where}, partial(typer.echo, where))
