"""Shards as other people write them: tar files of MP4, WAV, JSON and text."""

import io
import json
import tarfile
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE_HZ = 24_000


def facts(text="Hello there.", **more) -> bytes:
    return json.dumps({"text": text, "caption": "A man.", "speaker": "ann"} | more).encode()


def wav(seconds=1.2, channels=1, level=8000) -> bytes:
    """A tone in the first channel, silence in the others."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    samples = np.zeros((len(time), channels), "<i2")
    samples[:, 0] = level * np.sin(2 * np.pi * 200 * time)
    content = io.BytesIO()
    with wave.open(content, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(RATE_HZ)
        out.writeframes(samples.tobytes())
    return content.getvalue()


def speech(container="flac", seconds=1.2, rate_hz=RATE_HZ, layout="mono") -> bytes:
    """A tone in an audio file of another kind: flac, mp3, ogg."""
    tone = 0.3 * np.sin(2 * np.pi * 200 * np.arange(round(seconds * rate_hz)) / rate_hz)
    content = io.BytesIO()
    with av.open(content, "w", format=container) as out:
        stream = out.add_stream(
            {"flac": "flac", "mp3": "mp3", "ogg": "libopus"}[container], rate=rate_hz, layout=layout
        )
        frame = av.AudioFrame.from_ndarray(
            np.tile((tone * 32767).astype(np.int16)[:, None], (1, stream.channels)).reshape(1, -1), "s16", layout
        )
        frame.sample_rate = rate_hz
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return content.getvalue()


def mp4(num_frames=17, fps=16, size=(64, 64), with_sound=False, rotation=0) -> bytes:
    """Frames of (width, height) whose red grows by 5 a frame, with a green upper half."""
    width, height = size
    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=fps, options={"crf": "1"})
        video.width, video.height, video.pix_fmt = width, height, "yuv444p"
        audio = container.add_stream("aac", rate=RATE_HZ, layout="mono") if with_sound else None
        if rotation:
            video.set_display_rotation(rotation)
        for number in range(num_frames):
            pixels = np.zeros((height, width, 3), np.uint8)
            pixels[..., 0] = 20 + 5 * number
            pixels[: height // 2, :, 1] = 200
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            samples = np.sin(np.arange(round(num_frames / fps * RATE_HZ)) * 0.05).astype(np.float32)[None]
            sound = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
            sound.sample_rate = RATE_HZ
            container.mux(audio.encode(sound))
            container.mux(audio.encode())
    return content.getvalue()


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    """Writes the files, by name, into a tar; returns its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path.parent
