"""The part of the configuration that speaks of DeepSpeed."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from raydistill.core.section import Section

OURS = frozenset(
    {
        "gradient_accumulation_steps",
        "managed_gradient_accumulation",
        "optimizer",
        "scheduler",
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
    }
)
"""Keys of DeepSpeed's that follow from other settings."""

CONTRADICTING = {
    "gradient_clipping": "gradient_clipping",
    "zero_optimization.stage": "zero_stage",
    "zero_optimization.offload_optimizer": "offload_optimizer",
    "bf16.enabled": "precision",
    "fp16.enabled": "precision",
}
"""Keys of DeepSpeed's that have a setting of their own, with its name."""

THEIRS = frozenset(
    {
        "activation_checkpointing",
        "aio",
        "amp",
        "autotuning",
        "bf16",
        "checkpoint",
        "comet",
        "comms_logger",
        "communication_data_type",
        "compile",
        "compression_training",
        "csv_monitor",
        "curriculum_learning",
        "data_efficiency",
        "data_types",
        "dataloader_drop_last",
        "disable_allgather",
        "disable_python_gc",
        "dump_state",
        "eigenvalue",
        "elasticity",
        "flops_profiler",
        "fp16",
        "gradient_allreduce_op",
        "gradient_predivide_factor",
        "graph_harvesting",
        "hybrid_engine",
        "log_level",
        "memory_breakdown",
        "nebula",
        "prescale_gradients",
        "progressive_layer_drop",
        "quantize_training",
        "seq_parallel_communication_data_type",
        "sparse_attention",
        "sparse_gradients",
        "steps_per_print",
        "tensorboard",
        "timers",
        "torch_autocast",
        "wall_clock_breakdown",
        "wandb",
        "weight_quantization",
        "zero_allow_untested_optimizer",
        "zero_force_ds_cpu_optimizer",
        "zero_optimization",
    }
)
"""Other keys at the top of DeepSpeed's configuration (0.19); it ignores what it doesn't know."""


class DeepSpeedConfig(Section):
    """How DeepSpeed holds a training's state. `override` has the last word on any key of DeepSpeed's own."""

    zero_stage: Literal[0, 1, 2, 3] = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    gradient_clipping: PositiveFloat = 1.0
    gradient_accumulation_steps: PositiveInt = Field(
        1, description="Parts in which a worker sees its share of a batch."
    )
    micro_batch_size: PositiveInt | None = Field(
        None,
        description="Rows that a worker sees at a time, at most: its share of a batch is cut as often as that takes, "
        "however many workers there are. One more where they don't share a batch evenly.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations again on the way back instead of keeping them: less memory, more time."
    )
    offload_optimizer: bool = Field(False, description="Keep the optimizer's state in the host's memory; ZeRO 1 to 3.")
    override: dict[str, Any] = Field(
        default_factory=dict,
        description="Laid over what raydistill tells DeepSpeed, key by key; what batches and steps are made of has "
        "settings of its own.",
    )

    def micros(self, rows: int, workers: int) -> int:
        """Parts in which each of some workers sees its share of a batch of `rows`."""
        fewest = -(-rows // (workers * self.micro_batch_size)) if self.micro_batch_size else 1
        # Every part needs a row: where the workers don't share a batch evenly, some see one row more at a time.
        return max(self.gradient_accumulation_steps, min(fewest, max(1, rows // workers)))

    @model_validator(mode="after")
    def _works(self) -> "DeepSpeedConfig":
        if self.offload_optimizer and not self.zero_stage:
            raise ValueError("offload_optimizer needs zero_stage 1, 2 or 3: without ZeRO nothing is offloaded")
        if ours := sorted(OURS & self.override.keys()):
            raise ValueError(
                f"override: {', '.join(ours)} would contradict how batches are cut and steps are taken: use "
                "deepspeed.gradient_accumulation_steps and the section optimizer"
            )
        sections = {name: told for name, told in self.override.items() if isinstance(told, Mapping)}
        told = {*self.override, *(f"{name}.{key}" for name, keys in sections.items() for key in keys)}
        if twice := sorted(told & CONTRADICTING.keys()):
            raise ValueError(f"override: {twice[0]} would contradict deepspeed.{CONTRADICTING[twice[0]]}: set that")
        if self.zero_stage < 3 and "zero_optimization.offload_param" in told:
            raise ValueError("override: zero_optimization.offload_param needs zero_stage 3: nothing else cuts weights")
        if unknown := sorted(self.override.keys() - THEIRS):
            near = get_close_matches(unknown[0], THEIRS, n=1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise ValueError(f"override: DeepSpeed's configuration has no {', '.join(unknown)}{hint}")
        return self
