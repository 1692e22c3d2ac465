"""Names the parts of the transformer that can be trained, adapted and watched apart from each other.

| part | modules |
|---|---|
| video | video stem and video blocks, with their text attention to the caption |
| audio | audio stem and audio blocks, with their text attention to the speech |
| a2v | attention of the video to the audio, in blocks that interact |
| v2a | attention of the audio to the video, in blocks that interact |
| face_mask | heads that predict the face mask, in blocks that interact |
| speech_text | encoder of the speech symbols and its projection |

Every parameter belongs to one part.
"""

import re
from enum import StrEnum
from typing import Final

from torch import nn


class Part(StrEnum):
    """Names a part of the transformer, as settings do."""

    VIDEO = "video"
    AUDIO = "audio"
    A2V = "a2v"
    V2A = "v2a"
    FACE_MASK = "face_mask"
    SPEECH_TEXT = "speech_text"


_PLACES: Final = {
    Part.VIDEO: r"video_stem|blocks\.\d+\.video",
    Part.SPEECH_TEXT: r"audio_stem\.(speech_encoder|speech_proj)",
    Part.AUDIO: r"audio_stem|blocks\.\d+\.audio",
    Part.A2V: r"blocks\.\d+\.interaction\.a2v",
    Part.V2A: r"blocks\.\d+\.interaction\.v2a",
    Part.FACE_MASK: r"blocks\.\d+\.interaction\.face_mask",
}
"""Where the names of a part's modules begin; the first that matches counts."""


def part_of(name: str) -> Part | None:
    """Returns the part of a module or parameter by its name in the transformer; None for names that span several.

    The layers of an adapter stand inside of those that they adapt, and so belong to the same part.
    """
    return next((part for part, place in _PLACES.items() if re.match(rf"({place})(\.|$)", name)), None)


def parameters_by_part(model: nn.Module) -> dict[Part, dict[str, nn.Parameter]]:
    """Returns the parameters of each part by name; parts that the model lacks are missing."""
    parts: dict[Part, dict[str, nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        part = part_of(name)
        assert part is not None, f"{name} belongs to no part"
        parts.setdefault(part, {})[name] = parameter
    return parts
