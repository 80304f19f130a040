"""Solvers of the reverse diffusion, by name: diffusers' own classes on a folder's own noise schedule.

All are deterministic: from the same noise they approach the same image, and differ in how few steps that takes.
"""

from typing import Any

from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    PNDMScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)

CLASSES: dict[str, tuple[type[SchedulerMixin], dict[str, Any]]] = {
    "dpmsolver++": (DPMSolverMultistepScheduler, {}),
    "unipc": (UniPCMultistepScheduler, {}),
    "ddim": (DDIMScheduler, {"clip_sample": False}),
    "pndm": (PNDMScheduler, {"skip_prk_steps": True}),
}
"""The class of each name in `core.generation.Solver`, and what it is told beside the schedule.

Sources: DPM-Solver++ of second order, Lu et al., arXiv 2211.01095; UniPC, Zhao et al., arXiv 2302.04867; DDIM, Song et
al., arXiv 2010.02502; PNDM without its first Runge-Kutta steps, as Stable Diffusion uses it, Liu et al., arXiv
2202.09778.
"""


def make_solver(name: str, schedule: SchedulerMixin, steps: int, device: Any) -> SchedulerMixin:
    """Return a solver that is ready for one batch.

    Args:
        name: one of `core.generation.Solver`.
        schedule: of the folder; its noise levels and kind of prediction are taken over.
        steps: of the whole schedule.
        device: where its numbers are.
    """
    kind, told = CLASSES[name]
    solver = kind.from_config(schedule.config, **told)
    solver.set_timesteps(steps, device=device)
    return solver
