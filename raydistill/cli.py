"""The `raydistill` command. Mistakes get one line and exit code 2."""

from typing import Annotated

import typer

from raydistill import __version__
from raydistill.commands import cohorts, configuring, handing, looking, running

app = typer.Typer(
    add_completion=True, no_args_is_help=True, help="Privacy distillation of text-to-image models on Ray.",
    pretty_exceptions_enable=False,
)  # fmt: skip

for command in (running.run, running.audit, running.tune):
    app.command()(command)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(running.submit)
app.command()(cohorts.inspect)
for command in (looking.plan, looking.status, looking.checkpoint, looking.report, handing.verify, handing.publish):
    app.command()(command)
for command in (configuring.init, configuring.config):
    app.command()(command)
app.command("schema")(configuring.print_schema)


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Privacy distillation of text-to-image models on Ray."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


if __name__ == "__main__":
    app()
