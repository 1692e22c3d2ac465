"""What a metric is: columns of the table, and one method that measures a clip or says why it cannot.

A metric is one file in `metrics/` and one entry of `catalogue.ENTRIES`; nothing else has to know it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from uniavgen.evaluation.clip import Clip
from uniavgen.evaluation.networks import Weights
from uniavgen.evaluation.prompts import Prompt

NOTHING: Mapping[str, Any] = MappingProxyType({})
"""For a metric without networks or settings."""


class NotMeasured(Exception):  # noqa: N818 - no error: a row of the report with its reason
    """This metric says nothing about this clip; the text says why."""


class NotMeasuredNow(NotMeasured):
    """The same for a reason that may have passed when the run is repeated, so it is not remembered."""


def heard(clip: Clip) -> Float32[np.ndarray, " samples"]:
    """The sound of a clip; NotMeasured where there is none or nothing can be heard."""
    if clip.waveform is None:
        raise NotMeasured("the clip has no sound track")
    if clip.is_silent:
        raise NotMeasured("the clip is silent")
    return clip.waveform


class Better(StrEnum):
    """Which way a score is better."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"
    """A description, such as how much moves."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One number of a metric."""

    name: str
    """Key in report.json."""
    description: str
    """What it is, its range, and where it comes from."""
    better: Better


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a metric found in one clip."""

    scores: Mapping[str, float]
    """Column to number; a column may be missing, with its reason in `reasons`."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    """JSON values: the page shows `transcript/COLUMN` and `curve/NAME`, `AcrossClips` gets `embedding/NAME`."""


@runtime_checkable
class Metric(Protocol):
    """Measures one clip at a time. Networks are loaded when the first clip is measured."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """What it gives."""
        ...

    @property
    def networks(self) -> Mapping[str, Weights]:
        """Every network that has a say, by name."""
        ...

    @property
    def settings(self) -> Mapping[str, str]:
        """Everything else that decides its numbers and may differ from run to run."""
        ...

    def measure(self, clip: Clip, prompt: Prompt) -> Measurement:
        """Numbers for a clip against a prompt; raises NotMeasured where none of them applies.

        `prompt` is `clip.prompt` except in a control, where it is another one: what depends only on how the clip was
        made (where its face is) follows `clip.prompt`, what it should show or say follows `prompt`.
        """
        ...


WHOLE = ""
"""Stands for the system as a whole where `AcrossClips` tells ids."""


@runtime_checkable
class AcrossClips(Protocol):
    """A metric that also compares the clips of a system with each other."""

    def combine(
        self, prompts: Sequence[Prompt], details: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, Mapping[str, float | str]]:
        """Id (or WHOLE) to column to number or reason, out of the details (by id) that `measure` gave."""
        ...
