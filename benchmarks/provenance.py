"""Do marks harm, and what do they survive? Scores of clips with and without marks, and of copies of the marked ones.

    python benchmarks/provenance.py nano=DIR real=DIR --assets ASSETS --out docs/results/provenance.json

Each folder holds clips without marks, ID.mp4, and `prompts.jsonl` with their ids and what is said in them. Both
versions of a clip are written as the shell writes clips; copies are made from the file of the marked one.
"""

import argparse
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from tqdm import tqdm

from record import circumstances
from uniavgen.artifacts import write_text
from uniavgen.evaluation.prompts import read_prompts
from uniavgen.evaluation.protocol import System
from uniavgen.media.audio import read_audio
from uniavgen.media.mux import write_clip
from uniavgen.media.video import read_video
from uniavgen.provenance.find_marks import window_scores
from uniavgen.provenance.marking import mark_clip
from uniavgen.provenance.picture_mark import PictureMatch, match_picture, mean_luma
from uniavgen.provenance.sound_mark import SCORE_THRESHOLD
from uniavgen.workflows.evaluate import NO_PUBLISHED_ROWS, EvaluationConfig, evaluate

RATE_HZ = 24_000
FPS = Fraction(16)
LOOKED_AT = 33
"""Frames of the copies of pictures: 2 s, as `verify` looks at them; more make the mark easier to find."""
METRICS = ("wer_base", "speech_quality", "identity", "sync")
COLUMNS = ("wer_whisper_base", "dnsmos_ovr", "identity_consistency", "lips_in_time", "lips_confidence", "lips_error_ms")
Frames = np.ndarray
Waveform = np.ndarray


def encoded(frames: Frames, crf: int) -> Frames:
    """Returns frames through x264."""
    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": str(crf), "x264-params": "mbtree=0"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode(None))
    return read_video(content.getvalue(), FPS).frames


def scaled(frames: Frames, factor: float) -> Frames:
    """Returns frames of even sides."""
    height, width = (round(side * factor / 2) * 2 for side in frames.shape[1:3])
    return np.stack([np.asarray(Image.fromarray(each).resize((width, height))) for each in frames])


