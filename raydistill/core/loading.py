"""From a YAML file and `--set` overrides to a validated configuration, or one readable line that says what is wrong."""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from raydistill.core.config import Config, Preset
from raydistill.core.errors import ConfigError
from raydistill.core.kinds import kind_of
from raydistill.core.store import Store, holds_password

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
OF_PYDANTIC = re.compile(r"function-|constrained-|tuple\[|\[key\]")
"""Parts of a mistake's location that pydantic adds: validators, and kinds that a value may be of."""

PRESETS = Path(__file__).parent / "presets"
RESERVED = ("schema",)


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file, apply overrides, validate.

    Args:
        path: of a YAML file, or its URI; None takes the defaults. `${NAME}` in a value stands for an environment
            variable.
        overrides: `a.b=c`, in order; `c` is read as YAML, so `true`, `0.1` and `[1, 2]` have their types.

    Returns:
        The frozen configuration; `name` defaults to the file's stem.

    Raises:
        ConfigError: one line per mistake, naming the key and the nearest known one.
    """
    values: dict[str, Any] = {}
    if path:
        values = parse(_content(str(path)), str(path))
        values.setdefault("name", Path(path).stem)
    return overridden(values, overrides, f"{path}: " if path else "")


def overridden(values: Mapping[str, Any], overrides: Sequence[str], where: str = "") -> Config:
    """Apply overrides to the values of a configuration; arguments as those of `load_config` and `validate`."""
    chosen: dict[str, Any] = {}
    for override in overrides:
        _apply(chosen, override)
    # What is chosen goes before what the file says, and either before what its preset says.
    below = _merge(_preset(values), values)
    above = _merge(_preset(chosen), chosen)
    return validate(_expand(_merge(below, above, whole="compute" if "preset" in chosen else None)), where)


def _preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the preset that is named says; nothing where none is, or none that there is."""
    name = VARIABLE.sub(lambda found: os.environ.get(found[1], ""), str(values.get("preset")))
    if name not in get_args(Preset):
        return {}
    return parse((PRESETS / f"{name}.yaml").read_bytes(), f"preset {name}")


def validate(values: Mapping[str, Any], where: str = "") -> Config:
    """Validate the values of a configuration; what they don't name stays at its default, in every section.

    Args:
        values: as read; the run folder's own `schema` mark is passed over.
        where: put before the message, such as `"demo.yaml: "`.

    Raises:
        ConfigError: one line per mistake, naming the key and the nearest known one.
    """
    try:
        named = {name: value for name, value in values.items() if name not in RESERVED}
        return Config.model_validate(_merge(Config().model_dump(), named))
    except ValidationError as error:
        said: dict[str, list[str]] = {}
        for mistake in error.errors():
            location = [str(part) for part in mistake["loc"] if not OF_PYDANTIC.match(str(part))]
            said.setdefault(".".join(location), []).append(_explain(dict(mistake), location))
        # A value that could have been of several kinds, and is of none, is one mistake.
        lines = [f"{name or 'configuration'}: {' or '.join(dict.fromkeys(why))}" for name, why in said.items()]
        raise ConfigError(where + "; ".join(lines)) from error


def _content(path: str) -> bytes:
    try:
        if "://" not in path:
            return Path(path).read_bytes()
        folder, _, name = path.rpartition("/")
        return Store.open(folder).read_bytes(name)
    except FileNotFoundError:
        raise ConfigError(f"no configuration file at {path}") from None
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror or str(error).splitlines()[0]}") from None


def parse(content: bytes, where: str) -> dict[str, Any]:
    """Read YAML that must hold keys and values.

    Args:
        content: the file's bytes.
        where: the file, for the message.

    Raises:
        ConfigError: when it isn't YAML, or holds something else.
    """
    try:
        values = yaml.load(content, _UniqueKeys)  # noqa: S506
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} can't be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict | None):
        raise ConfigError(f"{where} must hold keys and values, not a {type(values).__name__}")
    return values or {}


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is twice in a section: YAML forbids it, PyYAML takes the last. Source: YAML 1.2.2, 3.2.1."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        first: dict[str, yaml.Node] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (other := first.setdefault(key.value, key)) is not key:
                lines = [place.start_mark.line + 1 for place in (key, other)]
                raise yaml.MarkedYAMLError(problem=f"line {lines[0]}: {key.value} is there already, in line {lines[1]}")
        return node


def _apply(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {override!r} must look like section.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    section = values
    for key in keys[:-1]:
        inner = section.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override!r}: {key} is a value, not a section")
        section = inner
    section[keys[-1]] = value


