"""Declares classifier-free guidance: which passes are run at which step, and how their velocities are combined.

    v = u + s (c - u)                                                    [paper eq. (10), (11)]

c is the velocity of the conditional pass, u that of the unconditional pass, s one scale a modality. In vanilla guidance
u has no text. In modality-aware guidance (MA-CFG) u has no interaction either, so that each modality's influence on the
other is amplified too. Training drops exactly what those passes leave out (`Dropout`).

Letters: b batch.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

from jaxtyping import Float
from torch import Tensor

from uniavgen.batch import CLOSED, OPEN, AVPair, Gate
from uniavgen.config import Config, Probability
from uniavgen.errors import ConfigError
from uniavgen.flow.choices import PAPER_GUIDANCE, RELEASE_GUIDANCE


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Describes one evaluation of the transformer. Passes that compute the same are equal."""

    text: bool
    """Whether caption and speech are given, or empty."""
    gate: Gate = OPEN
    skip_layers: tuple[int, ...] = ()


CONDITIONAL = Pass(text=True)
NO_TEXT = Pass(text=False)
NO_TEXT_NO_INTERACTION = Pass(text=False, gate=CLOSED)
"""MA-CFG's unconditional pass, one for both modalities. [paper 3.4, release]"""


@dataclass(frozen=True, kw_only=True)
class WeightedPass:
    """Pairs a pass with the weight of its velocity, a number a modality."""

    pass_: Pass
    weight: AVPair


@dataclass(frozen=True, kw_only=True)
class GuidanceInterval:
    """Gives the steps up to `end`, a fraction of all steps, their unconditional pass; None is no guidance."""

    end: Fraction
    uncond: Pass | None


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Divides the sampling steps into intervals, from noise to data; the last one ends at 1."""

    intervals: tuple[GuidanceInterval, ...]

    def __post_init__(self) -> None:
        ends = [interval.end for interval in self.intervals]
        if not ends or ends != sorted(set(ends)) or ends[0] <= 0 or ends[-1] != 1:
            raise ConfigError(f"guidance intervals must end at growing shares above 0 up to 1, got {ends}")

    def uncond_pass(self, step: int, num_steps: int) -> Pass | None:
        """Returns the unconditional pass of step `step` of `num_steps`: an interval holds int(end * num_steps) steps.
        [release]"""
        return next(i.uncond for i in self.intervals if step < int(i.end * num_steps))


_HALF, _ALL = Fraction(1, 2), Fraction(1)
_MA_CFG_HALF = GuidanceInterval(end=_HALF, uncond=NO_TEXT_NO_INTERACTION)

GUIDANCE: dict[str, Guidance] = {
    "none": Guidance(intervals=(GuidanceInterval(end=_ALL, uncond=None),)),
    "vanilla": Guidance(intervals=(GuidanceInterval(end=_ALL, uncond=NO_TEXT),)),
    "ma_cfg": Guidance(intervals=(GuidanceInterval(end=_ALL, uncond=NO_TEXT_NO_INTERACTION),)),
    # The paper's default: MA-CFG on t in [0.5, 1], not shifted. Below, the release keeps vanilla guidance.
    PAPER_GUIDANCE: Guidance(intervals=(_MA_CFG_HALF, GuidanceInterval(end=_ALL, uncond=NO_TEXT))),
    "ma_cfg_interval_none": Guidance(intervals=(_MA_CFG_HALF, GuidanceInterval(end=_ALL, uncond=None))),
}
"""Presets by name. [paper table 9; release for what happens outside the interval]"""
RELEASE_SKIP_LAYERS = (11,)
"""Blocks that the release skips in the unconditional pass (skip-layer guidance); not in the paper."""


def with_skip_layers(guidance: Guidance, layers: tuple[int, ...]) -> Guidance:
    """Returns `guidance` with blocks left out of every unconditional pass (skip-layer guidance)."""
    return Guidance(
        intervals=tuple(
            replace(i, uncond=None if i.uncond is None else replace(i.uncond, skip_layers=layers))
            for i in guidance.intervals
        )
    )


GUIDANCE[RELEASE_GUIDANCE] = with_skip_layers(GUIDANCE[PAPER_GUIDANCE], RELEASE_SKIP_LAYERS)


@dataclass(frozen=True, kw_only=True)
class GuidancePlan:
    """Combines a guidance with its scales, and restricts its passes to the gates of a task."""

    guidance: Guidance
    scale: AVPair
    """s of video and audio; 1 is the conditional pass alone. [paper 4.1: 3 and 2]"""
    conditional_gate: Gate = OPEN
    """Directions that the task leaves open in the conditional pass."""
    uncond_gate: Gate = OPEN
    """Directions that the task leaves open in the unconditional pass."""

    def weighted_passes(self, step: int, num_steps: int) -> tuple[WeightedPass, ...]:
        """Returns the passes of a step: v = s c + (1 - s) u. A pass whose weight would be 0 is not run."""
        conditional = replace(CONDITIONAL, gate=CONDITIONAL.gate & self.conditional_gate)
        uncond = self.guidance.uncond_pass(step, num_steps)
        if uncond is None or (self.scale.video == 1 and self.scale.audio == 1):
            return (WeightedPass(pass_=conditional, weight=AVPair(video=1.0, audio=1.0)),)
        uncond = replace(uncond, gate=uncond.gate & self.uncond_gate)
        return (
            WeightedPass(pass_=conditional, weight=self.scale),
            WeightedPass(pass_=uncond, weight=AVPair(video=1.0 - self.scale.video, audio=1.0 - self.scale.audio)),
        )

    def passes(self, num_steps: int) -> list[Pass]:
        """Returns every distinct pass of a sampling, in order of first use."""
        return list(dict.fromkeys(w.pass_ for step in range(num_steps) for w in self.weighted_passes(step, num_steps)))


@dataclass(frozen=True, kw_only=True)
class Dropout(Config):
    """Sets how often training drops the conditions that guidance drops. [ours; the paper is silent]

    A clip loses what one of the four says, or nothing.
    """

    alone: Probability = 0.10
    """Probability of both texts empty and both directions of interaction off: `NO_TEXT_NO_INTERACTION`."""
    no_text: Probability = 0.05
    """Probability of both texts empty, interactions on: `NO_TEXT`."""
    no_caption: Probability = 0.0
    """Probability of an empty caption beside the speech, for models whose modalities are guided apart."""
    no_speech: Probability = 0.0
    """Probability of an empty speech beside the caption."""

    def __post_init__(self) -> None:
        given = (self.alone, self.no_text, self.no_caption, self.no_speech)
        if sum(given) > 1:
            raise ConfigError(f"dropout probabilities sum to at most 1, got {' + '.join(map(str, given))}")

    def masks(
        self, uniform: Float[Tensor, " b"]
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Returns the masks of caption, speech and interaction of a batch: 0 where a sample drops the condition, 1
        elsewhere.

        uniform: one random number in [0, 1) a sample, so that all masks follow from a single draw.
        """
        no_text = self.alone + self.no_text
        no_caption = no_text + self.no_caption
        no_speech = no_caption + self.no_speech
        return (
            (uniform >= no_caption).float(),
            ((uniform >= no_text) & (uniform < no_caption) | (uniform >= no_speech)).float(),
            (uniform >= self.alone).float(),
        )
