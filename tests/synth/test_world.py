"""Rendered clips: the same every time, with truth that agrees with pictures and sound."""

import io
import json
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from uniavgen.apps.cli.synth import synth
from uniavgen.data.shards import ShardSet
from uniavgen.errors import ConfigError, DataError
from uniavgen.media.audio import read_audio
from uniavgen.media.video import read_video
from uniavgen.synth import Art, RenderedClip, WorldSettings, generate
from uniavgen.synth.appearance import sample_style
from uniavgen.synth.arkit import INDEX
from uniavgen.synth.hair import build_attachments
from uniavgen.synth.head import HeadMesh, rotations
from uniavgen.synth.head_data import HeadData
from uniavgen.synth.identity import sample_identity
from uniavgen.synth.moods import STRENGTHS
from uniavgen.synth.packing import pack_clip
from uniavgen.synth.speech import SAMPLE_RATE_HZ, RecordedSpeech
from uniavgen.synth.world import SyntheticWorld


@pytest.fixture(scope="module")
def settings(heads_folder: Path, speech_folder: Path, offscreen: None) -> WorldSettings:
    return WorldSettings(size=64, num_frames=21, speech=speech_folder, heads=heads_folder)


@pytest.fixture(scope="module")
def clips(settings: WorldSettings) -> list[RenderedClip]:
    return list(generate(11, range(3), settings))


def test_clips_do_not_depend_on_the_order_of_requests(settings: WorldSettings, clips: list[RenderedClip]) -> None:
    again = next(generate(11, [2], settings))
    np.testing.assert_array_equal(again.frames, clips[2].frames)
    np.testing.assert_array_equal(again.face_masks, clips[2].face_masks)
    np.testing.assert_array_equal(again.waveform, clips[2].waveform)
    assert again.truth.caption == clips[2].truth.caption
    assert not np.array_equal(clips[0].frames, clips[1].frames)


def test_clips_have_the_declared_shapes(clips: list[RenderedClip]) -> None:
    for clip in clips:
        assert clip.frames.shape == (21, 64, 64, 3)
        assert clip.face_masks.shape == (21, 64, 64)
        assert clip.waveform.shape == (31_500,)
        assert clip.truth.arkit.shape == (21, 52)
        assert np.abs(clip.waveform).max() <= 0.9
        for _, start, end in clip.truth.phones:
            assert 0 <= start <= end <= 21 / 16


def test_masks_lie_on_one_moving_face(clips: list[RenderedClip]) -> None:
    for clip in clips:
        share = clip.face_masks.mean((1, 2))
        assert share.min() > 0.05
        assert share.max() < 0.5
        overlap = (clip.face_masks[1:] & clip.face_masks[:-1]).sum() / clip.face_masks[1:].sum()
        assert overlap > 0.8


def test_masked_pixels_are_skin(clips: list[RenderedClip]) -> None:
    """Skin of any tone is red above green above blue; backgrounds and clothes need not be."""
    for clip in clips:
        red, green, blue = np.moveaxis(clip.frames[clip.face_masks].astype(int), -1, 0)
        assert np.mean((red >= green) & (green >= blue - 8)) > 0.8


def test_mouths_open_where_the_audio_is_loud(clips: list[RenderedClip]) -> None:
    for clip in clips:
        loud = np.sqrt(np.square(clip.waveform.reshape(21, 1500)).mean(1))
        assert np.corrcoef(loud, clip.truth.mouth_opening)[0, 1] > 0.5


@pytest.mark.slow
def test_clips_do_not_depend_on_the_number_of_processes(settings: WorldSettings, clips: list[RenderedClip]) -> None:
    for parallel, alone in zip(generate(11, range(2), settings, jobs=2), clips, strict=False):
        np.testing.assert_array_equal(parallel.frames, alone.frames)


def test_packed_clips_are_read_back(tmp_path: Path, clips: list[RenderedClip], settings: WorldSettings) -> None:
    options = {"heads": settings.heads, "speech": settings.speech, "size": 64, "seed": 11}
    synth(clips=1, out=tmp_path / "a", **options)
    shards = ShardSet(tmp_path / "a")
    assert set(shards.parts(0)) == {"json", "mp4", "flac", "npz"}
    facts = json.loads(shards.read(0, "json"))
    assert {"text", "caption", "speaker", "phones", "mood", "gender", "age"} <= set(facts)
    assert read_video(shards.read(0, "mp4"), Fraction(16)).frames.shape == (81, 64, 64, 3)
    assert read_audio(shards.read(0, "flac"), 24_000).shape == (121_500,)
    assert (tmp_path / "a" / "preview.png").exists()

    parts = pack_clip(clips[0])
    with np.load(io.BytesIO(parts["npz"])) as truth:
        mask = np.unpackbits(truth["face_mask"], count=clips[0].face_masks.size).reshape(truth["face_mask_shape"])
        np.testing.assert_array_equal(mask.astype(bool), clips[0].face_masks)
    assert parts == pack_clip(clips[0])

    synth(clips=1, out=tmp_path / "a", **options)
    assert len(ShardSet(tmp_path / "a")) == 1
    with pytest.raises(DataError, match="was made with"):
        synth(clips=1, out=tmp_path / "a", **{**options, "seed": 12})
    with pytest.raises(DataError, match="was made with"):
        synth(clips=1, out=tmp_path / "a", sound_only=True, **options)


