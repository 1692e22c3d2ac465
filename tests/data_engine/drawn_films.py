"""Small films that are drawn, with faults of known place, and the outputs of stages that come before."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image
from tests.media.builders import FPS, RATE_HZ, add_audio, add_video, tone, write_media

from uniavgen.data_engine.face_boxes import FaceSample, TrackBuilder
from uniavgen.data_engine.rights import Rights
from uniavgen.data_engine.segment import SpeechSegment
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageContext, StageOutput

FACE = (0.35, 0.25, 0.65, 0.75)


def scene(seed: int, height: int = 72, width: int = 128) -> np.ndarray:
    """A picture with structures of all sizes: coarse ones are strong, as in photographs."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for cells in (2, 4, 8, 16, 32, 64, 128, 256):
        if cells > 2 * height:
            break
        noise = rng.normal(size=(cells, cells * width // height + 1, 3))
        for channel in range(3):
            layer = Image.fromarray(noise[..., channel].astype(np.float32))
            picture[..., channel] += np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC)) / cells**0.5
    picture += rng.normal(scale=0.7, size=3)
    return (128 + 45 * picture).clip(0, 255).astype(np.uint8)


def panned(picture: np.ndarray, num_frames: int, step_px: int = 1) -> np.ndarray:
    """A camera that moves to the right over the picture."""
    return np.stack([np.roll(picture, -step_px * index, axis=1) for index in range(num_frames)])


def film(path: Path, frames: np.ndarray, sound: np.ndarray | None = None, fps: Fraction = FPS, **video) -> SourceVideo:
    """Writes a film and returns it as a source."""
    sound = tone(float(len(frames) / fps)) if sound is None else sound
    write_media(
        path, lambda out: add_video(out, frames, fps, **video), lambda out: add_audio(out, sound, RATE_HZ, "aac")
    )
    return SourceVideo(path=path, key=path.stem, rights=Rights())


def output_of(stage: type[Stage], source: SourceVideo, inputs: Mapping[str, StageOutput], **settings) -> StageOutput:
    """Runs one stage that needs no network from outside."""
    built = stage(stage.settings_class(**settings), StageContext())
    built.setup()
    return built(source, inputs)


def one_face(seconds: float, box: tuple[float, float, float, float] = FACE) -> StageOutput:
    """The output of `faces` for a face that stays where it is."""
    builder = TrackBuilder(0.3, 1.0)
    for time_s in np.arange(0, seconds, 0.125):
        builder.add(float(time_s), 0, [FaceSample(box=box, is_confirmed=True, mouth_opening=0.1)])
    return StageOutput(arrays=builder.boxes().arrays())


def segments(*intervals: tuple[float, float]) -> StageOutput:
    """The output of `segments` for intervals of track 0."""
    rows = [
        SpeechSegment(
            start_s=start_s,
            end_s=end_s,
            shot=0,
            track=0,
            num_faces=1,
            face_share=1.0,
            speech_share=1.0,
            mouth_movement=0.02,
            mouth_loudness=0.5,
        ).values()
        for start_s, end_s in intervals
    ]
    return StageOutput(values={"segments": rows})


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """One part after the other."""
    return np.concatenate(list(parts))
