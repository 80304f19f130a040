"""The `raydistill` command: run, plan, status, verify, report, config. Mistakes get one line and exit code 2."""

import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from raydistill import __version__
from raydistill.core.config import Config
from raydistill.core.errors import InputError, RaydistillError
from raydistill.core.interrupt import end_as_by_interrupt
from raydistill.core.loading import load_config, overridden, parse
from raydistill.core.prices import PACKAGED, read_prices
from raydistill.core.store import Store
from raydistill.folder import new_runner, opened, read, read_summary

EXIT_BY_VERDICT = {"pass": 0, "fail": 3, "insufficient_evidence": 4}
INTERRUPTED, UNREAD = 130, 141
"""128 and the number of the signal, as shells have it: SIGINT, SIGPIPE."""

app = typer.Typer(
    add_completion=True, no_args_is_help=True, help="Privacy distillation of text-to-image models on Ray.",
    pretty_exceptions_enable=False,
)  # fmt: skip

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="YAML file; the defaults without one.")]
RunDirOption = Annotated[str | None, typer.Option("--run-dir", help="Path or URI; runs/<name> by default.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override one value: section.key=value.")]
RunArgument = Annotated[str, typer.Argument(help="A run folder: path or URI.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
LogOption = Annotated[
    Literal["text", "json"],
    typer.Option("--log-format", envvar="RAYDISTILL_LOG_FORMAT", help="json: one event a line, for log collectors."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def in_one_line(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the errors raydistill raises on purpose, and those of disks and networks, into one line and an exit code."""

    @wraps(command)
    def guarded(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except RaydistillError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:
            # Who read the output has read enough; what Python flushes at its end must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(UNREAD) from None
        except OSError as error:
            said = " ".join(str(error).split())
            typer.echo(f"error: {said}; the same command continues once that is mended", err=True)
            raise typer.Exit(RaydistillError.exit_code) from None
        except KeyboardInterrupt:
            typer.echo("interrupted; the same command continues", err=True)
            raise typer.Exit(INTERRUPTED) from None

    return guarded


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Privacy distillation of text-to-image models on Ray."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
@in_one_line
def run(
    config: ConfigOption = None,
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    require_pass: Annotated[bool, typer.Option(help="Exit 3 on fail, 4 on insufficient evidence.")] = False,
    quiet: QuietOption = False,
    log_format: LogOption = "text",
) -> None:
    """Run the pipeline, or what of it isn't done yet."""
    _run(load_config(config, overrides or []), run_dir, require_pass, quiet, log_format)


def _display(run: str, quiet: bool, log_format: str) -> Any:
    from raydistill.display import Display
    from raydistill.events import Events

    return Events(run, quiet) if log_format == "json" else Display(quiet)


def _run(resolved: Config, run_dir: str | None, require_pass: bool, quiet: bool, log_format: str) -> None:
    end_as_by_interrupt()
    from raydistill.run import default_run_dir
    from raydistill.run import run as run_pipeline

    result = run_pipeline(resolved, run_dir, _display(run_dir or default_run_dir(resolved), quiet, log_format))
    typer.echo(f"verdict: {result.verdict}")
    for reason in result.reasons:
        typer.echo(f"  - {reason}")
    typer.echo(f"report: {result.run_uri}/report.html")
    if require_pass:
        raise typer.Exit(EXIT_BY_VERDICT[result.verdict])


@app.command()
@in_one_line
def audit(
    config: ConfigOption = None,
    images: Annotated[str | None, typer.Option("--images", help="Folder of images: path or URI.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Stable Diffusion folder, or hub id.")] = None,
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    require_pass: Annotated[bool, typer.Option(help="Exit 3 on fail, 4 on insufficient evidence.")] = False,
    quiet: QuietOption = False,
    log_format: LogOption = "text",
) -> None:
    """Audit images or a model that somebody else made against the configuration's cohort; nothing is trained."""
    named = {"images": images, "model": model}
    given = [f"audited.{name}={json.dumps(place)}" for name, place in named.items() if place is not None]
    resolved = load_config(config, [*given, *(overrides or [])])
    if resolved.audited is None:
        raise InputError("what is to be audited? Name --images or --model, or set audited in the configuration")
    _run(resolved, run_dir, require_pass, quiet, log_format)


@app.command()
@in_one_line
def tune(
    run_dir: Annotated[str, typer.Option("--run-dir", help="The run folder whose filter is searched: path or URI.")],
    overrides: SetOption = None,
    quiet: QuietOption = False,
    log_format: LogOption = "text",
) -> None:
    """Search the settings of an existing run's filter, by the run's own configuration and what is set here.

    What the search reads must be there. Report and release of a run speak of the filter it had: once the search has
    ended they are taken back, until the run goes on.
    """
    end_as_by_interrupt()
    store = Store.open(run_dir)
    where = f"{store.uri}/config.yaml"
    resolved = overridden(parse(read(store, "config.yaml"), where), overrides or [], f"{where}: ")
    from raydistill.run import run_alone
    from raydistill.stages.outcomes import broken_in_words

    run_alone(resolved, "tune", run_dir, _display(run_dir, quiet, log_format))
    runner = new_runner(resolved, run_dir)
    runner.plan()
    manifest = runner.manifests["tune"]
    if manifest.skipped:
        raise InputError(f"there is nothing to search: {manifest.skipped}")
    facts = manifest.facts
    typer.echo(", ".join(f"{name} {value:.4g}" for name, value in facts["chosen"].items()))
    if not facts["chosen_is_feasible"]:
        said = broken_in_words(facts["broken"], manifest.counts["trials"])
        typer.echo(f"no setting kept every bound: {said}; this one is the nearest")
    typer.echo(f"go on: raydistill run --config {where} --run-dir {run_dir}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@in_one_line
def submit(
    context: typer.Context,
    job: Annotated[Literal["distill", "tune", "audit"], typer.Argument(help="Of jobs/; its options follow.")],
    address: Annotated[
        str, typer.Option("--address", envvar="RAY_API_SERVER_ADDRESS", help="The cluster's dashboard.")
    ] = "http://127.0.0.1:8265",
    working_dir: Annotated[Path, typer.Option("--working-dir", help="Is uploaded; holds jobs/.")] = Path(),
    runtime_env: Annotated[
        Path | None, typer.Option("--runtime-env", help="YAML of Ray's runtime environment.")
    ] = None,
) -> None:
    """Submit a job to a cluster, follow its log, and end with its exit code. Ctrl-C leaves it running."""
    from raydistill.submitting import submit as submit_job

    raise typer.Exit(submit_job(address, job, context.args, working_dir.resolve(), runtime_env, typer.echo))


@app.command()
@in_one_line
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
    as_json: JsonOption = False,
) -> None:
    """Show every node, cached or not, what it reads, and what is still to run with hours, machines and money.

    Refuses what a configuration alone shows to be wrong.
    """
    resolved, table = load_config(config, overrides or []), read_prices(prices)
    from raydistill.costs import words
    from raydistill.costs.plan import estimate, own_rates, rates_of
    from raydistill.run import check_configured, default_run_dir, short_here

    folder, source = run_dir or default_run_dir(resolved), str(prices or PACKAGED)
    runner = new_runner(resolved, folder)
    check_configured(resolved, runner.run, runner.stages)
    lines = runner.plan()
    rates = rates_of(rates_from) if rates_from else own_rates(folder)
    ahead = estimate(resolved, runner.stages, runner.manifests, table, rates)
    here = short_here(resolved, runner.stages)
    if as_json:
        nodes = [line.__dict__ for line in lines]
        typer.echo(
            json.dumps({"nodes": nodes, "cost": words.fields(ahead, table, source), "short_here": here}, indent=1)
        )
        return
    rows = [(x.node, x.stage, x.state, x.key or "", ", ".join(sorted(set(x.inputs.values())))) for x in lines]
    _table(("node", "stage", "state", "key", "reads"), rows)
    if ahead.bills:
        typer.echo()
        _table(words.HEADER, words.rows(ahead))
        typer.echo("\n".join(words.sentences(ahead, table, source)))
    if here:
        typer.echo(f"`raydistill run` would refuse this here: {here}")


@app.command()
@in_one_line
def status(
    run_dir: RunArgument,
    as_json: JsonOption = False,
    metrics: Annotated[bool, typer.Option("--metrics", help="Show every metric too.")] = False,
) -> None:
    """Show how far a run is, from its summary."""
    summary = read_summary(run_dir)
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
        return
    rows = [(name, n["state"], f"{n['seconds'] or 0:.0f} s", n["rows"] or "") for name, n in summary["nodes"].items()]
    _table(("node", "state", "time", "rows"), rows)
    if metrics:
        from raydistill.summary import metric_tables

        typer.echo(metric_tables(summary))
    typer.echo(f"verdict: {summary['verdict'] or 'not yet'}")
    for reason in summary["reasons"]:
        typer.echo(f"  - {reason}")


@app.command()
@in_one_line
def verify(
    run_dir: RunArgument,
    public_key: Annotated[
        Path | None, typer.Option(help="PEM file: release and certificate must be signed by this key.")
    ] = None,
) -> None:
    """Re-hash a run's artifacts, or a release alone, and name the first broken link; check the signatures."""
    from raydistill.core.signing import SUMS
    from raydistill.report.bundle import FOLDER, verify_release
    from raydistill.report.certified import CERTIFICATE, SIGNED, verify_certificate

    if public_key and not public_key.is_file():
        raise InputError(f"--public-key {public_key}: there is no such file")
    pem = public_key.read_bytes() if public_key else None
    alone = Store.open(run_dir)
    if alone.exists(SUMS):
        typer.echo(f"{verify_release(alone, pem)} files are what {SUMS} says")
        return
    if alone.exists(SIGNED) and not alone.exists("config.yaml"):
        verify_certificate(alone, pem)
        typer.echo(f"{CERTIFICATE} is what {SIGNED} signs")
        return
    runner = opened(run_dir)
    files = 0
    for node, count in runner.verify():
        files += count
        typer.echo(f"ok  {node}: {count} files")
    files += verify_release(runner.run / FOLDER, pem)
    verify_certificate(runner.run, pem)
    typer.echo(f"{files} files are what their manifests say")


@app.command()
@in_one_line
def checkpoint(
    run_dir: RunArgument,
    node: Annotated[str, typer.Argument(help="A training that isn't finished, such as teacher.")],
    folder: Annotated[Path, typer.Argument(help="Where to write; it must not exist.")],
) -> None:
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
    typer.echo(f"{node} after {steps} steps: {folder}")


@app.command()
@in_one_line
def report(run_dir: RunArgument) -> None:
    """Render report.html of a run again."""
    from raydistill.report.html import write_report

    runner = opened(run_dir)
    runner.plan()
    write_report(runner, read_summary(run_dir))
    typer.echo(f"{runner.run.uri}/report.html")


@app.command()
@in_one_line
def config(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Print the resolved configuration."""
    import yaml

    typer.echo(yaml.safe_dump(load_config(config, overrides or []).model_dump(mode="json"), sort_keys=False))


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    app()
