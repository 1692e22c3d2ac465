"""SyncNet: whether lips and audio belong together, by the published network. [Chung and Zisserman, "Out of time", 2016]

Two towers map 0.2 s, 5 frames of a face at 25 a second and 20 frames of cepstra at 100 a second, to 1024 numbers each;
where they belong together these are near. Names of the layers as in the weights syncnet_v2.model.

Letters: b windows, c channels, k cepstra, t frames of audio, f frames of video, d numbers of an embedding.
"""

import numpy as np
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

FPS, SIDE_PX, WINDOW = 25, 224, 5
AUDIO_WINDOW, CEPSTRA_PER_FRAME = 20, 4
MAX_SHIFT = 15
"""Frames by which the audio is shifted either way. [published script]"""


def _audio_layer(
    in_channels: int, out_channels: int, kernel: tuple[int, int] = (3, 3), padding: int = 1
) -> list[nn.Module]:
    return [nn.Conv2d(in_channels, out_channels, kernel, padding=padding), nn.BatchNorm2d(out_channels), nn.ReLU()]


def _lip_layer(
    in_channels: int, out_channels: int, kernel: tuple[int, int, int], stride: int, padding: int
) -> list[nn.Module]:
    conv = nn.Conv3d(in_channels, out_channels, kernel, stride=(1, stride, stride), padding=(0, padding, padding))
    return [conv, nn.BatchNorm3d(out_channels), nn.ReLU()]


def _lip_pool(padding: int = 0) -> nn.Module:
    return nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, padding, padding))


def _to_embedding() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


class SyncNet(nn.Module):
    """13.6M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_audio_layer(1, 64),
            # Published with a pooling of 1 x 1, which keeps the numbers of the layers behind it.
            nn.Identity(),
            *_audio_layer(64, 192),
            nn.MaxPool2d(3, stride=(1, 2)),
            *_audio_layer(192, 384),
            *_audio_layer(384, 256),
            *_audio_layer(256, 256),
            nn.MaxPool2d(3, stride=2),
            *_audio_layer(256, 512, (5, 4), 0),
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

    def embed_audio(self, cepstra: Float[Tensor, "b k t"]) -> Float[Tensor, "b d"]:
        """Embeds windows of 13 cepstra and 20 frames."""
        return self.netfcaud(rearrange(self.netcnnaud(cepstra[:, None]), "b c 1 1 -> b c"))

    def embed_lips(self, faces: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b d"]:
        """Embeds windows of 5 frames of 224 px, blue, green, red in 0 to 255."""
        return self.netfclip(rearrange(self.netcnnlip(faces), "b c 1 1 1 -> b c"))


def shift_distances(
    lips: Float[Tensor, "b d"], audio: Float[Tensor, "b d"], max_shift: int = MAX_SHIFT
) -> Float[np.ndarray, " shifts"]:
    """Returns the mean distance for every shift of the audio from -max_shift to max_shift frames.

    Beyond its ends the audio is the zero vector, as in the published script.
    """
    padded = F.pad(audio, (0, 0, max_shift, max_shift))
    shifts = [padded[shift : shift + len(lips)] for shift in range(2 * max_shift + 1)]
    return np.array([float(F.pairwise_distance(lips, shifted).mean()) for shifted in shifts])


def scores_from_distances(distances: Float[np.ndarray, " shifts"]) -> tuple[float, float, int]:
    """Returns confidence (LSE-C), distance (LSE-D), and the offset in frames, positive where the audio is early."""
    best = int(distances.argmin())
    # torch's median, which the published script takes: the lower of the two in the middle.
    median = float(np.sort(distances)[(len(distances) - 1) // 2])
    return median - float(distances[best]), float(distances[best]), len(distances) // 2 - best
