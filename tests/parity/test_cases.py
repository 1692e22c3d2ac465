"""Single forward passes equal the authors' model class, in float32."""

import pytest
import torch
from golden import TOLERANCE, golden_set, or_skip, relative_error, set_names

CASES = [pytest.param(name, case, id=f"{name}-{case}") for name in set_names() for case in golden_set(name).cases]


@pytest.mark.parametrize(("name", "case"), or_skip(CASES, "sets of the joint model", 2))
def test_forward_equals_the_release(name: str, case: str) -> None:
    numbers = golden_set(name)
    inputs, expected = numbers.case_inputs(case), numbers.output(case)
    with torch.no_grad():
        prediction = numbers.model(
            inputs.video, inputs.audio, inputs.text, inputs.gate, inputs.skip_layers, return_face_masks=True
        )
    assert relative_error(prediction.velocity.video, expected["video"]) < TOLERANCE
    assert relative_error(prediction.velocity.audio, expected["audio"]) < TOLERANCE
    if "face_mask" in expected:
        masks = prediction.face_masks
        # A skipped block with an interaction makes no mask; the authors' class then shows an older one.
        layers = numbers.settings.interaction.layer_list(numbers.settings.num_layers)
        ran = [k for k, layer in enumerate(layers) if layer not in inputs.skip_layers]
        assert masks.shape[1] == len(ran)
        assert relative_error(masks, expected["face_mask"][:, ran]) < TOLERANCE


@pytest.mark.parametrize("name", or_skip(set_names(), "sets of the joint model"))
def test_golden_cases_share_their_weights(name: str) -> None:
    numbers = golden_set(name)
    assert {key.split(".")[1] for key in numbers.io if key.startswith("cases.")} == set(numbers.cases)
