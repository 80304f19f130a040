"""Commands about a cohort alone."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import typer

from raydistill.commands.guard import Answer, ConfigOption, QuietOption, SetOption, answering, show_table
from raydistill.core.kinds import refuse_unknown
from raydistill.core.loading import load_config

SHOWN_WORDS = 20
"""Findings, views or sexes that are named, the most frequent first."""


@answering
def inspect(
    source: Annotated[
        str | None, typer.Argument(help="A cohort: path or URI; the configuration's own without it.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    quiet: QuietOption = False,
) -> Answer:
    """Show what a cohort holds, what is wrong with it, and what it can support, before anything is trained.

    Nothing is written. What lies at a local path says by itself what it is; elsewhere name it: --set source.kind=dicom.
    """
    resolved = load_config(config, [*at(source, overrides or []), *(overrides or [])])
    from raydistill.display import Display
    from raydistill.inspecting import inspect as inspect_source

    with Display(quiet).stage("inspect", 1, 1, "inspect") as line:
        found = inspect_source(resolved, line.progress)
    return Answer(found.model_dump(mode="json"), partial(_show, found))


def _show(found: Any) -> None:
    _show_what_is_there(found)
    _show_what_is_not_used(found)
    _show_what_it_supports(found)


def _show_what_is_there(found: Any) -> None:
    typer.echo(f"{found.kind}: {found.rows:,} rows, {found.images:,} images of {found.patients:,} patients can be used")
    counted = {
        "images per patient": found.images_per_patient,
        "findings": found.labels,
        "views": found.views,
        "sexes": found.sexes,
        "ages": found.ages,
        "with text": {"images": found.texts},
        "duplicates": {"equal": found.duplicates["exact"], "nearly equal": found.duplicates["near"]},
        "under two patients": {"rows": found.under_two_patients},
    }
    if read := found.scrubbed["texts"]:
        counted["texts as prompts"] = {"read": read, "changed": found.scrubbed["changed"]}
        counted["taken out of them"] = found.scrubbed["removed"]
    show_table(("what", "of it"), [(name, _said(counts)) for name, counts in counted.items()])


def _show_what_is_not_used(found: Any) -> None:
    if not found.quarantined:
        return
    typer.echo()
    shown = {reason: "; ".join(map(_example, examples)) for reason, examples in found.examples.items()}
    show_table(("not used", "rows", "such as"), [(why, n, shown[why]) for why, n in found.quarantined.items()])


def _example(example: Any) -> str:
    return f"row {example.row}{f' ({example.origin})' if example.origin else ''}: {example.detail}"


def _show_what_it_supports(found: Any) -> None:
    if found.roles is not None:
        typer.echo()
        show_table(("role", "patients", "images"), [(role, *counts.values()) for role, counts in found.roles.items()])
        patients, findings = found.roles["calibration"]["patients"], len(found.shared_findings)
        typer.echo(f"smallest FPIR that {patients} calibration patients support: {found.supported_fpir:.3g}")
        typer.echo(f"findings that enough train patients share, to measure utility on: {findings}")
    for note in found.notes:
        typer.echo(f"note: {note}")
    for refusal in found.refusals:
        typer.echo(f"a run would stop: {refusal}")


def at(source: str | None, overrides: list[str]) -> list[str]:
    """Say where the cohort is, as an override; what it is must be known, or be said by another.

    Raises:
        InputError: when it isn't.
    """
    if source is None:
        return []
    if not any(override.startswith("source.kind=") for override in overrides):
        refuse_unknown(source)
    return [f"source.path={json.dumps(source)}"]


def _said(counts: Mapping[str, Any]) -> str:
    """Name the first of what was counted, and say how many more there are."""
    shown = list(counts.items())[:SHOWN_WORDS]
    more = [f"and {len(counts) - len(shown)} more"] if len(counts) > len(shown) else []
    return ", ".join([*(f"{name} {_number(count)}" for name, count in shown), *more])


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}"
