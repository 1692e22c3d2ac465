"""The speed of a run: sums over steps, and a log that a resumed run continues."""

import json
import time

import pytest
import torch

from uniavgen.training.loop import StepRecord
from uniavgen.training.objective import DataReport
from uniavgen.training.step_log import StepLog
from uniavgen.training.throughput import SpeedMeter, matmul_peak


def step(clips: int, tokens: int, wait_s: float = 0.0) -> StepRecord:
    zero = torch.zeros(())
    return StepRecord(
        step=1,
        num_steps=1,
        task="",
        losses={"total": zero},
        grad_norm=zero,
        num_skipped=zero,
        num_skipped_in_a_row=zero,
        lr=1e-3,
        data=DataReport(num_clips=clips, num_tokens=tokens, wait_s=wait_s),
        seconds=0.0,
    )


def test_speed_is_the_work_of_all_steps_since_the_last_look_over_its_time():
    meter = SpeedMeter(torch.device("cpu"), peak_flops_per_s=1e9, count=lambda record: 1e6 * record.data.num_clips)
    meter.add(step(8, 800))
    meter.add(step(4, 100, wait_s=0.05))
    time.sleep(0.1)
    speed = meter.read()
    assert speed.tokens_per_s / speed.clips_per_s == pytest.approx(75)
    assert 0 < speed.clips_per_s <= 120
    assert speed.share_of_peak == pytest.approx(speed.clips_per_s * 1e6 / 1e9)
    assert speed.wait_share == pytest.approx(0.05 * speed.clips_per_s / 12)
    assert meter.read().clips_per_s == 0


def test_speed_without_counted_operations_has_no_share_of_peak():
    meter = SpeedMeter(torch.device("cpu"))
    meter.add(step(1, 1))
    assert "speed/share_of_peak" not in meter.read().scalars()


def test_matmul_peak_is_of_the_order_of_a_processor():
    assert 1e8 < matmul_peak(torch.device("cpu"), torch.float32) < 1e14


def test_log_of_a_resumed_run_lacks_the_steps_that_are_done_again(tmp_path):
    path = tmp_path / "log.jsonl"
    log = StepLog(path, 0)
    for number in range(1, 6):
        log.add(number, {"loss": number / 3})
    with path.open("a") as file:
        file.write('{"step": 6, "lo')
    StepLog(path, 3).add(4, {"loss": 9.0})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 0.333333), (2, 0.666667), (3, 1.0), (4, 9.0)]
