"""Renders clips of the synthetic world into shards, and records speech for it; both resume after an interruption."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from uniavgen.artifacts import exclusive_output, record_settings
from uniavgen.data.shards import ShardWriter
from uniavgen.errors import ConfigError
from uniavgen.media.image import write_image
from uniavgen.synth import RenderedClip, WorldSettings, check_material, generate, speak
from uniavgen.synth.generate import check_jobs, open_speech
from uniavgen.synth.packing import pack_clip, pack_spoken_clip
from uniavgen.synth.recording import Recorder

CLIPS_PER_SHARD = 50
MAX_CLIPS = 10_000_000
MAX_SEED = 2**32
PREVIEW = "preview.png"
_PREVIEW_ROWS, _PREVIEW_FRAMES = 12, 8
_FOLDERS = {"heads", "voices", "speech"}
"""Settings that say where things lie, not what a folder of clips is made of."""

OnProgress = Callable[[int, int], None]
"""Called with the count of finished items and their total, once at the start and after each item."""


def render_clips(
    settings: WorldSettings,
    num_clips: int,
    folder: Path,
    *,
    seed: int = 0,
    jobs: int = 1,
    sound_only: bool = False,
    on_progress: OnProgress = lambda _done, _total: None,
) -> None:
    """Renders the first `num_clips` clips of the world `seed` into shards of `folder`; those it holds are kept.

    With `sound_only` nothing is drawn, which is far quicker and enough to train the audio branch. Raises DataError or
    ConfigError where material is missing or the folder was made with other settings.
    """
    if not 1 <= num_clips <= MAX_CLIPS or not 0 <= seed < MAX_SEED:
        raise ConfigError(
            f"a world has 1 to {MAX_CLIPS} clips and a seed from 0 to {MAX_SEED - 1}, got {num_clips} and {seed}"
        )
    check_jobs(jobs)
    check_material(settings)
    recorded = {name: value for name, value in asdict(settings).items() if name not in _FOLDERS}
    with ShardWriter(folder, samples_per_shard=CLIPS_PER_SHARD) as writer:
        record_settings(
            folder / "world.json", {"seed": seed, **recorded, **({"sound_only": True} if sound_only else {})}
        )
        missing = [number for number in range(num_clips) if _key(seed, number) not in writer.keys]
        on_progress(num_clips - len(missing), num_clips)
        if sound_only:
            packed = map(pack_spoken_clip, speak(seed, missing, settings, jobs))
        else:
            packed = _pack_with_preview(generate(seed, missing, settings, jobs), missing, folder)
        for done, (number, parts) in enumerate(zip(missing, packed, strict=True), start=1):
            writer.write(_key(seed, number), parts)
            on_progress(num_clips - len(missing) + done, num_clips)


def record_speech(
    settings: WorldSettings,
    num_utterances: int,
    folder: Path,
    *,
    seed: int = 0,
    jobs: int = 1,
    on_progress: OnProgress = lambda _done, _total: None,
) -> int:
    """Records utterances of a speech source with their phone times and returns how many the folder then holds.

    Raises ConfigError for the source `made`, which is recorded speech itself.
    """
    if settings.source == "made":
        raise ConfigError("speech is made by kokoro or flite, got 'made'; name one with --source")
    check_jobs(jobs)
    recorder = Recorder(folder=folder, source=open_speech(settings), seed=seed)
    with exclusive_output(folder):
        record_settings(folder / "speech.json", {"seed": seed, "source": settings.source, "split": settings.split})
        num_recorded = len(recorder.recorded_ids())
        total = max(num_utterances, num_recorded)
        on_progress(num_recorded, total)
        for done, _ in enumerate(recorder.record(num_utterances, jobs), start=num_recorded + 1):
            on_progress(done, total)
        return len(recorder.recorded_ids())


def _key(seed: int, number: int) -> str:
    return f"{seed:04d}-{number:06d}"


def _pack_with_preview(clips: Iterator[RenderedClip], numbers: list[int], folder: Path) -> Iterator[dict[str, bytes]]:
    """Yields the parts of each clip and adds the first clips to the folder's preview."""
    rows: list[np.ndarray] = []
    for number, clip in zip(numbers, clips, strict=True):
        yield pack_clip(clip)
        if number < _PREVIEW_ROWS:
            rows.append(_preview_row(clip))
            write_image(folder / PREVIEW, np.concatenate(rows))


def _preview_row(clip: RenderedClip) -> np.ndarray:
    """Returns some frames side by side; in the last one the face mask is tinted."""
    indices = np.linspace(0, len(clip.frames) * 0.6, _PREVIEW_FRAMES).astype(int)
    frames = clip.frames[indices].copy()
    mask = clip.face_masks[indices[-1]]
    frames[-1][mask] = frames[-1][mask] // 2 + np.array([0, 110, 0], np.uint8)
    return np.concatenate(frames, axis=1)
