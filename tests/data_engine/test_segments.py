"""Segments: whose speech it is, where it is cut, and what belongs to nobody."""

from itertools import pairwise

import numpy as np
import pytest
from tests.data_engine.drawn_films import film, output_of, scene
from tests.media.builders import RATE_HZ
from tests.perception.cartoon import openings

from uniavgen.data_engine.cutting import split_at_pauses
from uniavgen.data_engine.face_boxes import FaceSample, TrackBuilder, overlap
from uniavgen.data_engine.segment import segments_of
from uniavgen.data_engine.stage import StageOutput
from uniavgen.data_engine.stages.segments import SegmentsStage

LEFT, RIGHT = (0.1, 0.2, 0.3, 0.6), (0.6, 0.2, 0.8, 0.6)


def face(box, opening: float = 0.1, is_confirmed: bool = True) -> FaceSample:
    return FaceSample(box=box, is_confirmed=is_confirmed, mouth_opening=opening)


def test_tracks_follow_faces_that_move_and_keep_them_apart():
    builder = TrackBuilder(0.3, 0.6)
    for k in range(10):
        moved = [tuple(np.add(LEFT, (0.02 * k, 0, 0.02 * k, 0))), tuple(np.subtract(RIGHT, (0.01 * k, 0, 0.01 * k, 0)))]
        builder.add(k / 8, 0, [face(box) for box in moved[:: 1 if k % 2 else -1]])
    boxes = builder.boxes()
    assert len(boxes.shots) == 2
    for track in range(2):
        x = boxes.of_track(track).box[:, 0]
        assert len(set(np.sign(np.diff(x)))) == 1


@pytest.mark.parametrize(("gap_s", "shot", "tracks"), [(0.5, 0, 1), (0.7, 0, 2), (0.125, 1, 2)])
def test_track_ends_after_a_gap_and_with_its_shot(gap_s, shot, tracks):
    builder = TrackBuilder(0.3, 0.6)
    builder.add(0.0, 0, [face(LEFT)])
    builder.add(gap_s, shot, [face(LEFT)])
    assert len(builder.boxes().shots) == tracks


def test_box_overlap_is_intersection_over_union():
    assert overlap((0.0, 0.0, 0.2, 0.2), (0.1, 0.0, 0.3, 0.2)) == pytest.approx(1 / 3)
    assert overlap(LEFT, RIGHT) == 0


def test_box_between_two_moments_is_interpolated():
    builder = TrackBuilder(0.1, 2.0)
    builder.add(0.0, 0, [face((0.0, 0.0, 0.4, 0.4))])
    builder.add(1.0, 0, [face((0.1, 0.2, 0.5, 0.6))])
    np.testing.assert_allclose(builder.boxes().box_at(0, 0.5), [0.05, 0.1, 0.45, 0.5])


@pytest.mark.parametrize("seed", range(20))
def test_parts_of_a_stretch_cut_no_word_and_are_short_enough(seed):
    rng = np.random.default_rng(seed)
    edges = np.cumsum(rng.choice([0.0, 0.05, 0.3, 0.8], 400) + rng.uniform(0.01, 0.4, 400))
    words = list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
    start_s, end_s = float(edges[3]), float(edges[-4])
    parts = split_at_pauses(start_s, end_s, words, 12.0)
    assert parts[0][0] == start_s
    assert parts[-1][1] == end_s
    assert all(a[1] == b[0] for a, b in pairwise(parts))
    for a, b in parts:
        assert b - a <= 12.0 + 1e-9
        assert not any(word[0] + 1e-9 < cut < word[1] - 1e-9 for word in words for cut in (a, b))


def test_stretch_is_cut_in_its_longest_pause_and_one_endless_word_stays_whole():
    words = [(0.0, 6.0), (6.1, 9.0), (10.0, 14.0), (14.2, 19.0)]
    assert split_at_pauses(0.0, 19.0, words, 15.0) == [(0.0, 9.5), (9.5, 19.0)]
    assert split_at_pauses(0.0, 30.0, [(0.0, 30.0)], 20.0) == [(0.0, 30.0)]
    assert split_at_pauses(0.0, 30.0, [], 20.0) == [(0.0, 15.0), (15.0, 30.0)]


SECONDS = 8.0
SPEECH = [[0.5, 3.0], [3.3, 3.9], [4.2, 7.5]]


