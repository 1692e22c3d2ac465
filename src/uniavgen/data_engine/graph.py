"""Stages in order: what each reads is checked before anything is run, and a source goes through them one by one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from uniavgen.data_engine.records import RecordStore
from uniavgen.data_engine.source import Source
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.errors import ConfigError


def ordered(stages: Sequence[Stage]) -> list[Stage]:
    """Returns stages in an order in which each stands behind those that it requires.

    Raises ConfigError where one requires a stage that is missing, or itself.
    """
    by_name = {stage.name: stage for stage in stages}
    done: dict[str, Stage] = {}

    def visit(stage: Stage, path: tuple[str, ...]) -> None:
        if stage.name in done:
            return
        for name in stage.requires:
            if name not in by_name or name in path:
                raise ConfigError(f"the stage '{stage.name}' needs '{name}', which is not run before it")
            visit(by_name[name], (*path, name))
        done[stage.name] = stage

    for stage in stages:
        visit(stage, (stage.name,))
    return list(done.values())


@dataclass(frozen=True, kw_only=True)
class StageGraph:
    """Runs all stages on a source, as far as its records do not hold their outputs."""

    stages: Sequence[Stage]
    """As `ordered` returns them."""
    digests: Mapping[str, str]
    store: RecordStore

    def run(self, source: Source) -> dict[str, StageOutput]:
        """Returns the outputs of all stages for a source, and records the new ones.

        A stage whose required stages could not be computed says which one.
        """
        outputs: dict[str, StageOutput] = {}
        for stage in self.stages:
            digest = self.digests[stage.name]
            output = self.store.load(source.key, stage.name, digest)
            if output is None:
                failed = next((name for name in stage.requires if outputs[name].reason), None)
                if failed is None:
                    output = stage(source, {name: outputs[name] for name in stage.requires})
                else:
                    output = StageOutput(reason=f"{failed}: {outputs[failed].reason}")
                self.store.save(source.key, stage.name, digest, output)
            outputs[stage.name] = output
        return outputs

    def load(self, source: Source) -> dict[str, StageOutput] | None:
        """Returns the outputs of a source whose records are complete, else None."""
        outputs = {
            stage.name: self.store.load(source.key, stage.name, self.digests[stage.name]) for stage in self.stages
        }
        found = {name: output for name, output in outputs.items() if output is not None}
        return found if len(found) == len(outputs) else None
