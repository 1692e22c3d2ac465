import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from uniavgen.errors import ConfigError, MediaError, UniAVGenError
from uniavgen.inference.inputs import prepare_inputs, resample
from uniavgen.inference.request import Request
from uniavgen.inference.resize import ResizeAndCrop, ResizeShortSide, resize
from uniavgen.media.video import resample_frames
from uniavgen.tasks.table import Task
from uniavgen.timebase import Timebase

BASE, SIZE = Timebase(), ResizeAndCrop(height=32, width=32)
RATE = BASE.sample_rate_hz


def picture(height=40, width=30):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 255 // height, columns * 255 // width, rows * 0], axis=-1).astype(np.uint8)


def video(frames):
    return np.stack([np.full((20, 24, 3), i, np.uint8) for i in range(frames)])


def sound(seconds, rate=RATE):
    return np.sin(np.arange(round(seconds * rate)) * 0.1).astype(np.float32)


def requests():
    return {
        Task.JOINT: Request(task=Task.JOINT, image=picture(), speech="hello"),
        Task.REFERENCE_AUDIO: Request(
            task=Task.REFERENCE_AUDIO, image=picture(), speech="hello", voice=sound(2), voice_text="hi"
        ),
        Task.CONTINUATION: Request(task=Task.CONTINUATION, video=video(41), audio=sound(3), speech="hello"),
        Task.DUBBING: Request(task=Task.DUBBING, video=video(81), speech="hello"),
        Task.ANIMATION: Request(task=Task.ANIMATION, image=picture(), audio=sound(2)),
    }


@pytest.mark.parametrize(
    ("task", "frames", "tokens", "voice_s"),
    [
        (Task.JOINT, 1, 0, None),
        (Task.REFERENCE_AUDIO, 1, 0, 2.3),
        (Task.CONTINUATION, 41, 256, None),
        (Task.DUBBING, 81, 0, None),
        (Task.ANIMATION, 1, 506, None),
    ],
)
def test_inputs_have_the_lengths_of_their_task(task, frames, tokens, voice_s):
    inputs = prepare_inputs(requests()[task], BASE, SIZE)
    assert inputs.timing.num_frames == 81
    assert inputs.frames.shape == (frames, 32, 32, 3)
    assert inputs.given_tokens == tokens
    assert inputs.audio is None or len(inputs.audio) >= tokens * BASE.hop
    assert (inputs.voice is None) == (voice_s is None)
    if voice_s is not None:
        assert len(inputs.voice) == round(voice_s * RATE)
        assert not inputs.voice[-round(0.3 * RATE) :].any()


def test_short_audio_is_padded_with_silence():
    audio = prepare_inputs(requests()[Task.ANIMATION], BASE, SIZE).audio
    assert len(audio) == 506 * 240
    assert np.array_equal(audio[: 2 * RATE], sound(2))
    assert not audio[2 * RATE :].any()


@pytest.mark.parametrize(("given", "used"), [(81, 81), (80, 77), (50, 49), (5, 5)])
def test_dubbed_clip_is_as_long_as_whole_latent_frames_of_its_video(given, used):
    inputs = prepare_inputs(Request(task=Task.DUBBING, video=video(given), speech="hello"), BASE, SIZE)
    assert inputs.timing.num_frames == len(inputs.frames) == used


@pytest.mark.parametrize(
    ("given", "trim", "used"), [(41, False, 41), (43, False, 41), (77, False, 77), (200, True, 41)]
)
def test_continuation_keeps_whole_latent_frames(given, trim, used):
    request = replace(requests()[Task.CONTINUATION], video=video(given), audio=sound(13), trim=trim)
    inputs = prepare_inputs(request, BASE, SIZE)
    assert len(inputs.frames) == used
    assert inputs.given_tokens == used * RATE // 16 // 240


