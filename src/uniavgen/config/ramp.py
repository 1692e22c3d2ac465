"""Numbers that may change over a run: a number, a line from start to end, or a list of points."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Tag

from uniavgen.config.base import Config
from uniavgen.config.values import Count, NonNegative
from uniavgen.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LinearSchedule:
    """A number that moves linearly from `start` at the first step to `end` after the last one."""

    # Not a `Config`, since text in its place is a wrong number and not the name of a file with settings.
    __pydantic_config__: ClassVar[dict[str, Any]] = Config.__pydantic_config__

    start: NonNegative
    end: NonNegative

    def at(self, step: int, num_steps: int) -> float:
        """Returns the value at a step (from 0) of a run."""
        return self.start + (self.end - self.start) * step / num_steps


def _form(value: Any) -> str | None:
    match value:
        case LinearSchedule() | Mapping():
            return "<line>"
        case list() | tuple():
            return "<points>"
        case None | bytes():
            return None
        case _:
            return "<number>"


Points = tuple[tuple[Count, NonNegative], ...]
# `validation` leaves tags in angle brackets out of the paths of wrong keys.
Ramp = Annotated[
    Annotated[NonNegative, Tag("<number>")]
    | Annotated[LinearSchedule, Tag("<line>")]
    | Annotated[Points, Tag("<points>")],
    Discriminator(
        _form,
        custom_error_type="ramp",
        custom_error_message="should be a number, {start: A, end: B}, or a list of points [step, value]",
    ),
]
"""A number of at least 0 at every step. Points are joined by lines, and hold before the first and after the last one;
of two points at one step the second counts from that step on."""


def ramp_value(ramp: Ramp, step: int, num_steps: int) -> float:
    """Returns the value at a step (from 0) of a run of `num_steps` steps."""
    if isinstance(ramp, LinearSchedule):
        return ramp.at(step, num_steps)
    if not isinstance(ramp, tuple):
        return ramp
    # Of equal steps the last counts, as in a jump.
    passed = [point for point in ramp if point[0] <= step]
    coming = [point for point in ramp if point[0] > step]
    if not passed or not coming:
        return (coming[0] if not passed else passed[-1])[1]
    (first, low), (last, high) = passed[-1], coming[0]
    return low + (high - low) * (step - first) / (last - first)


def is_ever_positive(ramp: Ramp) -> bool:
    """Returns whether a number is above 0 at some step."""
    if isinstance(ramp, LinearSchedule):
        return ramp.start > 0 or ramp.end > 0
    return any(value > 0 for _, value in ramp) if isinstance(ramp, tuple) else ramp > 0


def check_points(ramp: Ramp, name: str) -> None:
    """Raises ConfigError for points that are none, or not in the order of their steps."""
    if not isinstance(ramp, tuple):
        return
    steps = [step for step, _ in ramp]
    if not steps or steps != sorted(steps):
        raise ConfigError(f"{name} must list points [step, value] with steps that do not fall, got steps {steps}")
