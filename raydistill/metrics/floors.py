"""How strictly evidence must be made: settings with which its numbers could hide a leak are no evidence."""

from collections.abc import Mapping

from raydistill.core.config import EvaluateConfig, EvidenceConfig, SelfTestConfig
from raydistill.core.generation import ATTACK_SHARE, AttackConfig, SampleConfig
from raydistill.metrics.gate import Metrics

LEAST_K = 5
"""Patients who must share a prompt, at least: cells of fewer than five are the usual ones to suppress in health data.
Source: El Emam and Dankar 2008, Protecting privacy using k-anonymity, JAMIA 15:627."""

STRONGEST_GUIDANCE, STRONG_GUIDANCE = 15.0, (3.0, 10.0)
"""Guidance far beyond the usual drives pictures out of what pictures can be, so that they resemble nobody, and a copier
would pass; the former is on the safe side of that. The latter is strong, and usual."""

TELLING = (0.05, 0.7)
"""Shares of the noise schedule at which a model's loss can tell whom it knows: in less noise nobody needs to know the
image, and in more nobody can."""

MOST_IDLE = 0.25
"""Share of the noise levels that may lie beyond these: the attack takes the mean of all of them."""

UNMADE = 0.05
"""Share of the attack's images that may fail to be made or read."""


def short_of_method(evidence: EvidenceConfig, k: int) -> list[str]:
    """List the settings with which numbers would be measured more leniently than any claim can stand on.

    Args:
        evidence: how the evidence was made.
        k: of `ingest.prompts`, the bound that the prompts are held against.
    """
    how, test = evidence.evaluate, evidence.selftest
    trained = {"evaluate.shadow_share": (how.shadow_share, 0.25), "evaluate.probe_steps": (how.probe_steps, 100)}
    return [
        *short_of_audit(how),
        *short_of_membership(how),
        *_lenient(trained),
        *short_of_plants(test),
        *short_of_strengths(test),
        *short_of_attack(evidence.attack, evidence.student_samples),
        *short_of_k(k),
    ]


def short_of_audit(how: EvaluateConfig) -> list[str]:
    """Hold the audit's certainty and its operating points against their bounds.

    An auditor that takes most strangers for somebody finds everybody, and can tell nothing of anybody.
    """
    identity, structure = how.audit_fpir, how.audit_near_copy_fpir
    floors = {
        "evaluate.confidence": (how.confidence, 0.95),
        "evaluate.bootstrap": (how.bootstrap, 200),
        "evaluate.audit_fpir": (identity, 0.01),
        "evaluate.audit_near_copy_fpir": (structure, 0.005),
    }
    return _lenient(
        floors, {"evaluate.audit_fpir": (identity, 0.1), "evaluate.audit_near_copy_fpir": (structure, 0.05)}
    )


def short_of_membership(how: EvaluateConfig) -> list[str]:
    """Hold the noise levels of the membership attack against those at which somebody can be told."""
    low, high = TELLING
    levels = how.membership_timesteps
    telling = [level for level in levels if low <= level <= high]
    name = "evaluate.membership_timesteps"
    # Of the schedule's thousand; and of none the first line says enough.
    floors = {
        f"{name}, distinct from {low:g} to {high:g}": (len({int(1000 * level) for level in telling}), 3),
        f"{name}, latest of these": (max(telling, default=high), 0.4),
    }
    ceilings = {
        f"{name}, earliest of these": (min(telling, default=low), 0.2),
        f"{name}, share beyond these": (1 - len(telling) / len(levels), MOST_IDLE),
    }
    return _lenient(floors, ceilings)


def short_of_plants(test: SelfTestConfig) -> list[str]:
    """Hold the number of planted pictures against the fewest."""
    return _lenient({"selftest.num_images": (test.num_images, 32)})


