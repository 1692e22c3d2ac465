"""Rotary angles and their application."""

import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from tiny import normal

from uniavgen.models.rotary import Rotary, apply_rotary, rotary_1d, rotary_3d, rotary_at_times

CPU = torch.device("cpu")


def test_video_angles_are_wans() -> None:
    cos, sin = WanRotaryPosEmbed(14, (1, 2, 2), 64)(torch.zeros(1, 1, 5, 4, 6))
    ours = rotary_3d(5, 2, 3, 14, CPU)
    assert torch.equal(ours.cos, cos[0, :, 0, 0::2])
    assert torch.equal(ours.sin, sin[0, :, 0, 1::2])


def test_rotary_of_complex_and_compiled_forms_agree() -> None:
    x, rotary = normal(2, 11, 3, 14), rotary_1d(11, 14, CPU)
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = rotary.cos[:, None], rotary.sin[:, None]
    expected = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)
    assert torch.allclose(apply_rotary(x, rotary), expected, atol=1e-6)


def test_symbols_turn_like_the_audio_tokens_that_say_them() -> None:
    line, wide = rotary_1d(22, 14, CPU), rotary_at_times(torch.tensor([[0.0, 7.0, 14.0, 21.0]]), 14)
    assert torch.allclose(wide.cos[0], line.cos[::7], atol=1e-5)
    assert torch.allclose(wide.sin[0], line.sin[::7], atol=1e-5)


def test_rotary_attention_depends_on_distance_only() -> None:
    q, k, rotary = normal(1, 1, 14, seed=1), normal(1, 1, 14, seed=2), rotary_1d(40, 14, CPU)

    def score(i: int, j: int) -> float:
        a, b = (apply_rotary(x, Rotary(rotary.cos[[p]], rotary.sin[[p]])) for x, p in ((q, i), (k, j)))
        return float((a * b).sum())

    assert abs(score(3, 10) - score(25, 32)) < 1e-5
    assert abs(score(3, 10) - score(3, 11)) > 1e-3


def test_rotary_tables_cached_in_inference_serve_training() -> None:
    with torch.inference_mode():
        rotary = rotary_1d(12, 14, CPU)
    x = normal(12, 1, 14).requires_grad_()
    apply_rotary(x, rotary).sum().backward()
    assert x.grad is not None
