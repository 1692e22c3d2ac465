"""ComfyUI's values as the files that jobs read, and clips as ComfyUI's values.

IMAGE is a float tensor `batch height width channels` in [0, 1], AUDIO a dict of `waveform`, `batch channels samples`,
and `sample_rate`, VIDEO an object with `save_to`.

Letters: F frames, H W pixels.
"""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from scipy.io import wavfile

import uniavgen


def write_picture(image: torch.Tensor, path: Path) -> Path:
    """Writes the one picture of an IMAGE as PNG. Raises UniAVGenError for several pictures."""
    if len(image) != 1:
        raise uniavgen.UniAVGenError(f"one picture is needed, the input holds {len(image)}; choose one of them")
    pixels = (image[0, ..., :3].cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    Image.fromarray(pixels.numpy()).save(path)
    return path


def write_sound(audio: dict[str, Any], path: Path) -> Path:
    """Writes the one recording of an AUDIO as WAV, in float32. Raises UniAVGenError for several recordings."""
    waveform = audio["waveform"]
    if len(waveform) != 1:
        raise uniavgen.UniAVGenError(f"one recording is needed, the input holds {len(waveform)}; choose one of them")
    wavfile.write(path, int(audio["sample_rate"]), waveform[0].float().cpu().numpy().T)
    return path


def write_video(video: Any, path: Path) -> Path:
    """Writes a VIDEO as ComfyUI does, which copies the tracks of a file that it has."""
    video.save_to(str(path))
    return path


def read_frames(clip: uniavgen.Clip) -> torch.Tensor:
    """Returns the frames of a clip as IMAGE, `F H W 3`."""
    return torch.from_numpy(clip.frames).float() / 255


def read_sound(clip: uniavgen.Clip) -> dict[str, Any]:
    """Returns the sound of a clip as AUDIO, one recording with one channel."""
    return {"waveform": torch.from_numpy(clip.waveform)[None, None], "sample_rate": clip.sample_rate_hz}
