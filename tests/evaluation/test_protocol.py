"""The protocol: what is kept, resumed, refused and shuffled."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from uniavgen.errors import DataError
from uniavgen.evaluation.metric import MadeClip, TruthClip
from uniavgen.evaluation.protocol import ClipStore, Step, run
from uniavgen.evaluation.sheet import Row, contact_sheet

from .builders import TIMING, made_like, truth_clip

CLIPS = [truth_clip(name, seed) for seed, name in enumerate("abc")]


@dataclass
class Echo:
    """Returns the driver's clip, and remembers what it was asked for."""

    name: str = "echo"
    description: str = "the driver itself"
    shuffled: bool = False
    kept: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)

    def make(self, clip: TruthClip, driver: TruthClip) -> MadeClip:
        self.asked.append((clip.key, driver.key))
        return MadeClip(frames=driver.frames, waveform=driver.waveform, face_mask=np.ones((3, 2, 2), np.float32))


class Same:
    name = "same"
    description = "1 where the sound is the clip's own"

    def score(self, made: MadeClip, truth: TruthClip) -> float:
        return float(np.array_equal(made.waveform, truth.waveform))


def test_the_matched_system_gets_its_own_sound_and_the_shuffled_one_never(tmp_path):
    matched, shuffled = Echo(), Echo(name="shuffled", shuffled=True)
    scores = run([matched, shuffled], [Same()], CLIPS, ClipStore(tmp_path))
    assert [list(system.values("same").values()) for system in scores] == [[1, 1, 1], [0, 0, 0]]
    assert sorted(driver for _, driver in shuffled.asked) == ["a", "b", "c"]


def test_a_second_run_makes_nothing_and_says_the_same(tmp_path):
    first, second = Echo(), Echo()
    before = run([first], [Same()], CLIPS, ClipStore(tmp_path))
    assert run([second], [Same()], CLIPS, ClipStore(tmp_path)) == before
    assert second.asked == []


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path):
    run([Echo()], [Same()], CLIPS[:2], ClipStore(tmp_path))
    damaged = ClipStore(tmp_path).path("echo", "b")
    damaged.write_bytes(damaged.read_bytes()[:100])
    later = Echo()
    steps: list[Step] = []
    run([later], [Same()], CLIPS, ClipStore(tmp_path), steps.append)
    assert [key for key, _ in later.asked] == ["b", "c"]
    assert (steps[-1].done, steps[-1].total) == (3, 3)


def test_kept_clips_come_back_exactly(tmp_path):
    store, made = ClipStore(tmp_path), Echo().make(CLIPS[0], CLIPS[1])
    store.save("echo", "a", made)
    again = store.load("echo", "a")
    assert again is not None
    np.testing.assert_array_equal(again.frames, made.frames)
    np.testing.assert_array_equal(again.waveform, made.waveform)
    assert again.face_mask is not None
    store.save("plain", "a", made_like(CLIPS[0]))
    plain = store.load("plain", "a")
    assert plain is not None
    assert plain.face_mask is None


def test_a_folder_of_other_settings_is_refused(tmp_path):
    ClipStore(tmp_path).claim({"steps": 4, "seed": 0})
    ClipStore(tmp_path).claim({"seed": 0, "steps": 4})
    with pytest.raises(DataError, match="another steps"):
        ClipStore(tmp_path).claim({"steps": 5, "seed": 0})


def test_one_clip_cannot_be_shuffled(tmp_path):
    with pytest.raises(DataError, match="at least 2 clips, got 1"):
        run([Echo()], [], CLIPS[:1], ClipStore(tmp_path))


def test_the_sheet_has_a_row_a_clip():
    row = Row(truth=CLIPS[0], made=made_like(CLIPS[1]), opening=CLIPS[1].mouth_opening, caption="a")
    one, two = contact_sheet([row]), contact_sheet([row, row])
    assert two.size == (one.width, 2 * one.height)
    assert TIMING.num_frames == 9
