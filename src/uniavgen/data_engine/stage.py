"""What a stage is: a class that declares what it reads and gives, and scores one source at a time.

A stage knows nothing of processes or clusters; what it returns follows from the source, its settings, its networks and
the outputs of the stages that it requires.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from uniavgen.config import Config
from uniavgen.data_engine.source import SourceVideo
from uniavgen.perception.weights import ResolvedWeights

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class StageOutput:
    """What a stage says of a source."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """JSON values; times are seconds of the source's presentation time."""
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    reason: str = ""
    """Why nothing could be computed; empty where it was."""


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """What stages are built with."""

    weights: Mapping[str, ResolvedWeights] = field(default_factory=dict)
    """The published networks at hand, by name."""
    device: str = "cpu"


class Stage(ABC):
    """Scores one source at a time. Until `setup` it holds nothing but its arguments, so that it can be sent on."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised when its numbers change."""
    requires: ClassVar[tuple[str, ...]] = ()
    """Names of the stages whose outputs it reads."""
    required_networks: ClassVar[Sequence[str]] = ()
    """Names in `perception.weights.NETWORKS`."""
    packages: ClassVar[Mapping[str, str]] = _NOTHING
    """Required modules to the names they are installed by."""
    settings_class: ClassVar[type[Config]]

    def __init__(self, settings: Config, context: StageContext) -> None:
        """settings: of `settings_class`."""
        self.settings = settings
        self.context = context

    def setup(self) -> None:  # noqa: B027
        """Loads networks, once a worker."""

    @abstractmethod
    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        """Returns what the stage says of a source.

        inputs: outputs of the required stages, none of which has a reason.
        A source that cannot be used is an output with a reason; MediaError, DataError and NotMeasured become one.
        """