def test_trimming_cuts_what_is_too_long():
    dub = prepare_inputs(Request(task=Task.DUBBING, video=video(100), speech="hello", trim=True), BASE, SIZE)
    assert dub.timing.num_frames == 81
    animate = prepare_inputs(replace(requests()[Task.ANIMATION], audio=sound(9), trim=True), BASE, SIZE)
    assert np.array_equal(animate.audio, sound(9)[: 506 * 240])


def test_inputs_are_resampled_to_the_models_rates():
    assert resample_frames(video(50), Fraction(25), Fraction(16))[:4, 0, 0, 0].tolist() == [0, 2, 3, 5]
    assert len(resample_frames(video(50), Fraction(25), Fraction(16))) == 32
    assert np.array_equal(resample_frames(video(7), Fraction(16), Fraction(16)), video(7))
    seconds = np.arange(48_000) / 48_000
    half = resample(np.sin(2 * np.pi * 440 * seconds).astype(np.float32), 48_000, RATE)
    expected = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert np.abs(half - expected)[200:-200].max() < 2e-3


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(500, 500, (736, 736)), (720, 1280, (736, 1312)), (1280, 720, (1312, 736)), (300, 400, (736, 992))],
)
def test_release_size_has_a_short_side_of_736_and_whole_tokens(height, width, expected):
    assert ResizeShortSide().fit(height, width)[:2] == expected


@pytest.mark.parametrize(("height", "width"), [(32, 32), (90, 60), (60, 90), (17, 33), (500, 499)])
def test_crop_keeps_the_centre_and_the_aspect(height, width):
    frames = picture(height, width)[None]
    out = resize(frames, SIZE)
    assert out.shape == (1, 32, 32, 3)
    side = min(height, width)
    _, _, (left, top, right, bottom) = SIZE.fit(height, width)
    assert (right - left, bottom - top) == pytest.approx((side, side))
    assert (left + right, top + bottom) == pytest.approx((width, height))
    # The middle of a linear gradient stays in the middle.
    middle = out[0, 15:17, 15:17].mean(axis=(0, 1))
    assert middle[:2] == pytest.approx([127, 127], abs=9)


def test_image_of_the_right_size_is_untouched():
    frames = picture(32, 32)[None]
    assert np.array_equal(resize(frames, SIZE), frames)


def test_long_image_needs_a_size():
    long = picture(40, 160)[None]
    with pytest.raises(MediaError, match="at most 3 times the other; crop it, or give the size"):
        resize(long, ResizeShortSide(short_side_px=32))
    assert resize(long, ResizeAndCrop(height=32, width=128)).shape == (1, 32, 128, 3)


GOOD = {"image": picture(), "speech": "hello"}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"image": None}, "needs an image"),
        ({"video": video(5)}, "takes no video"),
        ({"voice": sound(2), "voice_text": "hi"}, "takes no voice"),
        ({"task": Task.REFERENCE_AUDIO}, "needs a voice"),
        ({"task": Task.REFERENCE_AUDIO, "voice": sound(2)}, "no transcript"),
        ({"task": Task.REFERENCE_AUDIO, "voice": sound(0.2), "voice_text": "hi"}, "lasts 0.20 s"),
        ({"task": Task.REFERENCE_AUDIO, "voice": sound(2) * 0, "voice_text": "hi"}, "silent"),
        ({"voice_text": "hi"}, "no voice"),
        ({"task": Task.ANIMATION}, "needs an audio"),
        ({"speech": "  "}, "speech is empty"),
        ({"speech": "a" * 4001}, "4001 characters"),
        ({"caption": "a" * 5000}, "5000 characters"),
        ({"image": picture(8, 30)}, "16 px"),
        ({"image": picture().astype(np.float32)}, "uint8"),
        ({"image": picture()[..., 0]}, "uint8 of height x width x 3, got uint8 of 40x30"),
        ({"num_frames": 80}, "use 77 or 81"),
        ({"num_frames": 1}, "5 to 1025"),
        ({"seed": -1}, "seed"),
        ({"task": Task.ANIMATION, "audio": np.zeros((2, 9), np.float32)}, "mono float32"),
        ({"task": Task.ANIMATION, "audio": np.full(9, np.inf, np.float32)}, "no numbers"),
        ({"task": Task.ANIMATION, "audio": np.zeros(0, np.float32)}, "empty"),
    ],
)
def test_request_with_bad_inputs_is_refused(changes, text):
    with pytest.raises(UniAVGenError, match=text):
        Request(**({"task": Task.JOINT} | GOOD | changes))