def segments_with(
    tmp_path, builder: TrackBuilder, seed: int = 0, shots=((0.0, SECONDS),), changes=(), speech=SPEECH
) -> StageOutput:
    """Runs the stage on a sound that is as loud as the mouth of `seed` is open."""
    boxes = builder.boxes()
    tracks = []
    for track, shot in enumerate(boxes.shots):
        rows = boxes.of_track(track)
        share = float(rows.is_confirmed.mean())
        times = {"start_s": float(rows.time_s[0]), "end_s": float(rows.time_s[-1])}
        tracks.append({"shot": int(shot), "confirmed_share": share, **times})
    times = np.unique(boxes.time_s)
    counts = np.array([boxes.is_confirmed[boxes.time_s == time_s].sum() for time_s in times])
    inputs = {
        "shots": StageOutput(values={"shots": [list(shot) for shot in shots]}),
        "faces": StageOutput(
            values={"tracks": tracks}, arrays={**boxes.arrays(), "sample_time_s": times, "num_faces": counts}
        ),
        "voice_activity": StageOutput(values={"speech": speech}),
        "speaker_changes": StageOutput(values={"changes": [{"time_s": time_s} for time_s in changes]}),
        "transcript": StageOutput(values={"words": []}),
    }
    loud = np.interp(np.arange(SECONDS * RATE_HZ) / RATE_HZ, np.arange(800) / 100, openings(SECONDS, 100, seed))
    sound = (0.4 * loud * np.sin(2 * np.pi * 200 * np.arange(len(loud)) / RATE_HZ)).astype(np.float32)
    frames = np.repeat(scene(0)[None], round(SECONDS * 16), axis=0)
    return output_of(SegmentsStage, film(tmp_path / "film.mp4", frames, sound), inputs)


def mouths(*seeds: int | None, rate: int = 8) -> TrackBuilder:
    """Faces side by side whose mouths follow `openings` of their seeds; None keeps still."""
    curves = [np.full(round(SECONDS * rate), 0.2) if seed is None else openings(SECONDS, rate, seed) for seed in seeds]
    builder = TrackBuilder(0.3, 0.6)
    noise = np.random.default_rng(0)
    for k in range(round(SECONDS * rate)):
        opened = [0.1 * curve[k] + noise.normal(scale=0.002) for curve in curves]
        builder.add((k + 0.5) / rate, 0, [face(box, value) for box, value in zip((LEFT, RIGHT), opened, strict=False)])
    return builder


def test_speech_of_one_face_is_one_segment_with_silence_around(tmp_path):
    (segment,) = segments_of(segments_with(tmp_path, mouths(0)))
    assert (segment.start_s, segment.end_s) == (0, SECONDS)
    assert (segment.num_faces, segment.face_share) == (1, 1.0)
    assert segment.speech_share == pytest.approx(6.4 / SECONDS)
    assert segment.mouth_movement > 0.02
    assert segment.mouth_loudness > 0.7


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("other", [None, 9])
def test_the_face_whose_mouth_follows_the_sound_speaks(tmp_path, seed, other):
    for order in ((seed, other), (other, seed)):
        found = segments_of(segments_with(tmp_path, mouths(*order), seed=seed))
        assert found
        assert {segment.track for segment in found} == {order.index(seed)}
        assert found[0].num_faces == 2


def test_still_mouth_is_told_by_its_scores(tmp_path):
    (segment,) = segments_of(segments_with(tmp_path, mouths(None)))
    assert segment.mouth_movement < 0.005


@pytest.mark.parametrize(("faces", "reason"), [((None, None), "several faces"), ((), "no face")])
def test_speech_that_belongs_to_nobody_has_a_reason(tmp_path, faces, reason):
    found = segments_with(tmp_path, mouths(*faces)).values
    assert found["segments"] == []
    assert len(found["unused"]) == len(SPEECH)
    assert all(reason in row["reason"] for row in found["unused"])


@pytest.mark.parametrize(("begin_s", "ends"), [(5.0, (5.0, 5.0)), (5.3, (4.92, 5.38))])
def test_segment_ends_at_a_cut_and_a_little_before_a_dissolve(tmp_path, begin_s, ends):
    builder = TrackBuilder(0.3, 0.6)
    for k in range(64):
        builder.add((k + 0.5) / 8, int(k >= 40), [face(LEFT)])
    before, after = segments_of(segments_with(tmp_path, builder, shots=((0.0, 5.0), (begin_s, SECONDS))))
    assert (before.end_s, after.start_s) == pytest.approx(ends)


def test_shot_is_divided_where_the_speaker_changes_but_not_beside_its_ends(tmp_path):
    divided = segments_of(segments_with(tmp_path, mouths(0), changes=(4.05,)))
    assert [(segment.start_s, segment.end_s) for segment in divided] == [(0, 4.05), (4.05, SECONDS)]
    # Inside a stretch of speech, too.
    divided = segments_of(segments_with(tmp_path, mouths(0), changes=(5.5,)))
    assert [(segment.start_s, segment.end_s) for segment in divided] == [(0, 5.5), (5.5, SECONDS)]
    assert len(segments_of(segments_with(tmp_path, mouths(0), changes=(0.6, 7.4)))) == 1


def test_silence_of_a_shot_has_a_reason(tmp_path):
    found = segments_with(tmp_path, mouths(0), speech=[[0.5, 3.0]]).values
    (silence,) = found["unused"]
    assert silence == {"start_s": 3.0, "end_s": SECONDS, "reason": "nobody speaks"}
    assert segments_of(StageOutput(values=found))[0].end_s == 4.0
