"""The lip reader reads openings wherever the face is; the guide finds how this face opens and looks at nothing else."""

import pytest
import torch

from uniavgen.data.features import Features
from uniavgen.errors import DataError
from uniavgen.timebase import Timebase
from uniavgen.training.losses import lip_motion_loss
from uniavgen.training.mouth_probe import LinearMouthProbe, mouth_crops

BASE = Timebase()
FRAMES = BASE.clip(33).num_latent_frames
ROWS = COLUMNS = 8
CHANNELS = 3


def face(y: int, x: int) -> torch.Tensor:
    """A mask of 4 x 3 tokens with its upper left corner there, on every frame."""
    mask = torch.zeros(FRAMES, ROWS, COLUMNS)
    mask[:, y : y + 4, x : x + 3] = 1
    return mask.flatten(1)


def talking(i: int, mask: bool = True) -> Features:
    """Noise; the mouth opens in channel 1 and sways in channels 0 and 1; channel 2 is louder noise."""
    generator = torch.Generator().manual_seed(i)
    y, x = (int(torch.randint(0, most, (), generator=generator)) for most in (4, 5))
    level, sway = torch.randn(2, FRAMES, 1, 1, generator=generator)
    latents = torch.randn(CHANNELS, FRAMES, 2 * ROWS, 2 * COLUMNS, generator=generator)
    latents[2] *= 4
    mouth = (slice(None), slice(2 * y + 4, 2 * y + 7), slice(2 * x + 1, 2 * x + 5))
    latents[0][mouth] += sway
    latents[1][mouth] += 3 * level + sway
    # Latent frame k > 0 spans the pixel frames 4 k - 3 to 4 k.
    owner = torch.arange(3, 33 + 3) // 4
    return Features(
        key=str(i),
        text="",
        speaker="",
        words=(),
        mel=torch.zeros(BASE.clip(33).num_audio_tokens, 5),
        latents=latents,
        face_mask=face(y, x) if mask else None,
        mouth_opening=0.05 + 0.02 * level[owner, 0, 0],
    )


@pytest.fixture(scope="module")
def reader() -> LinearMouthProbe:
    return LinearMouthProbe.fit((talking(i) for i in range(120)), BASE)


def test_mouth_probe_predicts_openings_of_unseen_clips(reader):
    predicted, opened = [], []
    for i in range(200, 230):
        clip = talking(i)
        read = reader.read(mouth_crops(clip.latents[None], clip.face_mask[None]))[0, 1:]
        predicted.append(read - read.mean())
        opened.append(clip.mouth_opening[1::4] - clip.mouth_opening[1::4].mean())
    assert torch.corrcoef(torch.stack([torch.cat(predicted), torch.cat(opened)]))[0, 1] > 0.85


def test_mouth_crops_follow_the_face():
    picture = torch.randn(1, CHANNELS, FRAMES, 2 * ROWS, 2 * COLUMNS)
    moved = picture.roll((2, -4), dims=(3, 4))
    original, shifted = mouth_crops(picture, face(2, 3)[None]), mouth_crops(moved, face(3, 1)[None])
    assert original.shape == (1, FRAMES, CHANNELS * 36)
    assert torch.allclose(original, shifted, atol=1e-5)


def motion_loss(reader: LinearMouthProbe, error: torch.Tensor, truth: torch.Tensor | None = None) -> float | None:
    """The loss of two clips, the first latent frame given."""
    clips = [talking(i) for i in (300, 301)]
    carries = torch.ones(FRAMES)
    carries[0] = 0
    faces = torch.stack([clip.face_mask for clip in clips]) if truth is None else truth
    clean = torch.stack([clip.latents for clip in clips])
    term = lip_motion_loss(error.expand_as(clean), clean, carries, faces, reader)
    return float(term.sum) / float(term.count) if term.count else None


def test_lip_motion_loss_is_1_for_still_mouths_and_0_for_correct_motion(reader):
    clean = torch.stack([talking(i).latents for i in (300, 301)])
    assert motion_loss(reader, -clean) == pytest.approx(1)
    assert motion_loss(reader, -0.5 * clean) == pytest.approx(0.25)
    assert motion_loss(reader, torch.zeros(1)) == 0
    still = torch.randn(2, CHANNELS, 1, 2 * ROWS, 2 * COLUMNS)
    assert motion_loss(reader, still) == pytest.approx(0, abs=1e-9)


def test_lip_motion_loss_follows_the_opening_direction_of_each_face(reader):
    """The mouth opens in channel 1, and what else moves there moves in channel 0 as well."""
    clips = [talking(i) for i in (300, 301)]
    error = torch.zeros(2, CHANNELS, FRAMES, 2 * ROWS, 2 * COLUMNS, requires_grad=True)
    clean, faces = (torch.stack([getattr(clip, name) for clip in clips]) for name in ("latents", "face_mask"))
    lip_motion_loss(error - clean, clean, torch.ones(FRAMES), faces, reader).sum.backward()
    by_channel = error.grad.abs().sum(dim=(0, 2, 3, 4))
    assert by_channel[1] > 2 * by_channel[0]


def test_lip_motion_loss_counts_known_faces_only(reader):
    unknown = torch.full((2, FRAMES, ROWS * COLUMNS), torch.nan)
    assert motion_loss(reader, torch.ones(1), unknown) is None
    one = torch.stack([talking(300).face_mask, unknown[0]])
    error = torch.zeros(2, CHANNELS, FRAMES, 2 * ROWS, 2 * COLUMNS)
    error[1] = torch.randn(error[1].shape)
    assert motion_loss(reader, error, one) == 0


def test_mouth_probe_refuses_data_without_faces():
    with pytest.raises(DataError, match="mouth openings"):
        LinearMouthProbe.fit([talking(0, mask=False)], BASE)
