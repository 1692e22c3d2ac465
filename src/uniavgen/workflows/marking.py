"""Marks and signs the clips that are generated, as `MarkingConfig` says, and tells where that is not possible."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from uniavgen.artifacts import checksum
from uniavgen.errors import OutputError
from uniavgen.inference.clip import Clip
from uniavgen.inference.prepared_request import PreparedRequest
from uniavgen.media.mux import OnWritten
from uniavgen.provenance.config import MarkingConfig
from uniavgen.provenance.manifest import (
    MIME_TYPES,
    ClipRecord,
    InputFile,
    check_key,
    find_c2pa,
    sign_clip,
)
from uniavgen.provenance.marking import NOT_MARKED, mark_clip
from uniavgen.provenance.perth_weights import PACKAGE, find_perth
from uniavgen.provenance.signing_key import SigningKey, own_key, read_key
from uniavgen.tasks.table import TASKS, ModalityRole
from uniavgen.workflows.clip_jobs import ClipJob, GeneratedClip
from uniavgen.workflows.load import Report

UNMARKED = NOT_MARKED + "--no-mark"
MANIFEST = "c2pa"


@dataclass(frozen=True, kw_only=True)
class ClipMarker:
    """Marks clips, and signs their files with one key."""

    marking: MarkingConfig
    key: SigningKey | None
    """None where nothing is signed."""
    unsigned_because: str = ""

    @staticmethod
    def build(marking: MarkingConfig, suffix: str, report: Report = lambda _: None) -> "ClipMarker":
        """Reads the key before anything is loaded, and reports what keeps files with this ending from being signed.

        Raises ConfigError where the key that was named cannot be used.
        """
        if marking.no_mark:
            return ClipMarker(marking=marking, key=None, unsigned_because="--no-mark")
        reason, key = "", None
        if find_c2pa() is None:
            reason = "the package c2pa-python is not installed"
        else:
            try:
                key = _read_key(marking)
            except OutputError as error:
                reason = str(error)
        if suffix.lower() not in MIME_TYPES:
            reason, key = f"{suffix.lower()} files take none; use .mp4", None
        if reason:
            report(f"the clip gets no signed manifest: {reason}")
        if find_perth() is None:
            report(f"sound gets no mark: the package {PACKAGE} is not installed")
        return ClipMarker(marking=marking, key=key, unsigned_because=reason)

    def mark(self, job: ClipJob, generated: GeneratedClip) -> GeneratedClip:
        """Returns a clip whose generated frames and sound carry marks, with what signs its file.

        The key `marks` of its settings says which marks it carries, or why not.
        """
        clip, marks = generated.clip, {"picture": UNMARKED, "sound": UNMARKED}
        if not self.marking.no_mark:
            given_frames, given_samples = _given(clip, generated.prepared)
            marked = mark_clip(clip.frames, clip.waveform, clip.sample_rate_hz, given_frames, given_samples)
            clip, marks = replace(clip, frames=marked.frames, waveform=marked.waveform), dict(marked.marks)
        marks["manifest"] = NOT_MARKED + self.unsigned_because if self.key is None else MANIFEST
        settings = {**generated.settings, "marks": marks}
        return replace(generated, clip=clip, settings=settings, on_written=self._signer(job, settings))

    def _signer(self, job: ClipJob, settings: Mapping[str, Any]) -> OnWritten | None:
        key = self.key
        if key is None:
            return None
        inputs = [
            InputFile(
                role=role,
                name=settings["inputs"][role],
                sha256=checksum(path),
                is_kept=role == job.kept_input,
            )
            for role, path in job.inputs.items()
        ]
        record = ClipRecord(
            task=settings["task"],
            model=settings["model"],
            inputs=inputs,
            marks=settings["marks"],
            settings=settings,
            consent=self.marking.consent,
        )
        return lambda path: sign_clip(path, record, key)


def _given(clip: Clip, prepared: PreparedRequest) -> tuple[int, int]:
    """Returns how many leading frames and samples of a clip are the user's own."""
    spec, inputs = TASKS[prepared.task], prepared.inputs
    frames = {ModalityRole.GENERATED: 0, ModalityRole.PREFIX: len(inputs.frames), ModalityRole.GIVEN: len(clip.frames)}
    samples = {
        ModalityRole.GENERATED: 0,
        ModalityRole.PREFIX: inputs.given_tokens * prepared.timing.base.hop,
        ModalityRole.GIVEN: len(clip.waveform),
    }
    return frames[spec.video], samples[spec.audio]


def _read_key(marking: MarkingConfig) -> SigningKey:
    if marking.c2pa_key is None:
        return own_key()
    key = read_key(marking.c2pa_key)
    check_key(key, str(marking.c2pa_key))
    return key
