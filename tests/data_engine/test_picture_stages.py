"""Stages that look: each planted fault is seen, and material without it is not blamed."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from tests.data_engine.drawn_films import film, one_face, output_of, panned, scene, segments
from tests.media.builders import add_audio, add_video, tone, write_media

from uniavgen.data_engine.duplicates import differing_bits
from uniavgen.data_engine.rights import Rights
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import StageContext, StageOutput
from uniavgen.data_engine.stages.faces import FacesConfig, FacesStage
from uniavgen.data_engine.stages.hashes import HashesStage
from uniavgen.data_engine.stages.motion import MotionStage
from uniavgen.data_engine.stages.picture_quality import PictureQualityStage
from uniavgen.data_engine.stages.probe import ProbeStage
from uniavgen.data_engine.stages.shots import ShotsStage
from uniavgen.data_engine.stages.text_on_screen import TextOnScreenStage
from uniavgen.errors import MediaError
from uniavgen.media.image import read_image
from uniavgen.perception.face_mesh import MESH_NETWORKS
from uniavgen.perception.weights import NETWORKS, ResolvedWeights

ASSETS = Path(os.environ.get("UNIAVGEN_ASSETS", "no-assets"))
PERSON = Path(__file__).parents[2] / "examples" / "person.png"


def shots_of(path: Path, frames: np.ndarray, **video) -> list[list[float]]:
    pytest.importorskip("scenedetect", reason="scenedetect-headless is not installed (extra data)")
    return output_of(ShotsStage, film(path / "film.mp4", frames, **video), {}).values["shots"]


def test_shots_end_at_cuts_and_start_at_the_frame_after(tmp_path):
    frames = np.concatenate([panned(scene(seed), count) for seed, count in ((0, 20), (1, 30), (2, 26))])
    assert shots_of(tmp_path, frames) == [[0.0, 1.25], [1.25, 3.125], [3.125, 4.75]]


def test_shots_follow_the_time_stamps_of_a_variable_rate(tmp_path):
    frames = np.concatenate([panned(scene(seed), 20) for seed in (3, 4)])
    times = [*np.arange(20) / 10, *(2 + np.arange(20) / 25)]
    found = shots_of(tmp_path, frames, frame_times_s=times)
    np.testing.assert_allclose(np.ravel(found)[:3], [0, 2, 2], atol=1e-3)


@pytest.mark.parametrize("seconds", [0.25, 0.5, 1.0])
def test_dissolve_lies_in_no_shot(tmp_path, seconds):
    before, after = (np.repeat(scene(seed)[None], 48, axis=0) for seed in (5, 6))
    # Somebody moves.
    before[:, 20:40, 40:60] = panned(scene(7)[:20, :20], 48)
    after[:, 30:50, 70:90] = panned(scene(8)[:20, :20], 48)
    count = round(seconds * 16)
    share = np.linspace(0, 1, count)[:, None, None, None]
    blend = ((1 - share) * before[-count:] + share * after[:count]).astype(np.uint8)
    frames = np.concatenate([before[:-count], blend, after[count:]])
    found = shots_of(tmp_path, frames)
    assert len(found) == 2
    assert found[0][1] == pytest.approx(3 - seconds, abs=0.2)
    assert found[1][0] == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize(
    "frames",
    [
        panned(scene(7), 64, step_px=2),
        np.repeat(scene(8)[None], 64, axis=0),
        np.stack([(scene(9) * (0.7 + 0.3 * np.sin(k / 10))).astype(np.uint8) for k in range(64)]),
    ],
    ids=["pan", "still", "light"],
)
def test_one_shot_stays_whole(tmp_path, frames):
    assert shots_of(tmp_path, frames) == [[0.0, 4.0]]


def test_probe_finds_black_bars_and_the_sound_that_is_used(tmp_path):
    picture = scene(10, 96, 128)
    picture[:12] = picture[-12:] = 0
    probed = output_of(ProbeStage, film(tmp_path / "film.mp4", panned(picture, 24)), {}).values
    assert probed["crop"] == [0.0, 0.125, 1.0, 0.875]
    assert probed["video"]["width_px"] == 128
    assert not probed["video"]["variable_rate"]
    assert (probed["audio_track"], len(probed["audio_tracks"])) == (0, 1)
    assert probed["duration_s"] == pytest.approx(1.5)


def test_probe_crops_no_dark_scene_and_no_fade(tmp_path):
    dark = np.maximum(panned(scene(11), 24) // 6, 16)
    dark[:8] = 0
    assert output_of(ProbeStage, film(tmp_path / "film.mp4", dark), {}).values["crop"] == [0.0, 0.0, 1.0, 1.0]


def test_probe_tells_variable_rate_late_sound_and_no_sound(tmp_path):
    frames = panned(scene(12), 24)
    times = [*np.arange(12) / 10, *(1.2 + np.arange(12) / 25)]
    late = film(tmp_path / "late.mkv", frames, frame_times_s=times)
    assert output_of(ProbeStage, late, {}).values["video"]["variable_rate"]
    write_media(
        tmp_path / "sound.mkv",
        lambda out: add_video(out, frames),
        lambda out: add_audio(out, tone(1.0), times=lambda time_s: time_s + 0.25),
    )
    source = SourceVideo(path=tmp_path / "sound.mkv", key="0", rights=Rights())
    assert output_of(ProbeStage, source, {}).values["audio_tracks"][0]["start_s"] == pytest.approx(0.25, abs=0.002)
    write_media(tmp_path / "silent.mp4", lambda out: add_video(out, frames))
    source = SourceVideo(path=tmp_path / "silent.mp4", key="0", rights=Rights())
    assert output_of(ProbeStage, source, {}).values["audio_track"] is None


def test_probe_of_a_file_without_picture_says_so(tmp_path):
    write_media(tmp_path / "sound.mp4", lambda out: add_audio(out, tone(1.0), codec="aac"))
    with pytest.raises(MediaError, match="has no picture track"):
        output_of(ProbeStage, SourceVideo(path=tmp_path / "sound.mp4", key="0", rights=Rights()), {})


def quality(path: Path, frames: np.ndarray) -> dict[str, float]:
    pytest.importorskip("cv2", reason="opencv-python-headless is not installed (extra data)")
    inputs = {"segments": segments((0.0, 2.0)), "faces": one_face(2.0)}
    (row,) = output_of(PictureQualityStage, film(path / "film.mp4", frames), inputs).values["segments"]
    return row


def test_picture_quality_tells_upscaled_blurred_and_still_pictures(tmp_path):
    sharp = Image.fromarray(scene(13, 360, 480))
    small = sharp.resize((160, 120), Image.Resampling.BOX).resize(sharp.size, Image.Resampling.BICUBIC)
    blurred = sharp.filter(ImageFilter.GaussianBlur(4))
    rows = {
        name: quality(tmp_path, panned(np.asarray(picture), 32, step_px=2))
        for name, picture in (("sharp", sharp), ("small", small), ("blurred", blurred))
    }
    still = quality(tmp_path, np.repeat(np.asarray(sharp)[None], 32, axis=0))
    assert rows["sharp"]["face_px"] == pytest.approx(180)
    assert rows["sharp"]["detail_px"] > 300
    assert rows["small"]["detail_px"] < 160
    assert rows["small"]["upscaling"] > 2
    assert rows["blurred"]["sharpness"] < 0.2 * rows["sharp"]["sharpness"]
    assert still["change"] < 0.5 < 5 < rows["sharp"]["change"]


def test_text_on_screen_reads_subtitles_and_invents_none(tmp_path):
    pytest.importorskip("rapidocr", reason="rapidocr is not installed (extra data)")
    clean = scene(14, 240, 320)
    image = Image.fromarray(clean)
    draw = ImageDraw.Draw(image)
    draw.text(
        (60, 205),
        "Where were you yesterday",
        fill="white",
        font=ImageFont.load_default(16),
        stroke_width=1,
        stroke_fill="black",
    )
    frames = np.concatenate([np.repeat(picture[None], 16, axis=0) for picture in (clean, np.asarray(image))])
    inputs = {"segments": segments((0.0, 1.0), (1.0, 2.0))}
    first, second = output_of(TextOnScreenStage, film(tmp_path / "film.mp4", frames), inputs).values["segments"]
    assert first["texts"] == []
    assert "yesterday" in " ".join(text["text"] for text in second["texts"])
    left, top, right, bottom = second["texts"][0]["box"]
    assert 0.1 < left < right < 1
    assert 0.8 < top < bottom < 1
    assert second["area"] > first["area"] == 0


def test_motion_tells_a_moving_camera_from_a_still_one(tmp_path):
    pytest.importorskip("cv2", reason="opencv-python-headless is not installed (extra data)")
    picture = scene(15, 144, 192)
    frames = np.concatenate([np.repeat(picture[None], 32, axis=0), panned(picture, 32, step_px=3)])
    inputs = {"segments": segments((0.0, 1.9), (2.1, 4.0)), "faces": one_face(4.0)}
    still, moving = output_of(MotionStage, film(tmp_path / "film.mp4", frames), inputs).values["segments"]
    assert still["camera"] < 0.01
    # Three of 144 pixels a frame, 16 frames a second.
    assert moving["camera"] == pytest.approx(3 * 16 / 144, rel=0.2)
    assert still["face"] == moving["face"] == 0


def test_hashes_find_a_copy_of_another_size_with_bars(tmp_path):
    pytest.importorskip("imagehash", reason="imagehash is not installed (extra data)")
    picture = scene(16, 144, 192)
    barred = np.zeros((200, 192, 3), np.uint8)
    barred[28:-28] = picture
    rows = []
    for name, image, crop in (
        ("a", picture, [0, 0, 1, 1]),
        ("b", np.asarray(Image.fromarray(barred).resize((96, 100))), [0, 0.14, 1, 0.86]),
        ("c", scene(17, 144, 192), [0, 0, 1, 1]),
    ):
        source = film(tmp_path / f"{name}.mp4", np.repeat(image[None], 16, axis=0))
        inputs = {"segments": segments((0.0, 1.0)), "probe": StageOutput(values={"crop": crop})}
        rows.append(output_of(HashesStage, source, inputs).values["segments"][0])
    assert [len(row) for row in rows] == [3, 3, 3]
    assert max(differing_bits(*pair) for pair in zip(rows[0], rows[1], strict=True)) <= 6
    assert min(differing_bits(*pair) for pair in zip(rows[0], rows[2], strict=True)) >= 16


@pytest.fixture
def mesh_context() -> StageContext:
    paths = {name: ASSETS / NETWORKS[name].asset for name in MESH_NETWORKS}
    missing = [name for name, path in paths.items() if not path.is_file()]
    if missing:
        pytest.skip(f"no {missing[0]} in $UNIAVGEN_ASSETS")
    return StageContext(weights={name: ResolvedWeights(label=name, path=path) for name, path in paths.items()})


def test_faces_are_followed_through_a_shot_and_not_over_a_cut(tmp_path, mesh_context):
    person = np.asarray(Image.fromarray(read_image(PERSON)).resize((192, 192)))
    both = np.concatenate([person, person[:, ::-1]], axis=1)
    nobody = scene(18, 192, 384)
    alone = np.concatenate([person, nobody[:, :192]], axis=1)
    frames = np.concatenate(
        [panned(both, 16, 2), np.repeat(alone[None], 16, axis=0), np.repeat(nobody[None], 16, axis=0)]
    )
    stage = FacesStage(FacesConfig(), mesh_context)
    stage.setup()
    shots = StageOutput(values={"shots": [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]})
    found = stage(film(tmp_path / "film.mp4", frames), {"shots": shots})
    confirmed = [track["shot"] for track in found.values["tracks"] if track["confirmed_share"] > 0.8]
    assert confirmed == [0, 0, 1]
    times, counts = found.arrays["sample_time_s"], found.arrays["num_faces"]
    for start_s, expected in ((0, 2), (1, 1), (2, 0)):
        assert set(counts[(times >= start_s) & (times < start_s + 1)]) == {expected}
