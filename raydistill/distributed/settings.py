"""DeepSpeed's own configuration: what raydistill tells it, and what a user lays over that."""

from collections.abc import Mapping
from typing import Any

from raydistill.core.deepspeed import DeepSpeedConfig
from raydistill.core.errors import ConfigError
from raydistill.distributed.stream import Parts

BUCKET = 500_000_000
"""Most elements of gradients that workers exchange at a time; DeepSpeed's default."""


def settings(options: DeepSpeedConfig, parts: Parts, elements: int) -> dict[str, Any]:
    """Return DeepSpeed's own configuration.

    Args:
        options: `override` is laid over everything else, key by key.
        parts: how a batch is cut among the workers.
        elements: of all parameters that learn.
    """
    # One worker holds all gradients whatever the stage: cutting them among one only costs time.
    has_nothing_to_cut = options.zero_stage == 2 and parts.workers == 1 and not options.offload_optimizer
    zero: dict[str, Any] = {
        "stage": 1 if has_nothing_to_cut else options.zero_stage,
        # Gradients are gathered in one buffer for the others to read; a worker alone would copy them for nothing.
        "contiguous_gradients": parts.workers > 1,
        # Of that buffer, which is made whole at every step: no larger than what there is to gather.
        "reduce_bucket_size": max(1, min(BUCKET, elements)),
    }
    if options.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    ours: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": parts.width,
        "gradient_accumulation_steps": parts.accumulation,
        "gradient_clipping": options.gradient_clipping,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        # DeepSpeed's own CPU optimizer needs a compiler on every node; torch's doesn't.
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": options.precision == "bf16"},
        "fp16": {"enabled": options.precision == "fp16"},
    }
    if options.precision == "bf16" and parts.accumulation > 1 and options.zero_stage:
        # Else micro-batches would be added up with 8 bits, and the sum would depend on how many there are. DeepSpeed
        # can't without ZeRO.
        ours["data_types"] = {"grad_accum_dtype": "fp32"}
    return _laid_over(ours, options.override)


def check_settings(configuration: dict[str, Any]) -> None:
    """Let DeepSpeed read its configuration before any worker does.

    Raises:
        ConfigError: with the first thing it doesn't take.
    """
    from deepspeed.runtime.config import DeepSpeedConfig as Theirs
    from deepspeed.utils import logger
    from pydantic import ValidationError

    logger.setLevel("ERROR")
    try:
        Theirs(configuration)
    except ValidationError as error:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"]]
        # What DeepSpeed reads section by section it names without the section.
        holding = [name for name, told in configuration.items() if isinstance(told, Mapping) and place[0] in told]
        said = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise ConfigError(f"deepspeed.override: {'.'.join(holding[:1] + place)}: {said}") from error
    except Exception as error:  # whatever a wrong type makes it raise
        raise ConfigError(f"deepspeed.override: {str(error).splitlines()[0]}") from error


def _laid_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    inner = {k: _laid_over(base[k], v) for k, v in over.items() if isinstance(v, Mapping) and k in base}
    return {**base, **over, **inner}
