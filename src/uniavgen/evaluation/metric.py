"""What a metric is: a class that says its name, group, columns, networks and packages, and measures one clip at a time.

A metric is one file in `metrics/` and one line of `registry.METRICS`; nothing else has to know it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.judge_endpoint import JudgeEndpoint
from uniavgen.evaluation.prompts import Prompt
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.face_tracker import FaceTracker
from uniavgen.perception.weights import ResolvedWeights

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class NotMeasuredNow(NotMeasured):
    """NotMeasured for a reason that may have passed when the run is repeated, so it is not stored."""


class Better(StrEnum):
    """Which direction of a score is better."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"
    """A description, such as how much moves."""


class Group(StrEnum):
    """Metrics that can be asked for together."""

    TRUTH = "truth"
    """Against the truth of a rendered clip."""
    CODECS = "codecs"
    """Against the prompt's own video."""
    PAPER = "paper"
    """The paper's metrics with the paper's tools."""
    OPEN = "open"
    """What runs offline with open networks."""


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
    """The numbers of one metric for one clip."""

    scores: Mapping[str, float] = field(default_factory=dict)
    """Column to number; a column may be missing, with its reason in `reasons`."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    """JSON values for the report; the page shows `transcript/COLUMN` and `curve/NAME`."""
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Embeddings and features for `Metric.combine`; stored beside the scores, not in the report."""


@dataclass(frozen=True, kw_only=True)
class MetricContext:
    """What metrics are built with."""

    weights: Mapping[str, ResolvedWeights] = field(default_factory=dict)
    """The published networks at hand, by name."""
    faces: FaceTracker = field(default_factory=FaceTracker)
    """One tracker for all metrics, so that each clip's face is searched once."""
    device: str = "cpu"
    judge: JudgeEndpoint | None = None


WHOLE_SYSTEM = ""
"""Stands for the system as a whole where `Metric.combine` returns ids."""


class Metric(ABC):
    """Measures one clip at a time. Networks are loaded when the first clip is measured."""

    name: ClassVar[str]
    """As `--metrics` takes it."""
    group: ClassVar[Group]
    columns: Sequence[Column]
    """Its numbers; on the class, those that the table lacks where the metric cannot be computed."""
    required_networks: ClassVar[Sequence[str]] = ()
    optional_networks: ClassVar[Sequence[str]] = ()
    """Networks that are used where they are at hand."""
    packages: ClassVar[Mapping[str, str]] = _NOTHING
    """Required modules to the names they are installed by."""
    settings: Mapping[str, str] = _NOTHING
    """Everything besides columns and networks that decides the numbers and may differ from run to run."""

    def __init__(self, context: MetricContext) -> None:
        self.context = context

    @classmethod
    def unavailable(cls, judge: JudgeEndpoint | None) -> str:
        """Returns what else is missing as half a sentence, nothing if nothing is."""
        del judge
        return ""

    @property
    def networks(self) -> Mapping[str, ResolvedWeights]:
        """Returns every network that has a say, by name."""
        return {name: self.context.weights[name] for name in self.required_networks}

    @abstractmethod
    def measure(self, clip: DecodedClip, prompt: Prompt) -> Measurement:
        """Measures a clip against a prompt: its own, or in a control another one.

        Raises NotMeasured where none of the columns applies.
        """

    def combine(
        self, prompts: Sequence[Prompt], arrays: Mapping[str, Mapping[str, np.ndarray]]
    ) -> Mapping[str, Mapping[str, float | str]]:
        """Compares the clips of a system with each other, by the arrays (by id) that `measure` returned.

        Returns id (or WHOLE_SYSTEM) to column to number, or to the reason why there is none.
        """
        del prompts, arrays
        return {}


def audible_waveform(clip: DecodedClip) -> Float32[np.ndarray, " samples"]:
    """Returns the sound of a clip; NotMeasured where there is none or it is silent."""
    if clip.waveform is None:
        raise NotMeasured("the clip has no sound track")
    if clip.is_silent:
        raise NotMeasured("the clip is silent")
    return clip.waveform


def curve_details(values: np.ndarray, fps: float) -> dict[str, Any]:
    """Returns a curve over time as the page draws it."""
    return {"fps": fps, "values": [round(float(value), 4) for value in values]}
