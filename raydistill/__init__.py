"""raydistill: privacy distillation of text-to-image models, distributed with Ray."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raydistill.api import open_run, run
    from raydistill.core.config import Config
    from raydistill.core.errors import RaydistillError
    from raydistill.core.loading import load_config
    from raydistill.result import RunResult

__version__ = "0.1.0"
__all__ = ["Config", "RaydistillError", "RunResult", "load_config", "open_run", "run"]

_FROM = {
    "Config": "core.config",
    "RaydistillError": "core.errors",
    "RunResult": "result",
    "load_config": "core.loading",
}
"""Where names come from that aren't the API's own."""


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: the command says its version without a library being loaded."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_FROM.get(name, 'api')}"), name)
