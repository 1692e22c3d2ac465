"""All stages: which there are, and how they are built for a run."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Any, Final

from uniavgen.artifacts import checksum
from uniavgen.config import Config, load
from uniavgen.data_engine.graph import StageGraph, ordered
from uniavgen.data_engine.records import RecordStore, stage_digests
from uniavgen.data_engine.stage import Stage, StageContext
from uniavgen.data_engine.stages.caption import CaptionStage
from uniavgen.data_engine.stages.face_identity import FaceIdentityStage
from uniavgen.data_engine.stages.faces import FacesStage
from uniavgen.data_engine.stages.hashes import HashesStage
from uniavgen.data_engine.stages.loudness import LoudnessStage
from uniavgen.data_engine.stages.motion import MotionStage
from uniavgen.data_engine.stages.picture_quality import PictureQualityStage
from uniavgen.data_engine.stages.probe import ProbeStage
from uniavgen.data_engine.stages.segments import SegmentsStage
from uniavgen.data_engine.stages.shots import ShotsStage
from uniavgen.data_engine.stages.sound_quality import SoundQualityStage
from uniavgen.data_engine.stages.speaker import SpeakerStage
from uniavgen.data_engine.stages.speaker_changes import SpeakerChangesStage
from uniavgen.data_engine.stages.sync import SyncStage
from uniavgen.data_engine.stages.text_on_screen import TextOnScreenStage
from uniavgen.data_engine.stages.transcript import TranscriptStage
from uniavgen.data_engine.stages.voice_activity import VoiceActivityStage
from uniavgen.data_engine.stages.wording import WordingStage
from uniavgen.errors import CheckpointError, ConfigError
from uniavgen.perception.packages import is_missing
from uniavgen.perception.weights import WeightResolver, how_to_get

STAGES: Final[tuple[type[Stage], ...]] = (
    ProbeStage,
    ShotsStage,
    FacesStage,
    VoiceActivityStage,
    LoudnessStage,
    TranscriptStage,
    SpeakerChangesStage,
    SegmentsStage,
    PictureQualityStage,
    TextOnScreenStage,
    MotionStage,
    HashesStage,
    SpeakerStage,
    FaceIdentityStage,
    SyncStage,
    SoundQualityStage,
    WordingStage,
    CaptionStage,
)
"""In any order; a new stage is one class in a file of its own, and one entry here."""


def build_stages(
    work: Path,
    *,
    stages: Sequence[type[Stage]] = STAGES,
    without: Collection[str] = (),
    settings: Iterable[str] = (),
    overrides: Iterable[str] = (),
    resolver: WeightResolver | None = None,
    device: str = "cpu",
) -> StageGraph:
    """Returns the graph of `stages` that keeps its records in `work`; no network is loaded.

    Args:
        without: names of stages that are left out.
        settings: YAML files with the settings of stages by their names; see `config.load`.
        overrides: `STAGE.KEY=VALUE`.

    Raises ConfigError where a stage requires one that is left out, and CheckpointError that names everything that is
    missing.
    """
    names = [stage.name for stage in stages]
    unknown = next((name for name in without if name not in names), None)
    if unknown is not None:
        raise ConfigError(f"there is no stage '{unknown}' to leave out; stages are {', '.join(names)}")
    chosen = ordered([stage for stage in stages if stage.name not in without])
    resolver = resolver or WeightResolver()
    needed = {name: resolver.resolve(name) for stage in chosen for name in stage.required_networks}
    missing = [f"{stage.name}: {reason}" for stage in chosen for reason in _missing(stage, needed)]
    if missing:
        raise CheckpointError(
            f"stages lack what they need; get it, or leave stages out with --without: {'; '.join(missing)}"
        )
    context = StageContext(weights={name: found for name, found in needed.items() if found}, device=device)
    values: Any = load(_settings_class(stages), list(settings), overrides)
    built = [stage(getattr(values, stage.name), context) for stage in chosen]
    checksums = {name: checksum(found.path) for name, found in context.weights.items()}
    return StageGraph(stages=built, digests=stage_digests(built, checksums), store=RecordStore(work))


def _missing(stage: type[Stage], needed: dict[str, Any]) -> list[str]:
    networks = [how_to_get(name) for name in stage.required_networks if needed[name] is None]
    packages = [
        f"the package {package} is missing: pip install 'uniavgen[data]'"
        for module, package in stage.packages.items()
        if is_missing(module)
    ]
    return networks + packages


def _settings_class(stages: Sequence[type[Stage]]) -> type[Config]:
    """Returns the class of the settings of all stages, by their names."""
    fields = [(stage.name, stage.settings_class, field(default_factory=stage.settings_class)) for stage in stages]
    return make_dataclass("StageSettings", fields, bases=(Config,), frozen=True, kw_only=True)