def cropped(frames: Frames) -> Frames:
    """Returns the middle 70 % of both sides."""
    height, width = (int(side * 0.7) // 2 * 2 for side in frames.shape[1:3])
    return frames[:, frames.shape[1] // 7 :][:, :height, frames.shape[2] // 9 :][:, :, :width]


def aac(waveform: Waveform, bits_per_second: int, codec: str = "aac") -> Waveform:
    """Returns sound through a lossy codec."""
    content = io.BytesIO()
    with av.open(content, "w", format="mp4" if codec == "aac" else "mp3") as container:
        stream = container.add_stream(codec, rate=RATE_HZ, layout="mono")
        stream.bit_rate = bits_per_second
        frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        frame.sample_rate = RATE_HZ
        for encoded_frame in (frame, None):
            container.mux(stream.encode(encoded_frame))
    return read_audio(content.getvalue(), RATE_HZ)


def with_noise(waveform: Waveform, ratio_db: float) -> Waveform:
    """Returns sound with white noise below it."""
    level = np.sqrt(np.mean(waveform**2)) * 10 ** (-ratio_db / 20)
    return waveform + level * np.random.default_rng(0).standard_normal(len(waveform)).astype(np.float32)


PICTURE_COPIES: Mapping[str, Callable[[Frames], Frames]] = {
    "as written (crf 17)": lambda frames: frames,
    **{f"encoded again, crf {crf}": lambda frames, crf=crf: encoded(frames, crf) for crf in (18, 23, 28, 32)},
    **{f"scaled to {size:.0%}, crf 20": lambda frames, size=size: encoded(scaled(frames, size), 20)
       for size in (0.5, 0.75, 1.5)},
    "cropped to 70 % a side, crf 20": lambda frames: encoded(cropped(frames), 20),
    "mirrored, crf 20": lambda frames: encoded(frames[:, :, ::-1], 20),
    "cut to 1 s": lambda frames: frames[20:36],
}  # fmt: skip
SOUND_COPIES: Mapping[str, Callable[[Waveform], Waveform]] = {
    "as written (AAC 128k)": lambda waveform: waveform,
    **{f"encoded again, AAC {rate}k": lambda waveform, rate=rate: aac(waveform, rate * 1000) for rate in (128, 96, 64)},
    "encoded again, MP3 64k": lambda waveform: aac(waveform, 64_000, "libmp3lame"),
    "cut to 2 s": lambda waveform: waveform[RATE_HZ : 3 * RATE_HZ],
    "cut to 1 s": lambda waveform: waveform[RATE_HZ : 2 * RATE_HZ],
    "noise 30 dB below": lambda waveform: with_noise(waveform, 30),
    "half as loud": lambda waveform: waveform / 2,
}


def main() -> None:
    arguments = _arguments()
    folders = dict(each.split("=", 1) for each in arguments.folders)
    work = Path(arguments.work)
    detected: dict[str, dict[str, list[tuple[bool, float]]]] = {}
    for name, folder in folders.items():
        for path in tqdm(sorted(Path(folder).glob("*.mp4")), desc=name, file=sys.stderr):
            for copy, found, score in _copies(path, work / name):
                detected.setdefault(copy, {}).setdefault(name, []).append((found, score))
    harm = {name: _harm(Path(folder), work / name, arguments.assets) for name, folder in folders.items()}
    rows = [[copy, *(_cell(found[name]) for name in folders)] for copy, found in detected.items()]
    columns = [f"{name} {version}" for name in folders for version in ("without", "with marks")]
    scores = [
        [
            f"`{column}`",
            *(_number(harm[name][version].get(column)) for name in folders for version in ("plain", "marked")),
        ]
        for column in COLUMNS
    ]
    result = {
        "clips": {name: len(list(Path(folder).glob("*.mp4"))) for name, folder in folders.items()},
        **circumstances("cpu"),
        "tables": {
            "detection": {"head": ["copy", *folders], "rows": rows},
            "harm": {"head": ["mean", *columns], "rows": scores},
        },
    }
    write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["tables"], indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="NAME=DIR")
    parser.add_argument("--assets", type=Path, required=True, help="networks of the metrics")
    parser.add_argument("--work", default="out/provenance", help="folder for the clips")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def _copies(path: Path, work: Path) -> Iterator[tuple[str, bool, float]]:
    """Writes a clip with and without marks, and yields what its copies and the unmarked one are taken for."""
    video = read_video(path, FPS, rate_hz=RATE_HZ)
    assert video.waveform is not None
    marked = mark_clip(video.frames, video.waveform, RATE_HZ)
    for version, frames, waveform in (
        ("plain", video.frames, video.waveform),
        ("marked", marked.frames, marked.waveform),
    ):
        (work / version).mkdir(parents=True, exist_ok=True)
        write_clip(work / version / path.name, frames, FPS, waveform, RATE_HZ, {})
    for version, copies in (("plain", {"without a mark": lambda each: each}), ("marked", PICTURE_COPIES)):
        frames = read_video(work / version / path.name, FPS).frames[:LOOKED_AT]
        for copy, change in copies.items():
            match = _looked_at(change(frames))
            yield f"picture: {copy}", match.is_found, match.score
    for version, copies in (("plain", {"without a mark": lambda each: each}), ("marked", SOUND_COPIES)):
        waveform = read_audio(work / version / path.name, RATE_HZ)
        for copy, change in copies.items():
            score = max(window_scores(change(waveform), RATE_HZ), default=0.0)
            yield f"sound: {copy}", score > SCORE_THRESHOLD, score


def _looked_at(frames: Frames) -> PictureMatch:
    """Returns the match as `verify` finds it: at its own size, else at any."""
    picture = mean_luma(frames)
    match = match_picture(picture)
    return match if match.is_found else max(match, match_picture(picture, None), key=lambda each: each.score)


def _harm(folder: Path, work: Path, assets: Path) -> dict[str, dict[str, float | None]]:
    """Returns the means of both versions of the clips by column."""
    prompts = folder / "prompts.jsonl"
    read_prompts(prompts)
    systems = [System(name=version, folder=work / version) for version in ("plain", "marked")]
    report = evaluate(
        EvaluationConfig(
            prompts=prompts,
            out=work / "report",
            systems=systems,
            metrics=METRICS,
            assets=assets,
            published=NO_PUBLISHED_ROWS,
            device="cpu",
        )
    )
    means: dict[str, dict[str, float | None]] = {"plain": {}, "marked": {}}
    for (system, column), estimate in report.estimates.items():
        means[system][column] = estimate.mean
    return means


def _cell(found: list[tuple[bool, float]]) -> str:
    scores = [score for _, score in found]
    return f"{sum(each for each, _ in found)} of {len(found)} ({min(scores):.2f} to {max(scores):.2f})"


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
