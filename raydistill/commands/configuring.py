"""Commands that help with a configuration; nothing is run."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated, get_args

import typer
import yaml

from raydistill.commands.cohorts import at
from raydistill.commands.guard import Answer, ConfigOption, SetOption, answering, show_json
from raydistill.core.config import Preset
from raydistill.core.errors import ConfigError, InputError
from raydistill.core.loading import load_config
from raydistill.core.template import SCHEMA_FILE, schema, template

PRESETS = get_args(Preset)


def _presets(begun: str) -> list[str]:
    """Complete the name of a preset."""
    return [name for name in PRESETS if name.startswith(begun)]


@answering
def init(
    file: Annotated[Path, typer.Argument(help="Where to write; it must not exist.")] = Path("raydistill.yaml"),
    preset: Annotated[
        str, typer.Option(help=f"Where the stages run: {', '.join(PRESETS)}.", autocompletion=_presets)
    ] = PRESETS[0],
    source: Annotated[str | None, typer.Option(help="The cohort: path or URI; phantoms without one.")] = None,
    overrides: SetOption = None,
) -> Answer:
    """Write a configuration with every setting explained, and beside it the schema that editors complete it by."""
    if preset not in PRESETS:
        raise ConfigError(f"--preset {preset}: there are {', '.join(PRESETS)}")
    if file.exists():
        raise InputError(f"{file} is there already: choose another name, or move it away")
    chosen = [*at(source, overrides or []), *(overrides or [])]
    config = load_config(None, [f"preset={preset}", f"name={json.dumps(file.stem)}", *chosen])
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(SCHEMA_FILE)
    beside.write_text(json.dumps(schema(), indent=1))
    file.write_text(template(config))
    said = f"{file}: change what you like, then raydistill inspect --config {file}, and raydistill plan --config {file}"
    return Answer({"file": str(file), "schema": str(beside)}, partial(typer.echo, said))


@answering
def config(config: ConfigOption = None, overrides: SetOption = None) -> Answer:
    """Print the resolved configuration."""
    resolved = load_config(config, overrides or []).model_dump(mode="json")
    return Answer(resolved, lambda: typer.echo(yaml.safe_dump(resolved, sort_keys=False)))


@answering
def print_schema() -> Answer:
    """Print the JSON Schema of a configuration."""
    return Answer(schema(), partial(show_json, schema()))
