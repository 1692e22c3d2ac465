"""The counted operations: whole, near those worked out by hand, and still those of the code."""

import json

import pytest

import flops
from record import RESULTS
from uniavgen.tasks.table import Task

RESULT = json.loads((RESULTS / "flops.json").read_text())
CLIPS = {(clip["task"], clip["size"], clip["code"]): clip["flops"] for clip in RESULT["clips"]}


def near(counted: float, by_hand: float) -> bool:
    return abs(counted / by_hand - 1) < 0.03


def test_recorded_flops_cover_every_task_size_and_version():
    assert set(CLIPS) == {
        (task.value, size, code) for task in Task for size in flops.SIZES for code in ("ours", "plain")
    }
    assert {clip["steps"] for clip in RESULT["clips"]} == {50}


@pytest.mark.parametrize("size", flops.SIZES)
def test_flop_counts_are_near_those_by_hand(size: str):
    by_hand = flops.ANALYTIC[size]
    assert near(CLIPS["joint", size, "ours"], by_hand["joint"])
    assert near(CLIPS["joint", size, "plain"], by_hand["plain"])
    for task in {"dubbing", "animation"} & set(by_hand):
        assert near(CLIPS[task, size, "ours"], by_hand[task])
    codecs = next(line for line in RESULT["codecs"] if line["size"] == size)
    assert near(codecs["decode"], by_hand["decode"])
    if size == "1280x736":
        assert near(codecs["encode"], 0.27e15)
        whole = {clip["task"]: clip["flops"] for clip in RESULT["clips_all_blocks"] if clip["size"] == size}
        assert near(whole["joint"], 34.8e15)


def test_flop_difference_to_the_count_by_hand_is_what_is_computed_once():
    """By hand a pass embeds the time of every token and projects its texts, as the release does."""
    saved = {line["measure"]: line["saved"] for line in RESULT["saved"]}
    anew = saved["time embedded once per distinct time"] + saved["keys and values of texts kept"]
    assert abs((CLIPS["joint", "1280x736", "ours"] + anew) / 34.2e15 - 1) < 0.002


def test_shortcuts_save_flops():
    assert len(RESULT["saved"]) == 6
    assert all(line["saved"] == line["flops_without"] - line["flops"] > 0 for line in RESULT["saved"])


def test_flop_counts_equal_the_recorded_ones():
    """One forward pass and one whole clip, with what is made once, made always and left out."""
    counted = next(line for line in RESULT["passes"] if line["size"] == "832x480")
    again = flops.forward_count(flops.OURS, "832x480", flops.OPEN)
    assert (again.total, again.largest_bytes) == (counted["joint"], counted["largest_tensor_bytes"])
    assert flops.clip_flops(flops.OURS, Task.DUBBING, "832x480", flops.WITH_SKIP) == CLIPS["dubbing", "832x480", "ours"]
