"""What commands have in common: their options, an answer for a person or a machine, and mistakes in one line."""

import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from functools import partial, wraps
from typing import Annotated, Any, Literal, NamedTuple

import typer
from pydantic_core import to_jsonable_python

from raydistill.core.errors import InputError, RaydistillError
from raydistill.core.interrupt import INTERRUPTED
from raydistill.core.loading import setting_names

UNREAD = 141
"""Exit code: 128 and the number of SIGPIPE, as shells have it."""


def _settings(begun: str) -> list[str]:
    """Complete the name of a setting."""
    return [f"{name}=" for name in setting_names() if name.startswith(begun)]


ConfigOption = Annotated[
    str | None, typer.Option("--config", "-c", help="YAML file: path or URI; the defaults without one.")
]
RunDirOption = Annotated[str | None, typer.Option("--run-dir", help="Path or URI; runs/<name> by default.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one value: section.key=value.", autocompletion=_settings),
]
RunArgument = Annotated[str, typer.Argument(help="A run folder: path or URI.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
LogOption = Annotated[
    Literal["text", "json"],
    typer.Option("--log-format", envvar="RAYDISTILL_LOG_FORMAT", help="json: one event a line, for log collectors."),
]
RequirePassOption = Annotated[bool, typer.Option(help="Exit 3 on fail, 4 on insufficient evidence.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]


class Answer(NamedTuple):
    """What a command came to.

    Attributes:
        fields: all of it, as JSON has it.
        show: writes it for a person; for those that said it on the way there is nothing left to write.
        exit_code: what the command ends with.
    """

    fields: Mapping[str, Any]
    show: Callable[[], None] | None = None
    exit_code: int = 0


def resuming(command: Callable[..., Answer]) -> Callable[..., None]:
    """Make a command answer, as `answering` does, that goes on where it was when it is given again."""
    return answering(command, resumes=True)


def answering(command: Callable[..., Answer], *, resumes: bool = False) -> Callable[..., None]:
    """Make a command write its answer, or in one line why there is none, and end with its exit code.

    It gets the option `--json`: then standard output holds one document, the answer or the error, and what is said on
    the way goes to standard error. Errors are those that raydistill raises on purpose, and those of disks and networks.
    """

    @wraps(command)
    def guarded(*arguments: Any, as_json: bool = False, **options: Any) -> None:
        say = partial(_say, options.get("log_format") == "json", options.get("run_dir"))
        try:
            with redirect_stdout(sys.stderr) if as_json else nullcontext():
                answer = _answer(partial(command, *arguments, **options), say, resumes)
            if as_json:
                show_json(answer.fields)
            elif answer.show:
                answer.show()
        except BrokenPipeError:
            # Who read the output has read enough; what Python flushes at its end must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(UNREAD) from None
        if answer.exit_code:
            raise typer.Exit(answer.exit_code)

    own = inspect.signature(command)
    option = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption)
    guarded.__signature__ = own.replace(parameters=[*own.parameters.values(), option])  # type: ignore[attr-defined]
    return guarded


def _answer(command: Callable[[], Answer], say: Callable[[str, str], None], resumes: bool) -> Answer:
    try:
        return command()
    except BrokenPipeError:
        raise
    except RaydistillError as error:
        what, text, code = "error", str(error), error.exit_code
    except OSError as error:
        what, text, code = "error", " ".join(str(error).split()), InputError.exit_code
        if resumes:
            text, code = f"{text}; the same command continues once that is mended", RaydistillError.exit_code
    except KeyboardInterrupt:
        text = "the same command continues" if resumes else "the same command begins again"
        what, code = "interrupted", INTERRUPTED
    say(what, text)
    return Answer({what: text, "exit_code": code}, exit_code=code)


def show_json(fields: Mapping[str, Any]) -> None:
    """Print a JSON document; what isn't a finite number is null, as JSON has no word for it."""
    typer.echo(json.dumps(to_jsonable_python(fields, inf_nan_mode="null"), indent=1))


def _say(as_event: bool, run: str | None, what: str, text: str) -> None:
    """Write why a command ended."""
    if as_event:
        from raydistill.events import Events

        Events(run).event(what, text=text)
    else:
        typer.echo(f"{what}: {text}", err=True)


def show_table(header: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    """Print rows under a header, in columns; what stands in cells is a source's, and no markup."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    width = None if sys.stdout.isatty() else 160
    Console(file=sys.stdout, width=width, markup=False, emoji=False).print(table)
