"""Building somebody's own part from its import string."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from raydistill.core.errors import ConfigError
from raydistill.core.section import Import

Part = TypeVar("Part")


def build(wanted: Import, kind: type[Part], where: str, **given: Any) -> Part:
    """Import a factory and call it.

    Args:
        wanted: import string and options.
        kind: the runtime-checkable protocol that the result must fulfil.
        where: the configuration's key, for messages.
        given: further keywords of the call; they win over options.

    Raises:
        ConfigError: when it can't be imported, doesn't take what it is given, or makes something else.
    """
    module, _, name = wanted.factory.partition(":")
    if not module or not name:
        raise ConfigError(f"{where}.factory: {wanted.factory!r} isn't of the form `package.module:Class`")
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where}.factory: can't import {wanted.factory}: {error}; is it on PYTHONPATH?") from error
    taken = {**wanted.options, **given}
    try:
        _bind(factory, taken)
    except TypeError as error:
        named = ", ".join(taken) or "nothing"
        raise ConfigError(f"{where}.options: {wanted.factory} doesn't take {named} alone: {error}") from error
    try:
        part = factory(**taken)
    except OSError as error:
        raise ConfigError(f"{where}: {wanted.factory} can't be made: {error}") from error
    if not isinstance(part, kind):
        made = type(part).__name__
        raise ConfigError(f"{where}.factory: {wanted.factory} makes a {made}, which isn't a {kind.__name__}")
    return part


def _bind(factory: Callable[..., Any], taken: Mapping[str, Any]) -> None:
    """Raise TypeError where a call would, without calling: an error from inside the factory is another thing."""
    try:
        signature = inspect.signature(factory)
    except ValueError:  # some builtins have none
        return
    signature.bind(**taken)
