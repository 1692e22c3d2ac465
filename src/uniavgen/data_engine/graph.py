"""Stages in order: what each reads is checked before anything is run, and a source goes through them one by one."""

import ctypes
import gc
import time
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Final, TypeVar

from uniavgen.data_engine.records import RecordStore
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.errors import ConfigError, DataError, MediaError
from uniavgen.perception.errors import NotMeasured

LONG_S: Final = 10.0
"""Where a stage works on a source for longer, loading networks again takes little beside it. [ours]"""
AnyStage = TypeVar("AnyStage", Stage, type[Stage])


def ordered(stages: Sequence[AnyStage]) -> list[AnyStage]:
    """Returns stages, or their classes, in an order in which each stands behind those that it requires.

    Raises ConfigError where one requires a stage that is missing, or itself.
    """
    by_name = {stage.name: stage for stage in stages}
    done: dict[str, AnyStage] = {}

    def visit(stage: AnyStage, path: tuple[str, ...]) -> None:
        if stage.name in done:
            return
        for name in stage.requires:
            if name not in by_name:
                raise ConfigError(f"the stage '{stage.name}' needs '{name}', which is left out; leave both out or none")
            if name in path:
                raise ConfigError(f"the stages {' -> '.join((*path, name))} need each other")
            visit(by_name[name], (*path, name))
        done[stage.name] = stage

    for stage in stages:
        visit(stage, (stage.name,))
    return list(done.values())


@dataclass(frozen=True, kw_only=True)
class StageGraph:
    """Runs all stages on a source, as far as its records do not hold their outputs.

    It is sent to other processes before its first run; there a stage loads its networks when it is first needed. They
    are dropped again where a source is long: those of all stages together take more than a gigabyte.
    """

    stages: Sequence[Stage]
    """As `ordered` returns them."""
    digests: Mapping[str, str]
    store: RecordStore
    _ready: dict[str, Stage] = field(default_factory=dict, init=False, compare=False)
    """Copies of stages, with their networks."""

    def __call__(self, source: SourceVideo) -> dict[str, StageOutput]:
        """Returns the outputs of all stages for a source, and records the new ones.

        Where a stage could not be computed, those that require it say so. Raises OutputError where a record cannot be
        written.
        """
        outputs: dict[str, StageOutput] = {}
        for stage in self.stages:
            digest = self.digests[stage.name]
            output = self.store.load(source.key, stage.name, digest)
            if output is None:
                output = self._computed(stage, source, {name: outputs[name] for name in stage.requires})
                self.store.save(source.key, stage.name, digest, output)
            outputs[stage.name] = output
        return outputs

    def load(self, source: SourceVideo) -> dict[str, StageOutput] | None:
        """Returns the outputs of a source whose records are complete, else None."""
        outputs = {
            stage.name: self.store.load(source.key, stage.name, self.digests[stage.name]) for stage in self.stages
        }
        found = {name: output for name, output in outputs.items() if output is not None}
        return found if len(found) == len(outputs) else None

    def give_up(self, source: SourceVideo, reason: str) -> None:
        """Records for the first stage that a source lacks why it cannot be computed, so that it is not tried again."""
        for stage in self.stages:
            if self.store.load(source.key, stage.name, self.digests[stage.name]) is None:
                self.store.save(source.key, stage.name, self.digests[stage.name], StageOutput(reason=reason))
                return

    def _computed(self, stage: Stage, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        failed = next((name for name, output in inputs.items() if output.reason), None)
        if failed is not None:
            return StageOutput(reason=f"{failed}: {inputs[failed].reason}")
        if stage.name not in self._ready:
            ready = copy(stage)
            ready.setup()
            self._ready[stage.name] = ready
        begin_s = time.monotonic()
        try:
            return self._ready[stage.name](source, inputs)
        except (MediaError, DataError, NotMeasured) as error:
            return StageOutput(reason=str(error))
        finally:
            if time.monotonic() - begin_s > LONG_S:
                self._ready.clear()
                _return_memory()


def _return_memory() -> None:
    """Gives freed memory back to the system, which glibc would keep for later."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
