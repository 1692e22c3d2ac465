"""Films of talking people, put together from the clips that the project ships, with faults of our choice."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from uniavgen.data_engine.rights import Rights
from uniavgen.data_engine.source import SourceVideo
from uniavgen.media.mux import write_clip
from uniavgen.media.video import read_video

CLIPS = sorted((Path(__file__).parents[2] / "docs" / "nano").glob("*.mp4"))
"""5 s each, of which 2 to 3 s are speech."""
RATE_HZ, FPS = 24_000, Fraction(16)


def clip_sound(clip: Path) -> Float32[np.ndarray, " samples"]:
    """Returns the sound of a clip, as long as its picture."""
    video = read_video(clip, FPS, rate_hz=RATE_HZ)
    waveform = video.waveform
    assert waveform is not None
    return np.resize(np.pad(waveform, (0, RATE_HZ)), round(len(video.frames) * RATE_HZ / FPS))


def write_talking(
    path: Path,
    clips: Sequence[Path],
    sounds: Sequence[Float32[np.ndarray, " samples"]] | None = None,
    late_ms: float = 0.0,
    size: int = 128,
) -> SourceVideo:
    """Writes clips one after another, with sounds of their own or others, which all come late."""
    frames = [read_video(clip, FPS, short_side_px=size).frames for clip in clips]
    waveform = np.concatenate(list(sounds) if sounds is not None else [clip_sound(clip) for clip in clips])
    moved = round(late_ms / 1000 * RATE_HZ)
    shifted = np.zeros_like(waveform)
    if moved >= 0:
        shifted[moved:] = waveform[: len(waveform) - moved]
    else:
        shifted[:moved] = waveform[-moved:]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, np.concatenate(frames), FPS, shifted, RATE_HZ, {})
    return SourceVideo(path=path, key=path.stem, rights=Rights())


def music(seconds: float, seed: int = 0) -> Float32[np.ndarray, " samples"]:
    """Returns chords of decaying tones with overtones and a beat, loudness 0.1 (RMS)."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    sound = np.zeros_like(time)
    for at in np.arange(0, seconds, 0.5):
        root = 110 * 2 ** (rng.integers(0, 12) / 12)
        age = np.clip(time - at, 0, None)
        envelope = np.exp(-1.5 * age) * (time >= at)
        for interval in (1, 1.26, 1.5, 2):
            for overtone in (1, 2, 3):
                sound += envelope * np.sin(2 * np.pi * root * interval * overtone * age) / overtone
        sound += 2 * np.exp(-60 * age) * (time >= at) * rng.normal(size=len(time))
    return (0.1 * sound / np.sqrt(np.mean(sound**2))).astype(np.float32)
