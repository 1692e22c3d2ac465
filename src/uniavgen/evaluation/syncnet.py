"""SyncNet: do lips and sound belong together. The published network by its paper and the names of its weights.

[Chung and Zisserman, "Out of time", 2016; weights syncnet_v2.model]. Two towers bring 0.2 s, 5 frames of a face at 25
a second and 20 frames of cepstra at 100 a second, to the same 1024 numbers; where they belong together these are near.

Letters: b windows, c channels, k cepstra, t frames of sound, f frames of video, d numbers of an embedding.
"""

import numpy as np
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

FPS, SIDE_PX, WINDOW = 25, 224, 5
CEPSTRA, SOUND_WINDOW, SOUND_PER_FRAME = 13, 20, 4
MOST_SHIFT = 15
"""Frames by which the sound is shifted either way. [published script]"""


def _sound_layer(before: int, after: int, kernel: tuple[int, int] = (3, 3), padding: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(before, after, kernel, padding=padding), nn.BatchNorm2d(after), nn.ReLU()]


def _lip_layer(before: int, after: int, kernel: tuple[int, int, int], stride: int, padding: int) -> list[nn.Module]:
    conv = nn.Conv3d(before, after, kernel, stride=(1, stride, stride), padding=(0, padding, padding))
    return [conv, nn.BatchNorm3d(after), nn.ReLU()]


def _lip_pool(padding: int = 0) -> nn.Module:
    return nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, padding, padding))


def _to_embedding() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


class SyncNet(nn.Module):
    """13.6M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_sound_layer(1, 64),
            # Published with a pooling of 1 x 1, which keeps the numbers of the layers behind it.
            nn.Identity(),
            *_sound_layer(64, 192),
            nn.MaxPool2d(3, stride=(1, 2)),
            *_sound_layer(192, 384),
            *_sound_layer(384, 256),
            *_sound_layer(256, 256),
            nn.MaxPool2d(3, stride=2),
            *_sound_layer(256, 512, (5, 4), 0),
        )
        self.netcnnlip = nn.Sequential(
            *_lip_layer(3, 96, (5, 7, 7), 2, 0),
            _lip_pool(),
            *_lip_layer(96, 256, (1, 5, 5), 2, 1),
            _lip_pool(1),
            *_lip_layer(256, 256, (1, 3, 3), 1, 1),
            *_lip_layer(256, 256, (1, 3, 3), 1, 1),
            *_lip_layer(256, 256, (1, 3, 3), 1, 1),
            _lip_pool(),
            *_lip_layer(256, 512, (1, 6, 6), 1, 0),
        )
        self.netfcaud, self.netfclip = _to_embedding(), _to_embedding()

    def sound(self, cepstra: Float[Tensor, "b k t"]) -> Float[Tensor, "b d"]:
        """Windows of 13 cepstra and 20 frames."""
        return self.netfcaud(rearrange(self.netcnnaud(cepstra[:, None]), "b c 1 1 -> b c"))

    def lips(self, faces: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b d"]:
        """Windows of 5 frames of 224 px, blue, green, red in 0 to 255."""
        return self.netfclip(rearrange(self.netcnnlip(faces), "b c 1 1 1 -> b c"))


def distances(
    lips: Float[Tensor, "b d"], sound: Float[Tensor, "b d"], most_shift: int = MOST_SHIFT
) -> Float[np.ndarray, " shifts"]:
    """Mean distance for every shift of the sound from -most_shift to most_shift frames; silence beyond its ends.

    Silence is the zero vector, as in the published script.
    """
    padded = F.pad(sound, (0, 0, most_shift, most_shift))
    shifts = [padded[shift : shift + len(lips)] for shift in range(2 * most_shift + 1)]
    return np.array([float(F.pairwise_distance(lips, shifted).mean()) for shifted in shifts])


def verdict(by_shift: Float[np.ndarray, " shifts"]) -> tuple[float, float, int]:
    """Confidence (LSE-C), distance (LSE-D), and the offset in frames, positive where the sound is early."""
    best = int(by_shift.argmin())
    # torch's median, which the published script takes: the lower of the two in the middle.
    median = float(np.sort(by_shift)[(len(by_shift) - 1) // 2])
    return median - float(by_shift[best]), float(by_shift[best]), len(by_shift) // 2 - best