@pytest.mark.parametrize(
    ("task", "changes", "text"),
    [
        (Task.DUBBING, {"video": video(82)}, "lasts 5.12 s, at most 5.06 s"),
        (Task.DUBBING, {"video": video(4)}, "needs 0.31 s or more"),
        (Task.CONTINUATION, {"video": video(81)}, "at most 4.81 s can be given"),
        (Task.CONTINUATION, {"audio": sound(1)}, "sound lasts 1.00 s but its video 2.56 s"),
        (Task.ANIMATION, {"audio": sound(6)}, "sound lasts 6.00 s, the clip 5.06 s"),
        (Task.REFERENCE_AUDIO, {"voice": sound(6)}, "voice lasts 6.00 s"),
        (Task.JOINT, {"image": picture(100, 20)}, "is 20x100 px, of which a clip of 32x32 px shows less than 33%"),
    ],
)
def test_inputs_of_impossible_length_or_shape_are_refused(task, changes, text):
    with pytest.raises(MediaError, match=text):
        prepare_inputs(replace(requests()[task], **changes), BASE, SIZE)


def test_voice_may_be_longer_than_the_clip():
    prepared = prepare_inputs(replace(requests()[Task.REFERENCE_AUDIO], num_frames=17), BASE, SIZE)
    assert len(prepared.voice) == round(2.3 * RATE)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"seed": -1}, "seed must be 0 to"),
        ({"seed": 2**63}, "seed must be 0 to"),
        ({"seed": True}, "seed must be 0 to"),
        ({"num_frames": 9999999999997}, "num_frames must be 5 to 1025"),
        ({"size": (0, 32)}, "the size is"),
        ({"size": (32, 10**20)}, "the size is"),
        ({"caption": "a \udcff"}, "not UTF-8 text"),
        ({"image": np.zeros((1, 1, 3), np.uint8)}, "each side needs 16 px"),
        ({"sampling": {"steps": 10**9}}, "steps must be 1 to 1000"),
        ({"sampling": {"shift": 0}}, "shift must be 0.01 to 100"),
        ({"sampling": {"shift": 1e-308}}, "shift must be 0.01 to 100"),
        ({"sampling": {"shift": 1e300}}, "shift must be 0.01 to 100"),
        ({"sampling": {"video_guidance": math.inf}}, "video_guidance"),
        ({"sampling": {"audio_guidance": math.nan}}, "audio_guidance"),
        ({"sampling": {"audio_shift": 0.0}}, "audio_shift must be"),
    ],
)
def test_value_outside_its_declared_bounds_is_refused(pipeline, changes, text):
    with pytest.raises(UniAVGenError, match=text):
        pipeline.prepare(Request(**{"task": Task.JOINT, "image": picture(), "speech": "hi", "num_frames": 9} | changes))


@pytest.mark.parametrize("rate_hz", [0, -1, 999, 999_999_937, 10**12])
def test_sample_rate_of_no_sound_file_is_refused(rate_hz):
    with pytest.raises(ConfigError, match="audio_rate_hz must be a whole number"):
        Request(task=Task.ANIMATION, image=picture(), audio=sound(0.5), audio_rate_hz=rate_hz)


@pytest.mark.parametrize("fps", [Fraction(0), Fraction(-16), Fraction(1, 10**300), Fraction(10**300)])
def test_frame_rate_of_no_video_is_refused(fps):
    with pytest.raises(ConfigError, match="video_fps must be 1 to 1000"):
        Request(task=Task.DUBBING, video=video(9), speech="hi", video_fps=fps)
