"""`python -m raydistill`: the command, where its script isn't on the path."""

from raydistill.cli import app

app()
