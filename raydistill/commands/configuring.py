"""Commands that help with a configuration; nothing is run."""

import json
from pathlib import Path
from typing import Annotated, get_args

import typer
import yaml

from raydistill.commands.guard import ConfigOption, JsonOption, SetOption, in_one_line
from raydistill.core.config import Preset
from raydistill.core.errors import ConfigError, InputError
from raydistill.core.loading import load_config
from raydistill.core.template import SCHEMA_FILE, schema, template

PRESETS = get_args(Preset)


@in_one_line
def init(
    file: Annotated[Path, typer.Argument(help="Where to write; it must not exist.")] = Path("raydistill.yaml"),
    preset: Annotated[str, typer.Option(help=f"Where the stages run: {', '.join(PRESETS)}.")] = PRESETS[0],
    source: Annotated[str | None, typer.Option(help="The cohort: path or URI; phantoms without one.")] = None,
) -> None:
    """Write a configuration with every setting explained, and beside it the schema that editors complete it by."""
    if preset not in PRESETS:
        raise ConfigError(f"--preset {preset}: there are {', '.join(PRESETS)}")
    if file.exists():
        raise InputError(f"{file} is there already: choose another name, or move it away")
    cohort = [] if source is None else [f"source.path={json.dumps(source)}"]
    config = load_config(None, [f"preset={preset}", f"name={json.dumps(file.stem)}", *cohort])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.with_name(SCHEMA_FILE).write_text(json.dumps(schema(), indent=1))
    file.write_text(template(config))
    typer.echo(f"{file}: change what you like, then raydistill plan --config {file}")


@in_one_line
def config(config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Print the resolved configuration."""
    resolved = load_config(config, overrides or []).model_dump(mode="json")
    typer.echo(json.dumps(resolved, indent=1) if as_json else yaml.safe_dump(resolved, sort_keys=False))


@in_one_line
def print_schema() -> None:
    """Print the JSON Schema of a configuration."""
    typer.echo(json.dumps(schema(), indent=1))
