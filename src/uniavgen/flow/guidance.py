"""Guidance as data: which passes are run at which step, and how their velocities are combined.

v = u + s (c - u): c knows the texts, u is a pass without them, s is one scale a modality [paper eq. (10), (11)].
In modality-aware guidance (MA-CFG) u has no interaction either, so both modalities are guided by each other.
Dropout in training drops exactly what those passes leave out.

Letters: b batch.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from jaxtyping import Float
from torch import Tensor

from uniavgen.batch import CLOSED, OPEN, AVPair, Gate
from uniavgen.config import Config
from uniavgen.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One evaluation of the transformer. Passes are equal when they compute the same."""

    text: bool
    """Whether caption and speech are told, or empty."""
    gate: Gate = OPEN
    skip_layers: tuple[int, ...] = ()


CONDITIONAL = Pass(text=True)
NO_TEXT = Pass(text=False)
ALONE = Pass(text=False, gate=CLOSED)
"""Neither text nor the other modality: MA-CFG's null pass. [paper 3.4, release]"""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One pass and the weight of its velocity, a number a modality."""

    run: Pass
    weight: AVPair


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """The steps up to a share of all steps, and what they are guided against; None is no guidance."""

    until: Fraction
    against: Pass | None


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Stretches of the sampling, the noisy end first; the last one reaches 1."""

    stretches: tuple[Stretch, ...]

    def __post_init__(self) -> None:
        ends = [stretch.until for stretch in self.stretches]
        if not ends or ends != sorted(set(ends)) or ends[0] <= 0 or ends[-1] != 1:
            raise ConfigError(f"guidance stretches must end at growing shares above 0 up to 1, got {ends}")

    def against(self, step: int, num_steps: int) -> Pass | None:
        """The pass that step `step` of `num_steps` is guided against. A stretch takes whole steps. [release]"""
        return next(s.against for s in self.stretches if step < int(s.until * num_steps))


HALF, ALL = Fraction(1, 2), Fraction(1)

GUIDANCE: dict[str, Guidance] = {
    "none": Guidance(stretches=(Stretch(until=ALL, against=None),)),
    "vanilla": Guidance(stretches=(Stretch(until=ALL, against=NO_TEXT),)),
    "ma_cfg": Guidance(stretches=(Stretch(until=ALL, against=ALONE),)),
    # The paper's default: MA-CFG on [0.5, 1] of unshifted time. Outside, the release keeps vanilla guidance.
    "ma_cfg_interval": Guidance(stretches=(Stretch(until=HALF, against=ALONE), Stretch(until=ALL, against=NO_TEXT))),
    "ma_cfg_interval_none": Guidance(stretches=(Stretch(until=HALF, against=ALONE), Stretch(until=ALL, against=None))),
}
"""Presets by name. [paper table 9; release for what happens outside the interval]"""
PAPER, RELEASE = "ma_cfg_interval", "release"
RELEASE_SKIP_LAYERS = (11,)
"""Blocks that the release skips in the pass it guides against; not in the paper."""


def skipping(guidance: Guidance, layers: tuple[int, ...]) -> Guidance:
    """`guidance` with blocks left out of every pass that is guided against (skip-layer guidance)."""
    return Guidance(
        stretches=tuple(
            replace(s, against=s.against and replace(s.against, skip_layers=layers)) for s in guidance.stretches
        )
    )


GUIDANCE[RELEASE] = skipping(GUIDANCE[PAPER], RELEASE_SKIP_LAYERS)


@dataclass(frozen=True, kw_only=True)
class GuidancePlan:
    """A guidance with its scales, restricted to a task's gate."""

    guidance: Guidance
    scale: AVPair
    """s of video and audio; 1 is the conditional pass alone. [paper 4.1: 3 and 2]"""
    conditional_gate: Gate = OPEN
    """Directions that the task leaves open in the conditional pass."""
    null_gate: Gate = OPEN
    """Directions that it leaves open in the pass guided against."""

    def terms(self, step: int, num_steps: int) -> tuple[Term, ...]:
        """The passes of a step. A pass that would weigh nothing is not run."""
        conditional = replace(CONDITIONAL, gate=CONDITIONAL.gate & self.conditional_gate)
        against = self.guidance.against(step, num_steps)
        if against is None or (self.scale.video == 1 and self.scale.audio == 1):
            return (Term(run=conditional, weight=AVPair(video=1.0, audio=1.0)),)
        null = replace(against, gate=against.gate & self.null_gate)
        return (
            Term(run=conditional, weight=self.scale),
            Term(run=null, weight=AVPair(video=1.0 - self.scale.video, audio=1.0 - self.scale.audio)),
        )

    def passes(self, num_steps: int) -> list[Pass]:
        """Every distinct pass of a sampling, in order of first use."""
        return list(dict.fromkeys(t.run for step in range(num_steps) for t in self.terms(step, num_steps)))


@dataclass(frozen=True, kw_only=True)
class Dropout(Config):
    """How often training sees the passes that sampling guides against. [ours; the paper is silent]"""

    alone: float = 0.10
    """Both texts empty and both directions of interaction off: `ALONE`."""
    no_text: float = 0.05
    """Both texts empty, interactions on: `NO_TEXT`."""

    def __post_init__(self) -> None:
        if min(self.alone, self.no_text) < 0 or self.alone + self.no_text > 1:
            raise ConfigError(
                f"dropout shares are at least 0 and sum to at most 1, got {self.alone} and {self.no_text}"
            )

    def masks(self, uniform: Float[Tensor, " b"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """`(text, interact)`, 1 where a sample keeps them, out of uniform numbers in [0, 1)."""
        interact = (uniform >= self.alone).to(torch.float32)
        text = (uniform >= self.alone + self.no_text).to(torch.float32)
        return text, interact
