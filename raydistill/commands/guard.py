"""What commands have in common: their options, and mistakes in one line with an exit code."""

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Annotated, Any, Literal

import typer

from raydistill.core.errors import RaydistillError
from raydistill.core.interrupt import INTERRUPTED

UNREAD = 141
"""Exit code: 128 and the number of SIGPIPE, as shells have it."""

ConfigOption = Annotated[
    str | None, typer.Option("--config", "-c", help="YAML file: path or URI; the defaults without one.")
]
RunDirOption = Annotated[str | None, typer.Option("--run-dir", help="Path or URI; runs/<name> by default.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override one value: section.key=value.")]
RunArgument = Annotated[str, typer.Argument(help="A run folder: path or URI.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
LogOption = Annotated[
    Literal["text", "json"],
    typer.Option("--log-format", envvar="RAYDISTILL_LOG_FORMAT", help="json: one event a line, for log collectors."),
]
RequirePassOption = Annotated[bool, typer.Option(help="Exit 3 on fail, 4 on insufficient evidence.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def in_one_line(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the errors raydistill raises on purpose, and those of disks and networks, into one line and an exit code."""

    @wraps(command)
    def guarded(*arguments: Any, **options: Any) -> Any:
        say = partial(_say, options.get("log_format") == "json", options.get("run_dir"))
        try:
            return command(*arguments, **options)
        except RaydistillError as error:
            say("error", str(error))
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:
            # Who read the output has read enough; what Python flushes at its end must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(UNREAD) from None
        except OSError as error:
            said = " ".join(str(error).split())
            say("error", f"{said}; the same command continues once that is mended")
            raise typer.Exit(RaydistillError.exit_code) from None
        except KeyboardInterrupt:
            say("interrupted", "the same command continues")
            raise typer.Exit(INTERRUPTED) from None

    return guarded


def _say(as_event: bool, run: str | None, what: str, text: str) -> None:
    """Write why a command ended."""
    if as_event:
        from raydistill.events import Events

        Events(run).event(what, text=text)
    else:
        typer.echo(f"{what}: {text}", err=True)


def show_table(header: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    """Print rows under a header, in columns."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160).print(table)