def test_audio_alone_equals_that_of_rendered_clips(tmp_path: Path, settings: WorldSettings) -> None:
    options = {"seed": 11, "speech": settings.speech, "heads": settings.heads}
    synth(clips=1, out=tmp_path / "drawn", size=32, **options)
    synth(clips=2, out=tmp_path / "sound", sound_only=True, **options)
    drawn, sound = ShardSet(tmp_path / "drawn"), ShardSet(tmp_path / "sound")
    assert {*sound.parts(0)} == {"json", "flac"}
    assert sound.read(0, "flac") == drawn.read(0, "flac")
    facts, spoken_facts = (json.loads(shards.read(0, "json")) for shards in (drawn, sound))
    assert spoken_facts.items() <= facts.items()
    assert len(sound) == 2


def test_clips_without_movement_move_only_faces(settings: WorldSettings, clips: list[RenderedClip]) -> None:
    still = next(generate(11, [0], replace(settings, movement=0.0)))
    assert np.ptp(still.truth.head_pose, axis=0).max() == 0
    assert np.ptp(still.frames[:, :6].astype(int), axis=0).max() == 0
    assert np.ptp(clips[0].frames[:, :6].astype(int), axis=0).max() > 0
    assert np.ptp(still.frames.astype(int), axis=0).max() > 0
    np.testing.assert_array_equal(still.truth.mouth_opening, clips[0].truth.mouth_opening)
    np.testing.assert_array_equal(still.waveform, clips[0].waveform)


def test_drawn_clip_shows_the_same_scene_in_flat_tones(settings: WorldSettings, clips: list[RenderedClip]) -> None:
    drawn = next(generate(11, [0], replace(settings, art=Art.DRAWN)))
    # Outlines take a pixel here and there from the face.
    both, either = drawn.face_masks & clips[0].face_masks, drawn.face_masks | clips[0].face_masks
    assert both.sum() > 0.95 * either.sum()
    np.testing.assert_array_equal(drawn.waveform, clips[0].waveform)
    assert drawn.truth.caption == clips[0].truth.caption

    def edges(clip: RenderedClip) -> np.ndarray:
        """Steps of brightness between neighbours inside the face: a drawing has many of none."""
        grey = clip.frames.astype(float).mean(-1)
        both = clip.face_masks[:, :, 1:] & clip.face_masks[:, :, :-1]
        return np.abs(np.diff(grey, axis=2))[both]

    assert np.mean(edges(drawn) < 0.5) > 1.3 * np.mean(edges(clips[0]) < 0.5)


def test_world_settings_that_are_impossible_are_refused() -> None:
    for wrong in ({"split": "test"}, {"size": 65}, {"size": 8}, {"source": "radio"}, {"movement": -1.0}):
        with pytest.raises(ConfigError):
            replace(WorldSettings(), **wrong)


@pytest.mark.parametrize(("gender", "age"), [("female", 9.0), ("male", 30.0), ("female", 78.0)])
def test_mesh_opens_by_the_jaw(head_data: HeadData, gender: str, age: float) -> None:
    rng = np.random.default_rng(5)
    identity = sample_identity(head_data, rng, gender, age)
    head = HeadMesh(head_data, identity, build_attachments(head_data, identity, sample_style(identity, rng)))
    arkit = np.zeros((5, 52), np.float32)
    arkit[:, INDEX["jawOpen"]] = np.linspace(0, 1, 5)
    opening = head.mouth_opening(arkit)
    assert opening[0] < 0.03
    assert opening[-1] > 0.1
    assert (np.diff(opening) > 0).all()
    still = head.pose(arkit[:1], np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32))
    np.testing.assert_allclose(still.positions[0], head.neutral, atol=1e-4)


def test_head_rotation_moves_the_skull_and_leaves_the_shoulders(head_data: HeadData) -> None:
    head = HeadMesh(head_data, sample_identity(head_data, np.random.default_rng(1), "male", 40.0))
    angles, still = np.array([[0.4, -0.2, 0.1]], np.float32), np.zeros((1, 3), np.float32)
    turned = head.pose(np.zeros((1, 52), np.float32), angles, still)
    moved = np.linalg.norm(turned.positions[0] - head.neutral, axis=1)
    assert moved[head.neutral[:, 1] < head.neck[1]].max() < 1e-4
    assert moved[head.face_vertices].mean() > 0.3
    matrix = rotations(angles)[0]
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)


def test_moods_change_the_voice_by_their_strength(head_data: HeadData, speech_folder: Path) -> None:
    """The fixture speaks at 180 Hz; what a person adds to it is taken out again."""
    world = SyntheticWorld(head_data, RecordedSpeech(speech_folder), people_per_voice=1)
    pitch: dict[tuple[str, float], float] = {}
    peak: dict[tuple[str, float], float] = {}
    length: dict[tuple[str, float], float] = {}
    for take in (world.speak_clip(4, number) for number in range(60)):
        key = (take.mood.name, take.strength)
        spectrum = np.abs(np.fft.rfft(take.speech.waveform, 1 << 18))
        pitch[key] = float(np.argmax(spectrum)) * SAMPLE_RATE_HZ / (1 << 18) / 180 / take.person.pitch
        peak[key] = float(np.abs(take.speech.waveform).max())
        length[key] = (take.speech.phones[-1][2] - take.speech.phones[0][1]) * take.person.pitch
    assert len(pitch) == 7
    for name, higher, louder in (("happy", 1, 1), ("angry", 1, 1), ("sad", -1, -1)):
        steps = [("neutral", 0.0), (name, STRENGTHS[0]), (name, STRENGTHS[1])]
        for weaker, stronger in pairwise(steps):
            assert higher * (pitch[stronger] - pitch[weaker]) > 0.01
            assert louder * (peak[stronger] / peak[weaker] - 1) > 0.02
            assert higher * (length[weaker] - length[stronger]) > 0.01
