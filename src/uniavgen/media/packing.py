"""Clips in memory to bytes, as shards of a data set hold them; `audio` and `video` read them as they read any file.

The same arrays give the same bytes on every run, so that a data set can be compared by its checksums.
"""

import io
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from jaxtyping import Float32, UInt8

REPEATABLE = {"x264-params": "mbtree=0"}
"""Options with which x264 makes the same file of the same frames. Its macroblock tree reads memory that nobody wrote at
many sizes: 32x32, 160x96 and 208x112 differ from run to run, 64, 96 and 128 px square do not. [measured]"""
CRF = 12
"""x264's constant quality; models are trained on these frames, so it is near transparent. [ours]"""
OPUS_BITS_PER_SECOND = 32_000
"""Mono speech, about 4 kB a second. [ours]"""
# Samples a frame of each encoder.
_AAC_BLOCK, _FLAC_BLOCK, _OPUS_BLOCK = 1024, 4096, 480


def encode_mp4(
    frames: UInt8[np.ndarray, "frames height width 3"],
    fps: int,
    waveform: Float32[np.ndarray, " samples"],
    rate_hz: int,
    crf: int = CRF,
) -> bytes:
    """Encodes frames and mono audio as H.264 (yuv420p, constant quality `crf`) and AAC."""
    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=fps)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        # With several threads x264 makes other bytes on another machine.
        video.options = {"crf": str(crf), "preset": "veryfast", "threads": "1", **REPEATABLE}
        audio = container.add_stream("aac", rate=rate_hz)
        audio.layout = "mono"
        for pixels in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode())
        _encode_audio(container, audio, waveform[None], "fltp", rate_hz, _AAC_BLOCK)
    return content.getvalue()


def encode_wav(waveform: Float32[np.ndarray, " samples"], rate_hz: int) -> bytes:
    """Encodes mono audio as 16-bit WAV; samples beyond [-1, 1) are clipped."""
    content = io.BytesIO()
    samples = np.clip(np.round(waveform * 32768), -32768, 32767).astype("<i2")
    with wave.open(content, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate_hz)
        out.writeframes(samples.tobytes())
    return content.getvalue()


def encode_flac(waveform: Float32[np.ndarray, " samples"], rate_hz: int) -> bytes:
    """Encodes mono audio as 16-bit FLAC; samples beyond [-1, 1] are clipped."""
    content = io.BytesIO()
    samples = np.round(np.clip(waveform, -1, 1) * 32767).astype(np.int16)[None]
    with av.open(content, "w", format="flac") as container:
        audio = container.add_stream("flac", rate=rate_hz)
        audio.layout, audio.format = "mono", "s16"
        _encode_audio(container, audio, samples, "s16", rate_hz, _FLAC_BLOCK)
    return content.getvalue()


def write_opus(path: Path, waveform: Float32[np.ndarray, " samples"], rate_hz: int) -> None:
    """Writes mono speech as Opus in an Ogg file."""
    with av.open(str(path), "w", format="ogg") as container:
        audio = container.add_stream("libopus", rate=rate_hz)
        audio.layout, audio.bit_rate = "mono", OPUS_BITS_PER_SECOND
        _encode_audio(container, audio, waveform[None], "flt", rate_hz, _OPUS_BLOCK)


def _encode_audio(
    container: Any, stream: Any, samples: np.ndarray, sample_format: str, rate_hz: int, block: int
) -> None:
    for frame in _audio_frames(samples, sample_format, rate_hz, block):
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _audio_frames(samples: np.ndarray, sample_format: str, rate_hz: int, block: int) -> Iterator[av.AudioFrame]:
    for start in range(0, samples.shape[1], block):
        part = np.ascontiguousarray(samples[:, start : start + block])
        frame = av.AudioFrame.from_ndarray(part, sample_format, "mono")
        frame.sample_rate, frame.pts = rate_hz, start
        yield frame
