"""What bfloat16 costs against float32: weights and activations narrow; latents, times and indices in float32.

`python tests/parity/test_precision.py` prints the errors that docs/faithfulness.md gives the ranges of.
"""

import tempfile
from collections.abc import Iterator
from functools import cache

import pytest
import torch
from golden import GoldenSet, golden_set, or_skip, set_names
from test_sampling import CASES, sampled
from torch import Tensor

from uniavgen.models.transformer import UniAVGenTransformer

FORWARD, TRAJECTORY = 0.02, 0.05
"""Bounds of the relative error (root mean square) of a velocity, and of what a guided trajectory ends in. [ours]"""


@cache
def narrow(numbers: GoldenSet) -> UniAVGenTransformer:
    """The set's model as a pipeline loads it for bfloat16: what must be exact stays float32."""
    with tempfile.TemporaryDirectory() as place:
        numbers.model.save_pretrained(place)
        model = UniAVGenTransformer.from_pretrained(place, dtype=torch.bfloat16).eval()
    dtypes = {name.split(".")[-2]: value.dtype for name, value in model.named_parameters() if "time" in name}
    assert set(dtypes.values()) == {torch.float32}
    assert model.blocks[0].video.attn1.to_q.weight.dtype == torch.bfloat16
    return model


def error(ours: Tensor, reference: Tensor) -> float:
    """Root mean square of the difference over that of the reference."""
    return float((ours.float() - reference).pow(2).mean().sqrt() / reference.pow(2).mean().sqrt())


def forward_errors(numbers: GoldenSet, case: str) -> dict[str, float]:
    """Of one pass's velocities, where they are not given."""
    inputs = numbers.case_inputs(case)
    with torch.no_grad():
        prediction = narrow(numbers)(inputs.video, inputs.audio, inputs.text, inputs.gate, inputs.skip_layers)
    expected = numbers.output(case)
    assert prediction.velocity.video.dtype == prediction.velocity.audio.dtype == torch.float32
    return {name: error(getattr(prediction.velocity, name), expected[name]) for name in ("video", "audio")}


def trajectory_errors(numbers: GoldenSet, case: str, preset: str) -> dict[str, float]:
    """Of what a guided sampling ends in."""
    trajectory = sampled(numbers, case, preset, reuse=False, model=narrow(numbers))
    prefix = f"sampling.{case}.{preset}"
    return {name: error(getattr(trajectory, name), numbers.io[f"{prefix}.{name}"][None]) for name in ("video", "audio")}


FORWARDS = [pytest.param(name, case, id=f"{name}-{case}") for name in set_names() for case in golden_set(name).cases]


@pytest.mark.parametrize(("name", "case"), or_skip(FORWARDS, "sets of the joint model", 2))
def test_forward_in_bfloat16_stays_near(name: str, case: str) -> None:
    errors = forward_errors(golden_set(name), case)
    # Not zero either: something was computed in bfloat16.
    assert all(1e-4 < value < FORWARD for value in errors.values()), errors


@pytest.mark.parametrize(("name", "case", "preset"), or_skip(CASES, "sets with sampled trajectories", 3))
def test_trajectory_in_bfloat16_stays_near(name: str, case: str, preset: str) -> None:
    errors = trajectory_errors(golden_set(name), case, preset)
    assert all(value < TRAJECTORY for value in errors.values()), errors


def table() -> Iterator[tuple[str, dict[str, float]]]:
    """Errors in percent, a row a case."""
    for name in set_names():
        numbers = golden_set(name)
        for case in numbers.cases:
            yield f"{name} pass {case}", forward_errors(numbers, case)
        for case, preset in numbers.sampled:
            yield f"{name} trajectory {case} {preset}", trajectory_errors(numbers, case, preset)


if __name__ == "__main__":
    for row, errors in table():
        print(f"{row:60} video {100 * errors['video']:.2f} % audio {100 * errors['audio']:.2f} %")
