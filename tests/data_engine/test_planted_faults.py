"""A drawn film with planted cuts, dissolve, bars, still and blurred pictures, silence and copies: each is named.

It needs no network: faces stand where they were drawn, and beeps are the words.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from tests.data_engine.drawn_films import FACE, film, panned, scene
from tests.data_engine.small_stages import Beeps, Duration
from tests.media.builders import RATE_HZ

from uniavgen.config import Config
from uniavgen.data_engine.cutting import split_at
from uniavgen.data_engine.decisions import Decisions, decide
from uniavgen.data_engine.face_boxes import FaceSample, TrackBuilder
from uniavgen.data_engine.segment import SpeechSegment
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.data_engine.stages.hashes import HashesStage
from uniavgen.data_engine.stages.loudness import LoudnessStage
from uniavgen.data_engine.stages.motion import MotionStage
from uniavgen.data_engine.stages.picture_quality import PictureQualityStage
from uniavgen.data_engine.stages.probe import ProbeStage
from uniavgen.data_engine.stages.shots import ShotsStage
from uniavgen.data_engine.work_folder import WorkFolder
from uniavgen.timebase import Timebase
from uniavgen.workflows.data_engine import StageSelection, load_rules, run_stages

HEIGHT, WIDTH, FPS, SHOT_FRAMES = 360, 480, 16, 40
SHOT_S = SHOT_FRAMES / FPS
TIMING = Timebase().clip(33)


@dataclass(frozen=True, kw_only=True)
class NoConfig(Config):
    """Nothing can be set."""


class DrawnFaces(Stage):
    """A face that stays where the films have one."""

    name = "faces"
    requires = ("duration",)
    settings_class = NoConfig

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        builder = TrackBuilder(0.3, 1.0)
        for time_s in np.arange(0, inputs["duration"].values["duration_s"], 0.125):
            builder.add(float(time_s), 0, [FaceSample(box=FACE, is_confirmed=True, mouth_opening=0.1)])
        return StageOutput(arrays=builder.boxes().arrays())


class SpokenShots(Stage):
    """A segment for each shot with words."""

    name = "segments"
    requires = ("shots", "transcript")
    settings_class = NoConfig

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        words = [(word["start_s"] + word["end_s"]) / 2 for word in inputs["transcript"].values["words"]]
        rows = [
            SpeechSegment(
                start_s=start_s, end_s=end_s, shot=shot, track=0, num_faces=1, face_share=1.0, speech_share=0.5,
                mouth_movement=0.02, mouth_loudness=0.5,
            ).values()
            for shot, (start_s, end_s) in enumerate(inputs["shots"].values["shots"])
            if len(split_at([(start_s, end_s)], words)) > 1
        ]  # fmt: skip
        return StageOutput(values={"segments": rows})


STAGES = (
    DrawnFaces, SpokenShots, Duration, Beeps, ProbeStage, ShotsStage, LoudnessStage, PictureQualityStage, MotionStage,
    HashesStage,
)  # fmt: skip


def _shot(seed: int, num_frames: int = SHOT_FRAMES) -> np.ndarray:
    """A camera that moves slowly over a scene with fine grain."""
    grain = np.random.default_rng(seed).normal(scale=20, size=(HEIGHT, WIDTH, 1))
    return panned((scene(seed, HEIGHT, WIDTH) + grain).clip(0, 255).astype(np.uint8), num_frames, 1)


def _each(frames: np.ndarray, change) -> np.ndarray:
    return np.stack([np.asarray(change(Image.fromarray(frame))) for frame in frames])


def _beeps(num_frames: int, first_s: float = 0.0) -> np.ndarray:
    """Short and long beeps of 0.2 to 0.3 s; the sound of a stretch that begins at `first_s` of one that goes on."""
    time = first_s + np.arange(round(num_frames / FPS * RATE_HZ)) / RATE_HZ
    return (0.2 * (time % 0.5 < 0.2 + 0.1 * (time % 1 < 0.5)) * np.sin(2 * np.pi * 300 * time)).astype(np.float32)


def _decided(folder: Path) -> Decisions:
    run_stages([folder], folder / "work", StageSelection(stages=STAGES))
    return decide(WorkFolder(folder / "work"), load_rules(overrides=["min_words=2"]), TIMING)


@pytest.fixture(scope="module")
def decisions(tmp_path_factory) -> Decisions:
    """Of four sources: shots with faults, a dissolve, bars, and a copy of the one with bars."""
    for name in ("scenedetect", "cv2", "imagehash"):
        pytest.importorskip(name, reason=f"{name} is not installed (extra data)")
    folder = tmp_path_factory.mktemp("films")
    shots = [_shot(seed) for seed in range(6)]
    shots[1] = np.repeat(shots[1][:1], SHOT_FRAMES, axis=0)
    shots[2] = _each(shots[2], lambda image: image.filter(ImageFilter.GaussianBlur(4)))
    small = (WIDTH // 3, HEIGHT // 3)
    shots[3] = _each(shots[3], lambda image: image.resize(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    frames = np.concatenate(shots)
    sound = _beeps(len(frames))
    sound[round(4 * SHOT_S * RATE_HZ) : round(5 * SHOT_S * RATE_HZ)] = 0
    film(folder / "faults.mp4", frames, sound)
    first, second = _shot(10, 52), _shot(11, 52)
    shares = (np.arange(12) / 11)[:, None, None, None]
    blended = (first[-12:] * (1 - shares) + second[:12] * shares).astype(np.uint8)
    frames = np.concatenate([first[:-12], blended, second[12:]])
    film(folder / "dissolve.mp4", frames, _beeps(len(frames), 0.25))
    barred = np.pad(_shot(12), ((0, 0), (40, 40), (0, 0), (0, 0)))
    film(folder / "bars.mp4", barred, _beeps(len(barred)))
    copy = _each(barred[:, 40:-40], lambda image: image.resize((448, 336)))
    film(folder / "copy.mp4", copy, _beeps(len(copy)), crf="30")
    return _decided(folder)


def _of(decisions: Decisions, name: str):
    return [each for each in decisions.candidates if each.candidate.source.path.stem == name]


def test_each_planted_fault_is_the_reason_of_its_drop_and_no_other_shot_is_dropped(decisions):
    found = {round(each.candidate.start_s / SHOT_S): each.reasons for each in _of(decisions, "faults")}
    assert found.keys() == {0, 1, 2, 3, 5}
    assert found[0] == found[5] == ()
    assert any(reason.startswith("the picture stands still") for reason in found[1])
    assert any(reason.startswith("the face is blurred") for reason in found[2])
    assert any(reason.startswith("the picture has little detail") for reason in found[3])


def test_no_clip_reaches_over_a_planted_cut_or_into_a_dissolve(decisions):
    cuts = [k * SHOT_S for k in range(1, 6)]
    for name, changes in (("faults", [(cut, cut) for cut in cuts]), ("dissolve", [(40 / FPS, 52 / FPS)])):
        windows = [window for each in _of(decisions, name) for window in each.windows]
        assert len(windows) == 2
        for window in windows:
            start_s = float(window.start_frame / FPS)
            assert not any(start_s < b - 1e-6 and start_s + float(TIMING.duration_s) > a + 1e-6 for a, b in changes)


def test_of_a_film_with_bars_and_its_copy_one_is_kept(decisions):
    both = [*_of(decisions, "bars"), *_of(decisions, "copy")]
    assert [each.is_kept for each in both].count(True) == 1
    dropped = next(each for each in both if not each.is_kept)
    assert dropped.reasons == (f"it repeats {next(each for each in both if each.is_kept).candidate.key}",)
    crop = both[0].candidate.source_value("probe", "crop")
    assert crop == pytest.approx([0, 40 / (HEIGHT + 80), 1, 1 - 40 / (HEIGHT + 80)], abs=0.02)
