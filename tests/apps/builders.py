"""A pipeline of random weights, small enough to make a clip in a second, and files to feed it."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import UMT5Config, UMT5EncoderModel

from uniavgen import NanoVocoder, SpeechSymbols, UniAVGenPipeline, UniAVGenTransformer
from uniavgen.codecs.caption import word_tokenizer
from uniavgen.codecs.video_vae import VideoVaeShape
from uniavgen.config import dump, parse
from uniavgen.inference.resize import ResizeAndCrop
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.media.audio import write_wav
from uniavgen.media.mux import write_clip
from uniavgen.models.config import TransformerConfig

FPS, RATE_HZ, SIDE_PX = Fraction(16), 24_000, 32
NUM_FRAMES = 9
"""Clips of the tests; the window rules are those of 81."""

_TRANSFORMER = {
    "num_layers": 2,
    "video": {
        "num_heads": 2,
        "head_dim": 6,
        "ffn_width": 16,
        "latent_channels": 4,
        "caption_width": 8,
        "caption_tokens": 12,
        "time_frequencies": 8,
    },
    "audio": {
        "num_heads": 2,
        "head_dim": 6,
        "ffn_width": 16,
        "speech": {"num_symbols": 95, "width": 8, "num_layers": 1},
        "time_frequencies": 8,
    },
}


def save_pipeline(folder: Path) -> Path:
    """A pipeline for pictures of 32 px and real clip timing."""
    torch.manual_seed(0)
    tokenizer = word_tokenizer(["a person speaks"], max_tokens=12)
    text_encoder = UMT5EncoderModel(
        UMT5Config(vocab_size=len(tokenizer), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    )
    pipeline = UniAVGenPipeline(
        transformer=UniAVGenTransformer.from_settings(parse(TransformerConfig, _TRANSFORMER)),
        vae=VideoVaeShape(width=8, decoder_width=8, latent_channels=4).build(),
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        speech_tokenizer=SpeechSymbols.of(),
        vocoder=NanoVocoder(width=8, hidden=8, num_layers=1),
        picture_config=dump(ResizeAndCrop(height=SIDE_PX, width=SIDE_PX)),
        sampling_config=dump(SamplingConfig(steps=2)),
    )
    pipeline.save_pretrained(folder)
    return folder


def sound(seconds: float) -> np.ndarray:
    """A tone that swells and fades."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (0.4 * np.sin(2 * np.pi * 220 * time) * np.sin(np.pi * time / seconds)).astype(np.float32)


def film(num_frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames that all differ."""
    frames = np.full((num_frames, height, width, 3), 70, np.uint8)
    for index, frame in enumerate(frames):
        frame[:, index % width] = (220, 200, 180)
    return frames


def save_inputs(folder: Path) -> dict[str, Path]:
    """Good inputs of every kind."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {
        name: folder / name
        for name in ("face.png", "voice.wav", "drive.wav", "film.mp4", "long.wav", "long.mp4", "short.wav", "mute.mp4")
    }
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)).save(paths["face.png"])
    write_wav(paths["voice.wav"], sound(0.55), RATE_HZ)
    write_wav(paths["drive.wav"], sound(0.5), RATE_HZ)
    write_wav(paths["long.wav"], sound(7.0), RATE_HZ)
    write_wav(paths["short.wav"], sound(0.1), RATE_HZ)
    write_clip(paths["film.mp4"], film(NUM_FRAMES), FPS, sound(NUM_FRAMES / 16), RATE_HZ, {})
    write_clip(paths["long.mp4"], film(100), FPS, sound(100 / 16), RATE_HZ, {})
    _save_mute(paths["mute.mp4"])
    return paths


def _save_mute(path: Path) -> None:
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for pixels in film(NUM_FRAMES):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        out.mux(stream.encode(None))
