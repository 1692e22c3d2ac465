"""Mouth opening read from pictures by a small network of our own, and compared with the truth. [ours]

The reader finds the mouth by attention over a feature map, so the face may be anywhere and of any size. It learned from
rendered faces (`mouth_training`), softened and stained as generated pictures are. A curve is compared by Pearson's
correlation: scale and offset, where the reader errs from person to person, do not count.

Letters: F pixel frames, b pictures, c channels, s places of the feature map.
"""

from importlib import resources
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from uniavgen.errors import CheckpointError
from uniavgen.evaluation.metric import MadeClip, NotMeasured, TruthClip
from uniavgen.media.files import whole_file

SHIPPED = resources.files("uniavgen") / "weights" / "evaluation" / "mouth_reader.safetensors"
SIDE_PX = 128
"""Shorter side of the pictures that the reader looks at. [ours]"""


class _Block(nn.Module):
    """Depthwise 3x3, then a two-layer mix of the channels, with a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.GroupNorm(4, width)
        self.widen = nn.Conv2d(width, 2 * width, 1)
        self.narrow = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.narrow(F.gelu(self.widen(self.norm(self.spatial(x)))))


class MouthReader(nn.Module):
    """Pictures to mouth opening: 0.1M parameters, 8x smaller feature map, four attention heads over its places."""

    def __init__(self, heads: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 32, 6, stride=4, padding=1),
            _Block(32),
            _Block(32),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            _Block(64),
            _Block(64),
            _Block(64),
        )
        self.attention = nn.Conv2d(64, heads, 1)
        self.opening = nn.Sequential(nn.Linear(64 * heads, 64), nn.GELU(), nn.Linear(64, 1))

    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        """Mouth opening in the renderer's unit; `pictures` in [-1, 1]."""
        features = self.features(pictures)
        weight = rearrange(self.attention(features), "b heads h w -> b heads (h w)").softmax(-1)
        seen = torch.einsum("b a s, b c s -> b a c", weight, rearrange(features, "b c h w -> b c (h w)"))
        return self.opening(rearrange(seen, "b a c -> b (a c)"))[:, 0]

    @torch.no_grad()
    def read(self, frames: UInt8[np.ndarray, "F H W 3"]) -> Float[np.ndarray, " F"]:
        """Curve of a clip, one value a frame."""
        curves = [self(as_pictures(frames[start : start + 27])) for start in range(0, len(frames), 27)]
        return torch.cat(curves).numpy()

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        """Write safetensors, whole or not at all."""
        with whole_file(path) as partial:
            save_file({name: value.contiguous() for name, value in self.state_dict().items()}, partial, metadata)

    @classmethod
    def load(cls, path: Path | None = None) -> "MouthReader":
        """The reader stored at `path`, or the one shipped in the package; CheckpointError if it is none."""
        path = path or Path(str(SHIPPED))
        if not path.is_file():
            raise CheckpointError(f"no mouth reader at {path}; train one with `uniavgen train-mouth-reader`")
        reader = cls()
        try:
            reader.load_state_dict(load_file(path))
        except (SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(
                f"{path} holds no mouth reader ({reason}); train one with `uniavgen train-mouth-reader`"
            ) from None
        return reader.eval()


def as_pictures(frames: UInt8[np.ndarray, "F H W 3"]) -> Float[Tensor, "F 3 h w"]:
    """Frames as the reader takes them: in [-1, 1], shorter side `SIDE_PX`."""
    pictures = rearrange(torch.from_numpy(np.ascontiguousarray(frames)), "F H W c -> F c H W").float() / 127.5 - 1
    height, width = frames.shape[1:3]
    shorter = min(height, width)
    if shorter == SIDE_PX:
        return pictures
    size = (round(height * SIDE_PX / shorter), round(width * SIDE_PX / shorter))
    return F.interpolate(pictures, size, mode="bilinear", antialias=True)


def correlation(curve: Float[np.ndarray, " F"], truth: Float[np.ndarray, " F"]) -> float:
    """Pearson's r over the frames both have; 0 for a curve that never moves, NotMeasured for such a truth."""
    shared = min(len(curve), len(truth))
    a = curve[:shared].astype(np.float64) - curve[:shared].mean(dtype=np.float64)
    b = truth[:shared].astype(np.float64) - truth[:shared].mean(dtype=np.float64)
    if b.std() < 1e-6:
        raise NotMeasured("the mouth of the truth never moves")
    if a.std() < 1e-6:
        return 0.0
    return float((a * b).mean() / (a.std() * b.std()))


class MouthCurve:
    """The curve of a made clip; the last one is kept, since several metrics ask for the same."""

    def __init__(self, reader: MouthReader) -> None:
        self._reader = reader
        self._last: tuple[MadeClip, Float[np.ndarray, " F"]] | None = None

    def of(self, made: MadeClip) -> Float[np.ndarray, " F"]:
        """Mouth opening, one value a frame."""
        if self._last is None or self._last[0] is not made:
            self._last = (made, self._reader.read(made.frames))
        return self._last[1]


class MouthCorrelation:
    """Does the mouth open when it should."""

    name = "mouth_correlation"
    description = "correlation over time of the mouth opening read from the clip with the truth; 1 is best, 0 is chance"

    def __init__(self, curve: MouthCurve) -> None:
        self._curve = curve

    def score(self, made: MadeClip, truth: TruthClip) -> float:
        return correlation(self._curve.of(made), truth.mouth_opening)


class MouthRange:
    """Does the mouth open as far as it should."""

    name = "mouth_range"
    description = "spread over time of the mouth opening read from the clip, as a share of the truth's; 1 is best"

    def __init__(self, curve: MouthCurve) -> None:
        self._curve = curve

    def score(self, made: MadeClip, truth: TruthClip) -> float:
        spread = float(truth.mouth_opening.std())
        if spread < 1e-6:
            raise NotMeasured("the mouth of the truth never moves")
        return float(self._curve.of(made).std()) / spread
