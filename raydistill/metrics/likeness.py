"""Are real strangers a fair control? What a model makes is more average than people, and hits people less often."""

from dataclasses import dataclass, replace

from raydistill.metrics.intervals import Rate, mover_ratio, trials_worth


@dataclass(frozen=True)
class Likeness:
    """How often samples and strangers are taken for people of a gallery that neither a model nor anybody of them saw.

    Attributes:
        samples: share of samples at or above the threshold of the audit.
        strangers: share of images of real people, in no gallery, at the same threshold.
    """

    samples: Rate
    strangers: Rate

    def control(self, strangers: Rate) -> tuple[Rate, str]:
        """Return the control that samples' rate is to be held against, and what was done to it.

        Samples that are taken for unseen people less often than strangers are would be taken for gallery people less
        often too, had nothing leaked. So the control is strangers' rate times the ratio of the two, 1 at most, its
        uncertainty counted in: to scale only where the ratio is proven to be below 1 hides a leak where it isn't
        (decision 34).

        Args:
            strangers: strangers' rate by the gallery of those who may have leaked.
        """
        if self.strangers.value:
            value, low, high = (min(1.0, bound) for bound in mover_ratio(self.samples, self.strangers))
        else:
            # No stranger is taken for unseen people, so that nothing is known of the ratio.
            value, low, high = 1.0, 0.0, 1.0
        scaled = strangers.value * value, strangers.low * low, strangers.high * high
        worth = min(strangers.n_eff, trials_worth(scaled[0], scaled[2], strangers.confidence))
        said = f"control is strangers' {strangers.value:.3g} times {value:.2g} ({low:.2g} to {high:.2g}), as often as "
        said += "samples are taken for people of an unseen gallery where strangers are once, at most once"
        return replace(strangers, value=scaled[0], low=scaled[1], high=scaled[2], n_eff=worth), said
