"""The transformer's short cuts give what the straightforward equations give (`plain.py`)."""

from dataclasses import replace

import pytest
import tiny
import torch
from plain import PlainTransformer

from uniavgen.batch import CLOSED, OPEN, Gate, TokenTimesteps
from uniavgen.models.interaction.config import InteractionConfig, InterpolationAligner, WindowAligner
from uniavgen.timebase import Source

GATES = {"open": OPEN, "a2v": Gate(v2a=False), "v2a": Gate(a2v=False), "closed": CLOSED}
SHORT_CUTS = ("time_per_token", "v2a_per_token", "closed_gates")


def plain(interaction: InteractionConfig | None = None) -> PlainTransformer:
    model = PlainTransformer.from_settings(tiny.settings(interaction)).eval()
    tiny.randomise(model)
    return model


@pytest.mark.parametrize("gate", GATES.values(), ids=GATES)
@pytest.mark.parametrize("skip", [(), (2,)])
@torch.no_grad()
def test_forward_equals_the_plain_equations(gate: Gate, skip: tuple[int, ...]) -> None:
    video, audio, text = tiny.video(given=2), tiny.audio(given=20, reference=5), tiny.text()
    ours = tiny.model()(video, audio, text, gate, skip)
    expected = plain()(video, audio, text, gate, skip)
    assert torch.allclose(ours.velocity.video, expected.velocity.video, atol=2e-5)
    assert torch.allclose(ours.velocity.audio, expected.velocity.audio, atol=2e-5)
    if gate != CLOSED:
        assert torch.allclose(ours.face_masks, expected.face_masks, atol=1e-5)


@torch.no_grad()
def test_forward_equals_the_plain_equations_of_the_paper() -> None:
    paper = InteractionConfig(a2v=WindowAligner(source=Source.PAPER), v2a=InterpolationAligner(source=Source.PAPER))
    video, audio, text = tiny.video(), tiny.audio(), tiny.text()
    ours, expected = tiny.model(paper)(video, audio, text), plain(paper)(video, audio, text)
    assert torch.allclose(ours.velocity.video, expected.velocity.video, atol=2e-5)
    assert torch.allclose(ours.velocity.audio, expected.velocity.audio, atol=2e-5)


@pytest.mark.parametrize("short_cut", SHORT_CUTS)
@torch.no_grad()
def test_shortcuts_change_nothing_one_by_one(short_cut: str) -> None:
    video, audio, text, gate = tiny.video(), tiny.audio(), tiny.text(), Gate(a2v=False)
    model = plain()
    expected = model(video, audio, text, gate)
    setattr(model, short_cut, False)
    short = model(video, audio, text, gate)
    assert torch.allclose(short.velocity.video, expected.velocity.video, atol=2e-5)
    assert torch.allclose(short.velocity.audio, expected.velocity.audio, atol=2e-5)


@torch.no_grad()
def test_cached_branch_equals_the_plain_equations() -> None:
    model, text, given = tiny.model(), tiny.text(), tiny.video(given=tiny.FRAMES)
    clean = TokenTimesteps(unique=torch.zeros(2, 1), index=torch.zeros(2, 5, dtype=torch.long))
    given, audio, gate = replace(given, timesteps=clean), tiny.audio(), Gate(a2v=False)
    short = model(given, audio, text, gate, branch_cache=model.precompute_branch(given, None, text))
    expected = plain()(given, audio, text, gate)
    assert torch.allclose(short.velocity.audio, expected.velocity.audio, atol=2e-5)
