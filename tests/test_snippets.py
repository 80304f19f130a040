"""What the documents tell people to type: commands with options that there are, settings that are settings, Python that
imports what there is. Those that take minutes are run by the golden tests and the benchmarks' own."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from raydistill.cli import app
from raydistill.core.loading import overridden

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "cluster").rglob("*.md")]
COMMAND = typer.main.get_command(app)
JOBS = {"distill": "run", "tune": "tune", "audit": "audit"}


def blocks(*languages):
    for path in DOCUMENTS:
        for language, body in re.findall(r"```(\w*)\n(.*?)```", path.read_text(), re.DOTALL):
            if language in languages:
                yield path.relative_to(ROOT), body


def typed():
    """Return every command of raydistill, its jobs, its benchmarks and its Makefile, as words."""
    for path, body in blocks("sh"):
        for line in body.replace("\\\n", " ").splitlines():
            if line.strip() and not line.strip().startswith("#"):
                words = shlex.split(line, comments=True)
                # Ray runs what is behind `--`.
                at = words.index("--") + 1 if "--" in words else 0
                if words[at] in ("raydistill", "python", "make"):
                    yield path, words[at:]


LINES = [pytest.param(words, id=f"{path}: {' '.join(words)[:60]}") for path, words in typed()]
SETTINGS = [
    pytest.param(body, id=f"{path}-{number}")
    for number, (path, body) in enumerate(blocks("yaml"))
    if "docs" in path.parts
]
SNIPPETS = [pytest.param(body, id=f"{path}-{number}") for number, (path, body) in enumerate(blocks("python"))]


@pytest.mark.parametrize("words", LINES)
def test_a_command_is_one_that_there_is(words):
    program, first, *rest = *words, ""
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert first in targets
    elif program == "raydistill":
        parsed(first, rest[:-1])
    elif first.startswith("jobs/"):
        parsed(JOBS[Path(first).stem], rest[:-1])
    elif first.endswith(".py"):
        assert (ROOT / first).is_file()


def parsed(name, words):
    """Read a command's words as it would, and its settings as it would; files needn't be there."""
    job = next((i for i, word in enumerate(words) if name == "submit" and word in JOBS), None)
    if job is not None:
        parsed(JOBS[words[job]], words[job + 1 :])
        words = words[:job]
    command = COMMAND.commands[name]
    options = {word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts)}
    asked = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    assert set(asked) <= options | {"--help"}
    chosen = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert overridden({}, ["source.path=/archive", *(setting for setting in chosen if "…" not in setting)])


@pytest.mark.parametrize("body", SETTINGS)
def test_settings_are_settings(body):
    values = yaml.safe_load(body)
    assert overridden(values, []).model_dump().keys() >= values.keys()


@pytest.mark.parametrize("body", SNIPPETS)
def test_python_is_python_that_imports_what_there_is(body):
    for node in ast.walk(ast.parse(body)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, name.name) for name in node.names)
        elif isinstance(node, ast.Import):
            for name in node.names:
                importlib.import_module(name.name)
