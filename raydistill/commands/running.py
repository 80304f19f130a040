"""Commands that run something: here, or on a cluster."""

import json
import logging
import os
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal

import typer

from raydistill.commands.guard import (
    Answer,
    ConfigOption,
    LogOption,
    QuietOption,
    RequirePassOption,
    RunDirOption,
    SetOption,
    resuming,
)
from raydistill.core.config import Config
from raydistill.core.errors import InputError
from raydistill.core.interrupt import end_as_by_interrupt
from raydistill.core.loading import load_config, overridden, parse
from raydistill.core.signing import SUMS
from raydistill.core.store import Store, holds_password
from raydistill.folder import read

DASHBOARD = "RAY_API_SERVER_ADDRESS"
"""The variable that Ray reads a dashboard's address from."""

EXIT_BY_VERDICT = {"pass": 0, "fail": 3, "insufficient_evidence": 4}


@resuming
def run(
    config: ConfigOption = None,
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    require_pass: RequirePassOption = False,
    quiet: QuietOption = False,
    log_format: LogOption = "text",
) -> Answer:
    """Run the pipeline, or what of it isn't done yet."""
    return _run(load_config(config, overrides or []), run_dir, require_pass, quiet, log_format)


def _display(run: str, quiet: bool, log_format: str) -> Any:
    from raydistill.display import Display
    from raydistill.events import Events, Logged

    if log_format == "text":
        return Display(quiet)
    events = Events(run, quiet)
    logging.basicConfig(handlers=[Logged(events)])
    logging.captureWarnings(True)
    return events


def _run(resolved: Config, run_dir: str | None, require_pass: bool, quiet: bool, log_format: str) -> Answer:
    end_as_by_interrupt()
    from raydistill.running import default_run_dir
    from raydistill.running import run as run_pipeline

    display = _display(run_dir or default_run_dir(resolved), quiet, log_format)
    result = run_pipeline(resolved, run_dir, display)
    report = f"{result.run_uri}/report.html"
    lines = [f"verdict: {result.verdict}", *(f"  - {reason}" for reason in result.reasons), f"report: {report}"]
    told: dict[str, Any] = {"verdict": result.verdict, "reasons": result.reasons, "report": report, "release": None}
    if Store.open(f"{result.run_uri}/release").exists(SUMS):
        told["release"] = f"{result.run_uri}/release"
        lines.append(f"release: {told['release']}{'' if result.verdict == 'pass' else ', against the verdict'}")
    elif "student" in result.summary.get("nodes", ()):
        lines.append(f"release: none, as the verdict is {result.verdict}")
    display.result("verdict", lines, **told)
    return Answer({**told, "run": result.run_uri}, exit_code=EXIT_BY_VERDICT[result.verdict] if require_pass else 0)


@resuming
def audit(
    config: ConfigOption = None,
    images: Annotated[str | None, typer.Option("--images", help="Folder of images: path or URI.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Stable Diffusion folder, or hub id.")] = None,
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    require_pass: RequirePassOption = False,
    quiet: QuietOption = False,
    log_format: LogOption = "text",
) -> Answer:
    """Audit images or a model that somebody else made against the configuration's cohort; nothing is trained."""
    named = {"images": images, "model": model}
    given = [f"audited.{name}={json.dumps(place)}" for name, place in named.items() if place is not None]
    resolved = load_config(config, [*given, *(overrides or [])])
    if resolved.audited is None:
        raise InputError("what is to be audited? Name --images or --model, or set audited in the configuration")
    if config is None and not any(setting.startswith("source") for setting in overrides or []):
        raise InputError("audited against which cohort? Name it by --config, or --set source.path=COHORT")
    return _run(resolved, run_dir, require_pass, quiet, log_format)


@resuming
def tune(
    run_dir: Annotated[str, typer.Option("--run-dir", help="The run folder whose filter is searched: path or URI.")],
    overrides: SetOption = None,
    quiet: QuietOption = False,
    log_format: LogOption = "text",
) -> Answer:
    """Search the settings of an existing run's filter, by the run's own configuration and what is set here.

    What the search reads must be there; what else the run made needn't. Report and release of a run speak of the filter
    it had: once the search has ended with another they are taken back, until the run goes on.
    """
    end_as_by_interrupt()
    store = Store.open(run_dir)
    where = f"{store.uri}/config.yaml"
    resolved = overridden(parse(read(store, "config.yaml"), where), overrides or [], f"{where}: ")
    if resolved.audited is not None:
        raise InputError(f"{store.uri} audits what somebody else made: it has no filter to search the settings of")
    from raydistill.running import run_alone
    from raydistill.stages.outcomes import broken_in_words

    display = _display(run_dir, quiet, log_format)
    manifest = run_alone(resolved, "tune", run_dir, display)
    if manifest.skipped:
        raise InputError(f"there is nothing to search: {manifest.skipped}")
    facts = manifest.facts
    lines = [", ".join(f"{name} {value:.4g}" for name, value in facts["chosen"].items())]
    if not facts["chosen_is_feasible"]:
        said = broken_in_words(facts["broken"], manifest.counts["trials"])
        lines.append(f"no setting kept every bound: {said}; this one is the nearest")
    lines.append(f"go on: raydistill run --config {quote(where)} --run-dir {quote(run_dir)}")
    told = {name: facts[name] for name in ("chosen", "chosen_is_feasible", "broken")}
    display.result("chosen", lines, node="tune", stage="Tune", **told)
    return Answer({**told, "run": store.uri})


@resuming
def submit(
    context: typer.Context,
    job: Annotated[Literal["distill", "tune", "audit"], typer.Argument(help="Of jobs/; its options follow.")],
    address: Annotated[
        str, typer.Option("--address", envvar=DASHBOARD, help="The cluster's dashboard.")
    ] = "http://127.0.0.1:8265",
    working_dir: Annotated[Path, typer.Option("--working-dir", help="Is uploaded; holds jobs/.")] = Path(),
    runtime_env: Annotated[
        Path | None, typer.Option("--runtime-env", help="YAML of Ray's runtime environment.")
    ] = None,
) -> Answer:
    """Submit a job to a cluster, follow its log, and end with its exit code. Ctrl-C leaves it running."""
    from raydistill.submitting import submit as submit_job

    if holds_password(address):
        raise InputError("--address holds a password, and is shown: leave it out; Ray's token is taken from its file")
    # Without a scheme Ray takes an address for another of the cluster's ports, and waits for it.
    address = address if "://" in address else f"http://{address}"
    # Ray asks this variable first, and then RAY_ADDRESS, whatever address it is given.
    os.environ[DASHBOARD] = address
    found, code = submit_job(address, job, context.args, working_dir.resolve(), runtime_env, typer.echo)
    return Answer({"job": found, "address": address, "exit_code": code}, exit_code=code)