def _merge(base: Mapping[str, Any], over: Mapping[str, Any], whole: str | None = None) -> dict[str, Any]:
    """Lay values over others, section by section; nothing of either is changed or shared by two sections.

    A section named `whole` is taken as it is, with nothing of what lies below.
    """
    merged = {key: _merge(value, {}) if isinstance(value, Mapping) else value for key, value in base.items()}
    for key, value in over.items():
        below = merged.get(key) if key != whole else None
        if key == "source" and isinstance(below, dict) and isinstance(value, Mapping) and "kind" in below:
            merged[key] = _merge_source(below, value)
        elif isinstance(value, Mapping):
            merged[key] = _merge(below if isinstance(below, dict) else {}, value, whole)
        else:
            merged[key] = value
    return merged


def _merge_source(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Another kind of source keeps nothing of the first; a path given without a kind says by itself what it is."""
    kind = over.get("kind", base.get("kind"))
    if "kind" not in over and "path" in over:
        kind = kind_of(str(over["path"])) or (kind if "path" in base else "parquet")
    return _merge(base if kind == base.get("kind") else {}, {"kind": kind, **over})


def _expand(value: Any, at: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _expand(inner, f"{at}.{key}".lstrip(".")) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, at) for inner in value]
    if not isinstance(value, str):
        return value
    value = VARIABLE.sub(partial(_environment, at), value)
    if holds_password(value):
        raise ConfigError(
            f"{at} is an address with a password in it, and a configuration is kept and shown: leave it out; what asks "
            "for credentials takes them from the environment"
        )
    return value


def _environment(at: str, match: re.Match[str]) -> str:
    name = match.group(1)
    if name not in os.environ:
        raise ConfigError(f"{at} needs the environment variable {name}: set it, or give --set {at}=…")
    return os.environ[name]


def _explain(mistake: Mapping[str, Any], location: Sequence[str]) -> str:
    """Say what is wrong at a place, with the nearest known key or word for an unknown one."""
    what, told = mistake["type"], mistake.get("ctx", {})
    if what == "extra_forbidden":
        return f"unknown key; {_key_hint(location[-1], _fields_at(location[:-1]))}"
    if what == "union_tag_invalid":
        tags = str(told["expected_tags"]).replace("'", "").split(", ")
        return f"kind {told['tag']!r} is unknown; {_word_hint(str(told['tag']), tags)}"
    if what == "literal_error" and isinstance(mistake["input"], str):
        words = re.findall(r"'([^']*)'", str(told["expected"]))
        return f"{mistake['input']!r} is unknown; {_word_hint(mistake['input'], words)}"
    if what in ("model_type", "model_attributes_type", "dict_type"):
        return f"holds settings, such as {location[-1]}.NAME, and is no value itself (got {mistake['input']!r:.60})"
    if what == "missing":
        return "missing"
    message, got = str(mistake["msg"]).removeprefix("Value error, "), repr(mistake.get("input"))
    shown = got if len(got) < 60 else got[:57] + "..."
    return message if isinstance(mistake.get("input"), dict) else f"{message} (got {shown})"


def _nearest(word: str, known: Sequence[str]) -> str | None:
    near = [name for name in known if word and name.startswith(word)] or difflib.get_close_matches(word, known, n=1)
    return next(iter(near), None)


def _key_hint(key: str, known: Sequence[str]) -> str:
    near = _nearest(key, known)
    return f"did you mean {near}?" if near else f"known here: {', '.join(sorted(known))}"


def _word_hint(word: str, known: Sequence[str]) -> str:
    near, those = _nearest(word, known), ", ".join(sorted(known))
    return f"did you mean {near}? Known here: {those}" if near else f"known here: {those}"


def setting_names(sections: Sequence[type[BaseModel]] = (Config,), at: str = "") -> list[str]:
    """Return what `--set` can name, `a.b`: every setting, those of optional sections and of each kind of source too."""
    names: dict[str, None] = {}
    for name, field in (found for section in sections for found in section.model_fields.items()):
        inner = [] if get_origin(field.annotation) is dict else _models(field.annotation)
        names |= dict.fromkeys(setting_names(inner, f"{at}{name}.") or [f"{at}{name}"])
    return list(names)


def _fields_at(location: Sequence[str]) -> list[str]:
    """Names of the fields of the section at a place in the configuration."""
    models: list[type[BaseModel]] = [Config]
    for key in location:
        found = [field.annotation for model in models if (field := model.model_fields.get(key))]
        models = [m for annotation in found for m in _models(annotation)] or [
            model for model in models if any(key in get_args(f.annotation) for f in model.model_fields.values())
        ]
    return [name for model in models for name in model.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]
