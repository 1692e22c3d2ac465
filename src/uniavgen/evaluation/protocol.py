"""The protocol on held-out rendered clips: every system makes every clip, made clips are kept, then all are measured.

A clip that was made is stored at once (`clips/SYSTEM/KEY.npz`) and never made again, so a run that was stopped goes on
where it was. Settings that decide the clips stand in `settings.json`; a folder made with others is refused.

Audio-driven [paper 3.5]: a system gets the clip's first picture and the driver's sound. The driver is the clip itself,
or, for the control, the next clip of the list ("shuffled"): a mouth that follows the sound then no longer follows this
clip's truth.
"""

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from uniavgen.errors import DataError
from uniavgen.evaluation.metric import MadeClip, Metric, TruthClip
from uniavgen.evaluation.report import ClipScores, SystemScores, score
from uniavgen.media.files import whole_file


@runtime_checkable
class System(Protocol):
    """Something that makes a clip out of a picture and a sound."""

    @property
    def name(self) -> str:
        """Key in report.json."""
        ...

    @property
    def description(self) -> str:
        """One line for the report."""
        ...

    @property
    def shuffled(self) -> bool:
        """Whether the sound comes from another clip."""
        ...

    @property
    def kept(self) -> bool:
        """Whether its clips are worth a file: they cost more to make than to read."""
        ...

    def make(self, clip: TruthClip, driver: TruthClip) -> MadeClip:
        """The clip with the pictures of `clip` and the sound of `driver`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Step:
    """What `run` has just done, for a progress bar."""

    done: int
    total: int
    system: str
    clip: str


@dataclass(frozen=True)
class ClipStore:
    """Made clips in a folder."""

    folder: Path

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Bind the folder to these settings; DataError where it holds clips made with others."""
        path = self.folder / "settings.json"
        text = json.dumps(dict(settings), indent=2, sort_keys=True) + "\n"
        if path.is_file() and path.read_text() != text:
            before = json.loads(path.read_text())
            changed = sorted(k for k in {*before, *settings} if before.get(k) != settings.get(k))
            raise DataError(
                f"{self.folder} holds clips made with another {', '.join(changed)}; choose another folder or delete it"
            )
        with whole_file(path) as partial:
            partial.write_text(text)

    def path(self, system: str, key: str) -> Path:
        return self.folder / "clips" / system / f"{key}.npz"

    def load(self, system: str, key: str) -> MadeClip | None:
        """The clip as it was made; None where it was not, or where its file is damaged."""
        path = self.path(system, key)
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                parts = dict(file)
        except (zipfile.BadZipFile, ValueError, EOFError, OSError):
            return None
        return MadeClip(frames=parts["frames"], waveform=parts["waveform"], face_mask=parts.get("face_mask"))

    def save(self, system: str, key: str, made: MadeClip) -> None:
        parts = {"frames": made.frames, "waveform": made.waveform}
        if made.face_mask is not None:
            parts["face_mask"] = made.face_mask
        with whole_file(self.path(system, key)) as partial, partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **parts)


def run(
    systems: Sequence[System],
    metrics: Sequence[Metric],
    clips: Sequence[TruthClip],
    store: ClipStore,
    on_step: Callable[[Step], None] | None = None,
) -> list[SystemScores]:
    """Make what is missing, measure everything. DataError for fewer than two clips: nothing could be shuffled."""
    if len(clips) < 2:
        raise DataError(f"shuffling needs at least 2 clips, got {len(clips)}; ask for more")
    scores: dict[str, list[ClipScores]] = {system.name: [] for system in systems}
    total, done = len(systems) * len(clips), 0
    # Clip by clip, so that a run that was stopped early has whole clips of every system.
    for number, clip in enumerate(clips):
        for system in systems:
            driver = clips[(number + 1) % len(clips)] if system.shuffled else clip
            made = make_once(system, clip, driver, store)
            scores[system.name].append(score(metrics, made, clip))
            done += 1
            if on_step is not None:
                on_step(Step(done=done, total=total, system=system.name, clip=clip.key))
    return [SystemScores(name=s.name, description=s.description, clips=scores[s.name]) for s in systems]


def make_once(system: System, clip: TruthClip, driver: TruthClip, store: ClipStore) -> MadeClip:
    """The kept clip, or a new one, which is then kept."""
    if not system.kept:
        return system.make(clip, driver)
    made = store.load(system.name, clip.key)
    if made is None:
        made = system.make(clip, driver)
        store.save(system.name, clip.key, made)
    return made
