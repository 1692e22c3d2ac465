"""The lip reader finds what of a picture goes with the sound, wherever the face is, and sees nothing else."""

import pytest
import torch

from uniavgen.data.features import Features
from uniavgen.errors import DataError
from uniavgen.timebase import Timebase
from uniavgen.training.lip_reader import LipReader, mouths
from uniavgen.training.losses import lip_guide_loss

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
    """Noise everywhere; in one channel the mouth's cells follow the sound, another channel is louder noise."""
    generator = torch.Generator().manual_seed(i)
    y, x = (int(torch.randint(0, most, (), generator=generator)) for most in (4, 5))
    tokens = BASE.clip(33).num_audio_tokens
    level = torch.randn(FRAMES, generator=generator)
    latents = torch.randn(CHANNELS, FRAMES, 2 * ROWS, 2 * COLUMNS, generator=generator)
    latents[2] *= 4
    latents[1, :, 2 * y + 4 : 2 * y + 7, 2 * x + 1 : 2 * x + 5] += 2 * level[:, None, None]
    # Latent frame k > 0 spans the pixel frames 4 k - 3 to 4 k.
    rate = float(BASE.tokens_per_second / BASE.fps)
    owner = ((torch.arange(tokens) / rate - 1) // 4 + 1).clamp(0, FRAMES - 1).long()
    return Features(
        key=str(i),
        text="",
        speaker="",
        words=(),
        mel=level[owner, None].expand(-1, 5) + 0.1 * torch.randn(tokens, 5, generator=generator),
        latents=latents,
        face_mask=face(y, x) if mask else None,
    )


@pytest.fixture(scope="module")
def reader() -> LipReader:
    return LipReader.fit((talking(i) for i in range(120)), BASE)


def test_it_reads_the_sound_of_clips_it_was_not_fitted_on(reader):
    seen, heard = [], []
    for i in range(200, 230):
        clip = talking(i)
        read = reader.read(clip.latents[None], clip.face_mask[None])[0, 1:].mean(dim=1)
        level = torch.stack(
            [clip.mel[int(6.25 * (4 * k - 3)) + 1 : int(6.25 * (4 * k + 1))].mean() for k in range(1, 9)]
        )
        seen.append(read - read.mean())
        heard.append(level - level.mean())
    assert torch.corrcoef(torch.stack([torch.cat(seen), torch.cat(heard)]))[0, 1] > 0.85


def test_a_face_that_moves_takes_its_mouth_along():
    picture = torch.randn(1, CHANNELS, FRAMES, 2 * ROWS, 2 * COLUMNS)
    moved = picture.roll((2, -4), dims=(3, 4))
    here, there = mouths(picture, face(2, 3)[None]), mouths(moved, face(3, 1)[None])
    assert here.shape == (1, FRAMES, CHANNELS * 36)
    assert torch.allclose(here, there, atol=1e-5)


def test_the_guide_counts_movements_of_the_mouths_of_known_faces_only(reader):
    truth = torch.stack([face(1, 1), face(1, 1) * torch.nan])
    target, carries = torch.zeros(2, CHANNELS, FRAMES, 2 * ROWS, 2 * COLUMNS), torch.ones(FRAMES)
    carries[0] = 0

    def loss(*wrong: slice) -> float:
        predicted = target.clone()
        predicted[wrong] = 1.0
        return float(lip_guide_loss(predicted, target, torch.ones(2), carries, truth, reader))

    everything, mouth = slice(None), (slice(6, 9), slice(3, 7))
    assert loss(slice(0, 1), slice(1, 2), slice(2, 5), *mouth) > 0.01
    assert loss(slice(0, 1), slice(1, 2), everything, *mouth) == pytest.approx(0, abs=1e-9)  # It does not move.
    assert loss(slice(0, 1), everything, everything, slice(13, 16)) == 0
    assert loss(slice(0, 1), everything, slice(0, 1)) == 0
    assert loss(slice(1, 2), everything, slice(2, 5)) == 0
    assert lip_guide_loss(target, target, torch.ones(2), carries, truth * torch.nan, reader) is None


def test_data_without_faces_is_told():
    with pytest.raises(DataError, match="face masks"):
        LipReader.fit([talking(0, mask=False)], BASE)
