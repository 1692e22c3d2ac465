"""The counted bytes: right for single operations, kept within what the model promises, and still those of the code."""

import json

import pytest
import torch

import traffic
from clips import transformer
from record import RESULTS

RESULT = json.loads((RESULTS / "traffic.json").read_text())
BYTES = {(line["size"], line["dtype"]): line["bytes"] for line in RESULT["lines"]}


def counted(operation) -> int:
    with traffic.TrafficMode() as mode:
        operation()
    return mode.bytes.total()


def test_traffic_of_an_operation_is_what_it_reads_and_writes() -> None:
    with torch.device("meta"):
        x, half, row = torch.empty(6, 8), torch.empty(6, 8, dtype=torch.bfloat16), torch.empty(8)
    assert counted(lambda: x + row) == 4 * (48 + 8 + 48)
    assert counted(lambda: half.float()) == 2 * 48 + 4 * 48
    assert counted(lambda: x.t()) == 0
    assert counted(lambda: x @ x.t()) == 0
    assert counted(lambda: torch.nn.functional.rms_norm(x, (8,), row)) == 4 * (48 + 8 + 48)


def test_traffic_of_the_base_model_stays_below_its_limit() -> None:
    assert BYTES["1280x736", "bfloat16"] <= 465e9


def test_compiled_blocks_move_fewer_bytes() -> None:
    assert RESULT["compiled"]["compiled_bytes"] < RESULT["compiled"]["eager_bytes"]


def test_traffic_is_that_of_the_code() -> None:
    model = transformer("base", traffic.META, torch.bfloat16)
    counted_again = traffic.pass_traffic(model, "320x320").total()
    assert counted_again == pytest.approx(BYTES["320x320", "bfloat16"], rel=1e-4)