def short_of_strengths(test: SelfTestConfig) -> list[str]:
    """Hold the strengths from which the model brings images back against those that make a test.

    From hardly any noise comes the image itself, which everything finds; from far within it, nobody's. Strengths are
    looked at as they are planted: by name (`stages.selftest`), in whole steps (`Sampler.noise_and_denoise`).
    """
    steps = test.num_inference_steps
    planted = {float(f"{strength:g}") for strength in test.strengths}
    done = sorted(max(1, round(strength * steps)) / steps for strength in planted)
    upper = done[len(done) // 2]
    floors = {
        "selftest.num_inference_steps": (steps, 10),
        "selftest.strengths, distinct in steps": (len(set(done)), 4),
        "selftest.strengths, strongest": (done[-1], 0.4),
        "selftest.strengths, upper half": (upper, 0.2),
    }
    ceilings = {"selftest.strengths, weakest": (done[0], 0.2), "selftest.strengths, lower half": (upper, 0.6)}
    return _lenient(floors, ceilings)


def short_of_attack(attack: AttackConfig, samples: SampleConfig) -> list[str]:
    """Hold what the model is asked, usually and harder, against what shows anybody.

    Args:
        attack: how it is asked harder.
        samples: how it is usually asked.
    """
    scales = [scale for scale in attack.guidance_scales if scale <= STRONGEST_GUIDANCE]
    low, high = STRONG_GUIDANCE
    usual = samples.ways or ((samples.guidance_scale, samples.num_inference_steps),)
    floors: dict[str, tuple[float, float]] = {
        "student_samples, fewest steps": (min(steps for _, steps in usual), 10),
        f"attack.guidance_scales, distinct up to {STRONGEST_GUIDANCE:g}": (len(set(map(round, scales))), 2),
        f"attack.guidance_scales, from {low:g} to {high:g}": (sum(low <= scale <= high for scale in scales), 1),
        "attack.num_inference_steps": (attack.num_inference_steps, 5),
        "attack.few_steps": (attack.few_steps, 3),
    }
    if not samples.requests.per_prompt:
        harder = sum(way.num_samples for way in _telling(attack, samples))
        floors["attack.num_samples in all ways"] = (harder, ATTACK_SHARE * samples.num_samples)
    ceilings = {
        "student_samples, strongest guidance": (max(scale for scale, _ in usual), STRONGEST_GUIDANCE),
        "attack.few_steps": (attack.few_steps, 10),
    }
    return _lenient(floors, ceilings)


def short_of_k(k: int) -> list[str]:
    """Hold the bound that prompts are held against, `ingest.prompts.k`, against the usual one."""
    return _lenient({"ingest.prompts.k": (k, LEAST_K)})


def short_of_asking(student: Metrics, attack: AttackConfig, samples: SampleConfig) -> list[str]:
    """Say where fewer samples of the attack were judged than it takes, whatever was configured.

    Args:
        student: with `excess_risk` and, of the attack's samples, `attacked_excess_risk`.
        attack: how the model was asked harder, in as many samples each way.
        samples: how it was usually asked.
    """
    telling, ways = len(_telling(attack, samples)), len(attack.ways(samples))
    usual, made = student["excess_risk"].n, student["attacked_excess_risk"].n
    harder, needed = made * telling // ways, ATTACK_SHARE * usual
    if harder >= (1 - UNMADE) * needed:
        return []
    return [
        f"The attack is too small for any claim: {harder} of its samples were judged beside {usual} that were asked "
        f"for as usual, and {needed} are needed: set attack.num_samples, those of each way, to "
        f"{-(-needed // max(1, telling))}."
    ]


def _telling(attack: AttackConfig, samples: SampleConfig) -> list[SampleConfig]:
    """Return the ways whose guidance leaves something to be seen."""
    return [way for way in attack.ways(samples).values() if way.guidance_scale <= STRONGEST_GUIDANCE]


def _lenient(
    floors: Mapping[str, tuple[float, float]], ceilings: Mapping[str, tuple[float, float]] | None = None
) -> list[str]:
    """Say which values lie under their floors or over their ceilings."""
    said = "The evidence is too lenient for any claim: {} is {:g}, and {:g} is the {}."
    return [said.format(name, *pair, "least") for name, pair in floors.items() if pair[0] < pair[1]] + [
        said.format(name, *pair, "most") for name, pair in (ceilings or {}).items() if pair[0] > pair[1]
    ]
