"""A configuration file to begin with: every setting with its default and what it is for, and its schema for editors."""

import textwrap
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from raydistill.core.config import Config
from raydistill.core.loading import VARIABLE

WIDTH, INDENT, OFF = 100, "  ", "# "
SAID = ("name", "preset", "source")
"""What a run says for itself; all else is commented out."""

SCHEMA_FILE = "raydistill.schema.json"
HEAD = f"""\
# yaml-language-server: $schema={SCHEMA_FILE}
#
# A run of raydistill. What is commented out are the defaults. What the run will do and cost: raydistill plan --config
# with this file; to start it: raydistill run --config with this file.
"""


def template(config: Config) -> str:
    """Write a configuration as YAML with comments, with all but `SAID` commented out.

    Without the `# ` before its other settings it is the same configuration.

    Args:
        config: with its defaults, such as a preset's.
    """
    writer = _Writer()
    return "\n".join([HEAD, *(writer.block(config, name) for name in Config.model_fields)])


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a configuration file.

    Nothing is required: what a file doesn't say of a section stays at its default.
    """
    found = Config.model_json_schema()
    for section in found["$defs"].values():
        section.pop("required", None)
    found = _with_variables(found)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def _with_variables(schema: Any) -> Any:
    """Allow an environment variable wherever a number, a yes or no, or one of several words is asked for."""
    if isinstance(schema, list):
        return [_with_variables(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") in ("integer", "number", "boolean") or "enum" in schema:
        about = {key: schema.pop(key) for key in ("title", "description", "default") if key in schema}
        return {**about, "anyOf": [schema, {"type": "string", "pattern": VARIABLE.pattern}]}
    return {key: _with_variables(value) for key, value in schema.items()}


class _Writer:
    """Writes settings; a kind of section is explained once, and one that was written before is referred to."""

    def __init__(self) -> None:
        self.written: list[tuple[str, BaseModel]] = []

    def block(self, config: Config, name: str) -> str:
        """Write a setting of the whole configuration."""
        off = "" if name in SAID else OFF
        return "".join(f"{off}{line}\n" for line in self._setting(config, name, "", explain=True))

    def _setting(self, section: BaseModel, name: str, above: str, *, explain: bool) -> Iterator[str]:
        field, value, where = type(section).model_fields[name], getattr(section, name), f"{above}{name}"
        if explain:
            yield from _comment(field, value)
        if not isinstance(value, BaseModel):
            yield f"{name}: {_flow(value)}"
        elif same := next((at for at, other in self.written if other == value), None):
            yield f"{name}: {{}}  # the defaults are those of {same}"
        else:
            is_new = not any(type(other) is type(value) for _, other in self.written)
            self.written.append((where, value))
            yield f"{name}:"
            for inner in type(value).model_fields:
                yield from (INDENT + line for line in self._setting(value, inner, f"{where}.", explain=is_new))


def _comment(field: FieldInfo, value: Any) -> Iterator[str]:
    """Say what a setting is for and what it can be."""
    about = field.description or (_first_sentence(value) if isinstance(value, BaseModel) else "")
    choices = [str(choice) for choice in _choices(field.annotation)]
    said = [about] if about else []
    said += [f"One of {', '.join(choices)}."] if len(choices) > 1 else []
    yield from (f"# {line}" for line in textwrap.wrap(" ".join(said), WIDTH, break_on_hyphens=False))


def _first_sentence(section: BaseModel) -> str:
    return " ".join((type(section).__doc__ or "").split("\n\n")[0].split())


def _choices(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    # Only of a value that may be left out: the choices of a list's items aren't the list's.
    return [found for inner in get_args(annotation) if type(None) in get_args(annotation) for found in _choices(inner)]


def _flow(value: Any) -> str:
    """Write a value on one line."""
    plain = TypeAdapter(Any).dump_python(value, mode="json")
    return yaml.safe_dump(plain, default_flow_style=True, width=10**6, sort_keys=False).removesuffix("...\n").strip()
