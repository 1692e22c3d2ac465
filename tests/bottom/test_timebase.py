"""Time: what belongs together, against loops written from the text of the paper and its supplement."""

import math
from fractions import Fraction

import pytest

from uniavgen.errors import ConfigError
from uniavgen.timebase import InterpolationRamp, Source, Timebase, audio_windows, interpolation_weights

CLIP = Timebase().clip(81)
LENGTHS = [5, 9, 41, 81, 161]


def test_timing_of_the_papers_clip():
    assert (CLIP.num_latent_frames, CLIP.num_audio_tokens, CLIP.num_samples) == (21, 506, 121_440)
    assert CLIP.duration_s == Fraction(81, 16)


@pytest.mark.parametrize("num_frames", LENGTHS)
def test_latent_frames_share_out_the_pixel_frames(num_frames):
    clip = Timebase().clip(num_frames)
    spans = [clip.frame_span(latent) for latent in range(clip.num_latent_frames)]
    assert spans[0] == (0, 1)
    assert [frame for start, stop in spans for frame in range(start, stop)] == list(range(num_frames))
    assert {stop - start for start, stop in spans[1:]} == {4}


@pytest.mark.parametrize("num_frames", [0, -3, 2, 80, 83])
def test_lengths_of_clips_are_refused_with_the_nearest_ones(num_frames):
    with pytest.raises(ConfigError, match=r"1 \+ 4n frames"):
        Timebase().clip(num_frames)


def test_continuation_of_the_authors_is_given_11_latents_and_two_and_a_half_seconds():
    assert CLIP.base.latent_frames(41) == 11
    assert CLIP.tokens_before(11) == 256
    assert CLIP.tokens_before(21) == CLIP.num_audio_tokens


def test_a2v_windows_equal_the_papers_examples():
    """51 tokens: two segments of about 25; latents 0, 1, 2 and 20 as the release computes them."""
    windows = audio_windows(CLIP.num_latent_frames, CLIP.num_audio_tokens)
    assert {len(window) for window in windows} == {51}
    for latent, first in {0: -37, 1: -6, 2: 19, 20: 469}.items():
        assert windows[latent] == [min(max(token, 0), 505) for token in range(first, first + 51)]


@pytest.mark.parametrize("num_frames", LENGTHS)
@pytest.mark.parametrize("source", Source)
def test_a2v_windows_hold_the_latents_own_sound_and_two_frames_on_either_side(num_frames, source):
    clip = Timebase().clip(num_frames)
    rate = clip.num_audio_tokens / clip.num_frames
    for latent, window in enumerate(audio_windows(clip.num_latent_frames, clip.num_audio_tokens, source=source)):
        start, stop = clip.frame_span(latent)
        if source is Source.RELEASE and latent == 0:
            stop = Fraction(1, math.ceil(rate))  # the release ends it one token, not one frame, after its start
        expected = range(math.floor((start - 2) * rate + 1), math.floor((stop + 2) * rate))
        assert {*expected} & {*range(clip.num_audio_tokens)} <= {*window}
        assert window == sorted(window)
        assert {*window} <= {*range(clip.num_audio_tokens)}


def test_wider_side_widens_every_window():
    assert len(audio_windows(21, 506, side_frames=0)[5]) < 51 < len(audio_windows(21, 506, side_frames=4)[5])


def _weights_by_repetition(num_tokens: int, num_latents: int) -> list[dict[int, float]]:
    """Supplement 6.2 as a loop: latents repeated to pixel rate, then linear interpolation at each token's place."""
    repeated = [0] + [latent for latent in range(1, num_latents) for _ in range(4)]
    rows = []
    for token in range(num_tokens):
        place = Fraction(token * len(repeated), num_tokens)
        lower = math.floor(place)
        upper = min(lower + 1, len(repeated) - 1)
        row: dict[int, float] = {}
        for index, weight in ((lower, 1 - (place - lower)), (upper, place - lower)):
            row[repeated[index]] = row.get(repeated[index], 0.0) + float(weight)
        rows.append({latent: weight for latent, weight in row.items() if weight > 0})
    return rows


@pytest.mark.parametrize("num_frames", LENGTHS)
def test_v2a_weights_are_interpolation_over_repeated_latents(num_frames):
    clip = Timebase().clip(num_frames)
    expected = _weights_by_repetition(clip.num_audio_tokens, clip.num_latent_frames)
    weights = interpolation_weights(clip.num_audio_tokens, clip.num_latent_frames, source=Source.PAPER)
    for (latent, weight, next_weight), row in zip(weights, expected, strict=True):
        weights_by_frame = {frame: share for frame, share in ((latent, weight), (latent + 1, next_weight)) if share > 0}
        assert weights_by_frame == pytest.approx(row)


@pytest.mark.parametrize("ramp", InterpolationRamp)
def test_v2a_weights_sum_to_one_and_move_forward(ramp):
    rows = interpolation_weights(506, 21, ramp=ramp, source=Source.PAPER)
    assert all(weight + next_weight == pytest.approx(1) for _, weight, next_weight in rows)
    centres = [latent + next_weight for latent, _, next_weight in rows]
    assert centres == sorted(centres)
    assert rows[-1] == (20, 1.0, 0.0)


def test_v2a_weights_of_the_release_double_tokens_past_the_last_pixel_frame():
    paper, release = (interpolation_weights(506, 21, source=source) for source in (Source.PAPER, Source.RELEASE))
    different = [token for token in range(506) if paper[token] != release[token]]
    assert different == list(range(500, 506))
    assert {release[token] for token in different} == {(20, 2.0, 0.0)}


def test_full_ramp_is_equation_4():
    k = Fraction(506, 21)
    for token, (latent, weight, next_weight) in enumerate(interpolation_weights(506, 21, ramp=InterpolationRamp.FULL)):
        i = token // k
        alpha = float((token - i * k) / k)
        assert latent == i
        assert (weight, next_weight) == pytest.approx((1 - alpha, alpha) if i < 20 else (1, 0))
