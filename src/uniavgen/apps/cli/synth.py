"""`uniavgen synth`: clips of the synthetic world as shards for training and evaluation."""

import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import av
import numpy as np
import typer
from PIL import Image

from uniavgen.artifacts import record_settings
from uniavgen.data.shards import ShardWriter
from uniavgen.media.container import REPEATABLE
from uniavgen.synth import Art, RenderedClip, SpokenClip, WorldSettings, check_material, generate, speak
from uniavgen.synth.speech import SAMPLE_RATE_HZ
from uniavgen.synth.visemes import Phone

_CRF = 12
"""Training reads these pictures: near transparent. [ours]"""
_PER_SHARD = 50
_PREVIEW_ROWS, _PREVIEW_FRAMES = 12, 8
_SETTINGS_FILE = "world.json"
_MATERIAL = {"heads", "voices", "speech"}
"""Settings that say where things lie, not what a folder of clips is made of."""


def synth(
    clips: Annotated[int, typer.Option(min=1, help="How many clips.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards; run again to go on where it stopped.")],
    seed: Annotated[int, typer.Option(min=0, help="The world: the same seed gives the same people and clips.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 128,
    num_frames: Annotated[
        int, typer.Option(metavar="N", help="Length, 1 + 4n. In a second or less, speech is too fast: faces only.")
    ] = 81,
    source: Annotated[str, typer.Option(help="Speech: made (ahead), kokoro or flite.")] = "made",
    split: Annotated[str, typer.Option(help="Sentences: train, val (held out) or all.")] = "all",
    people_per_voice: Annotated[int, typer.Option(min=1, help="People who share a voice of the source.")] = 8,
    art: Annotated[
        Art, typer.Option(help="How it is drawn: shaded, or drawn with flat tones and outlines.")
    ] = Art.SHADED,
    movement: Annotated[
        float, typer.Option(help="How much heads, camera and backgrounds move, times the usual; at 0 only faces do.")
    ] = 1.0,
    sound_only: Annotated[
        bool, typer.Option("--sound-only", help="Draw nothing, for training the audio branch alone: far quicker.")
    ] = False,
    speech: Annotated[Path | None, typer.Option(help="Made-ahead speech: index.jsonl and opus/.")] = None,
    heads: Annotated[Path | None, typer.Option(help="Head data: mpfb2/ and faceunits01/.")] = None,
    voices: Annotated[Path | None, typer.Option(help="Kokoro: *.onnx, vocab.json and voices/.")] = None,
) -> None:
    """Make clips of the synthetic world: pictures, sound, and the truth about them."""
    settings = WorldSettings(
        source=source,
        split=split,
        size=size,
        num_frames=num_frames,
        people_per_voice=people_per_voice,
        art=art,
        movement=movement,
        speech=speech,
        heads=heads,
        voices=voices,
    )
    check_material(settings)
    writer = ShardWriter(out, samples_per_shard=_PER_SHARD)
    order = {name: value for name, value in asdict(settings).items() if name not in _MATERIAL}
    record_settings(out / _SETTINGS_FILE, {"seed": seed, **order, **({"sound_only": True} if sound_only else {})})
    missing = [n for n in range(clips) if _key(seed, n) not in writer.keys]
    if missing and sound_only:
        _store(writer, seed, missing, map(_pack_sound, speak(seed, missing, settings, jobs)), clips)
    elif missing:
        _store(writer, seed, missing, _drawn(generate(seed, missing, settings, jobs), missing, out), clips)
    typer.echo(f"{clips} clips in {out}" + ("" if sound_only else f", preview in {out / 'preview.png'}"))


def _key(seed: int, number: int) -> str:
    return f"{seed:04d}-{number:06d}"


def _store(writer: ShardWriter, seed: int, numbers: list[int], packed: Iterator[dict[str, bytes]], total: int) -> None:
    from tqdm import tqdm

    # An unfinished shard is left out when something stops the work, so that a second run gives the same bytes.
    with tqdm(total=total, initial=total - len(numbers), unit="clip", smoothing=0.05) as progress:
        for number, parts in zip(numbers, packed, strict=True):
            writer.write(_key(seed, number), parts)
            progress.update()
    writer.finish_shard()


def _drawn(clips: Iterator[RenderedClip], numbers: list[int], folder: Path) -> Iterator[dict[str, bytes]]:
    """The parts of each clip; the first ones are added to the folder's preview."""
    rows: list[np.ndarray] = []
    for number, clip in zip(numbers, clips, strict=True):
        yield pack(clip)
        if number < _PREVIEW_ROWS:
            rows.append(_strip(clip))
            Image.fromarray(np.concatenate(rows)).save(folder / "preview.png")


def _strip(clip: RenderedClip) -> np.ndarray:
    """Some frames side by side; in the last one the face mask is tinted."""
    chosen = np.linspace(0, len(clip.frames) * 0.6, _PREVIEW_FRAMES).astype(int)
    frames = clip.frames[chosen].copy()
    mask = clip.face_masks[chosen[-1]]
    frames[-1][mask] = frames[-1][mask] // 2 + np.array([0, 110, 0], np.uint8)
    return np.concatenate(frames, axis=1)


def pack(clip: RenderedClip) -> dict[str, bytes]:
    """The parts of a clip as they lie in a shard: json, mp4, flac, npz."""
    truth = clip.truth
    facts = {
        "text": truth.text,
        "caption": truth.caption,
        "speaker": truth.speaker,
        "identity": truth.identity,
        "gender": truth.gender,
        "age": truth.age,
        "voice": truth.voice,
        "mood": truth.mood,
        "mood_strength": truth.strength,
        "place": truth.place,
        "framing": truth.framing,
        "art": truth.art,
        "utterance": truth.utterance,
        "phones": _rounded(truth.phones),
        "seconds": len(clip.waveform) / clip.sample_rate_hz,
        "fps": clip.fps,
    }
    arrays = {
        "mouth_opening": truth.mouth_opening.astype(np.float32),
        "arkit": truth.arkit.astype(np.float16),
        "head_pose": truth.head_pose.astype(np.float32),
        "face_mask": np.packbits(clip.face_masks),
        "face_mask_shape": np.array(clip.face_masks.shape, np.int64),
    }
    stored = io.BytesIO()
    np.savez_compressed(stored, **arrays)
    return {
        "json": json.dumps(facts, ensure_ascii=False).encode(),
        "mp4": _mp4(clip),
        "flac": _flac(clip.waveform, clip.sample_rate_hz),
        "npz": stored.getvalue(),
    }


def _pack_sound(take: SpokenClip) -> dict[str, bytes]:
    """The parts of a clip that nobody sees: json, flac."""
    facts = {
        "text": take.line.text,
        "speaker": take.person.name,
        "voice": take.line.voice,
        "mood": take.mood.name,
        "mood_strength": take.strength,
        "utterance": take.line.utterance,
        "phones": _rounded(take.speech.phones),
        "seconds": take.speech.duration_s,
    }
    return {
        "json": json.dumps(facts, ensure_ascii=False).encode(),
        "flac": _flac(take.speech.waveform, SAMPLE_RATE_HZ),
    }


def _rounded(phones: tuple[Phone, ...]) -> list[list[str | float]]:
    return [[symbol, round(start, 4), round(end, 4)] for symbol, start, end in phones]


def _mp4(clip: RenderedClip) -> bytes:
    stored = io.BytesIO()
    with av.open(stored, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=round(clip.fps))
        video.height, video.width = clip.frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.options = {"crf": str(_CRF), "preset": "veryfast", "threads": "1", **REPEATABLE}
        audio = container.add_stream("aac", rate=clip.sample_rate_hz)
        audio.layout = "mono"
        for picture in clip.frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        for frame in _sound_frames(clip.waveform[None], "fltp", clip.sample_rate_hz, 1024):
            container.mux(audio.encode(frame))
        container.mux(audio.encode())
    return stored.getvalue()


def _flac(waveform: np.ndarray, rate_hz: int) -> bytes:
    stored = io.BytesIO()
    samples = np.round(np.clip(waveform, -1, 1) * 32767).astype(np.int16)[None]
    with av.open(stored, "w", format="flac") as container:
        audio = container.add_stream("flac", rate=rate_hz)
        audio.layout, audio.format = "mono", "s16"
        for frame in _sound_frames(samples, "s16", rate_hz, 4096):
            container.mux(audio.encode(frame))
        container.mux(audio.encode())
    return stored.getvalue()


def _sound_frames(samples: np.ndarray, kind: str, rate_hz: int, length: int) -> list[av.AudioFrame]:
    frames = []
    for start in range(0, samples.shape[1], length):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[:, start : start + length]), kind, "mono")
        frame.sample_rate, frame.pts = rate_hz, start
        frames.append(frame)
    return frames
