from typing import Protocol, runtime_checkable

import pytest

from raydistill.core.errors import ConfigError
from raydistill.core.imports import build
from raydistill.core.section import Import


@runtime_checkable
class Speaks(Protocol):
    def speak(self): ...


class Lost:
    """Looks for a file that isn't there."""

    def __init__(self, path):
        open(path).close()


class Dog:
    def __init__(self, name, loud=False):
        self.name, self.loud = name, loud

    def speak(self):
        return self.name


def test_what_is_given_wins_over_options():
    dog = build(Import(factory=f"{__name__}:Dog", options={"name": "a", "loud": True}), Speaks, "pet", name="b")
    assert (dog.speak(), dog.loud) == ("b", True)


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        ("dog", {}, "package.module:Class"),
        ("no_such_module_9:Dog", {}, "can't import"),
        (f"{__name__}:Gone", {}, "can't import"),
        (f"{__name__}:Dog", {"size": 3}, "doesn't take size"),
        (f"{__name__}:Lost", {"path": "/no/such/file"}, "can't be made: .*/no/such/file"),
        ("builtins:dict", {}, "isn't a Speaks"),
    ],
)
def test_mistakes_name_the_key_and_what_to_do(factory, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build(Import(factory=factory, options=options), Speaks, "pet")
    assert str(caught.value).startswith("pet")
