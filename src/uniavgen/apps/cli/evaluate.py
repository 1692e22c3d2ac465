"""`uniavgen evaluate`: a model on held-out rendered clips. `uniavgen train-mouth-reader`: what it is measured with."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uniavgen.apps.cli import options as o
from uniavgen.apps.cli.making import BASE, NUM_FRAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uniavgen.evaluation.metric import MadeClip, Metric, TruthClip
    from uniavgen.evaluation.mouth import MouthReader
    from uniavgen.evaluation.protocol import ClipStore, System
    from uniavgen.inference.pipeline import UniAVGenPipeline
    from uniavgen.inference.request import SamplingConfig
    from uniavgen.timebase import ClipTiming

SHEET_ROWS = 8


def evaluate(
    data: Annotated[Path, typer.Option(help="Folder of held-out rendered clips (uniavgen synth).")],
    out: Annotated[Path, typer.Option(help="Folder for the report; a second run goes on where it stopped.")],
    model: o.Model = "nano",
    clips: Annotated[int, typer.Option(min=2, help="How many clips.")] = 20,
    steps: o.Steps = None,
    guidance: o.Guidance = None,
    video_guidance: o.VideoGuidance = None,
    seed: Annotated[int, typer.Option(help="Noise of the first clip; the others count on.")] = 0,
    mouth_reader: Annotated[Path | None, typer.Option(help="Another mouth reader than the built-in one.")] = None,
    whisper: Annotated[str | None, typer.Option(help="Folder of a CTranslate2 Whisper model, for WER.")] = None,
    num_frames: o.NumFrames = None,
    device: o.Device = "auto",
) -> None:
    """Audio-driven clips of a model against the truth: does the mouth follow the sound, is the face found."""
    from uniavgen.apps.cli.models import check_model, load
    from uniavgen.evaluation.mouth import MouthReader
    from uniavgen.evaluation.protocol import ClipStore, run
    from uniavgen.evaluation.report import Report
    from uniavgen.evaluation.truth import iterate_truth

    num_frames = NUM_FRAMES if num_frames is None else num_frames
    folder = check_model(model, device)
    reader = MouthReader.load(mouth_reader)
    truths = list(iterate_truth(str(data), BASE.clip(num_frames), clips))
    pipeline = load(model, folder, device)
    timing = pipeline.transformer.settings.timebase.clip(num_frames)
    asked = {"steps": steps, "guidance": guidance, "video_guidance": video_guidance}
    options = {name: value for name, value in asked.items() if value is not None}
    name = Path(model).name
    protocol = {
        "model": name,
        "weights": model if folder is None else _checksum(folder),
        "task": "animation",
        "num_frames": num_frames,
        "seed": seed,
        **_plain(_sampling(pipeline, options)),
    }
    store = ClipStore(out)
    store.claim(protocol)
    systems = _systems(pipeline, name, timing, options, seeds={t.key: seed + i for i, t in enumerate(truths)})
    metrics = _metrics(reader, timing, whisper)
    with _Bar(len(systems) * len(truths)) as bar:
        scores = run(systems, metrics, truths, store, bar.show)
    names = [metric.name for metric in metrics]
    against = f"{name}-shuffled-audio"
    compared = ("mouth_correlation", "mouth_correlation_spoken", "face_mask_iou")
    report = Report(
        title=f"{name} on held-out rendered clips, driven by sound",
        protocol={"clips": len(truths), **protocol},
        networks={name: protocol["weights"], "mouth reader": _reader_checksum(mouth_reader)},
        metrics={metric.name: metric.description for metric in metrics},
        systems=scores,
        comparisons=[(metric, name, against) for metric in names if metric in compared],
    )
    report.write(out)
    _sheet(out / "sheet.png", truths[:SHEET_ROWS], store, name, reader)
    typer.echo(report.to_markdown())
    typer.echo(f"in {out}: report.json, report.md, sheet.png, clips/")


def train_mouth_reader(
    data: Annotated[Path, typer.Option(help="Folder of rendered clips to learn from (uniavgen synth).")],
    held_out: Annotated[Path, typer.Option(help="Folder of other rendered clips, to measure the reader on.")],
    out: Annotated[Path, typer.Option(help="File for the reader, .safetensors.")],
    clips: Annotated[int, typer.Option(min=1, help="How many clips to learn from, at most.")] = 400,
    held_out_clips: Annotated[int, typer.Option(min=1, help="How many clips to measure on, at most.")] = 40,
    steps: Annotated[int, typer.Option(min=1, help="Training steps; 1000 take some 5 minutes on a core.")] = 1000,
    seed: Annotated[int, typer.Option(help="Start and order of learning.")] = 0,
) -> None:
    """Train the network that reads mouth opening from pictures, and say how well it does."""
    from tqdm import tqdm

    from uniavgen.data.shards import ShardSet
    from uniavgen.evaluation.mouth_training import (
        FrameSet,
        MouthTrainingConfig,
        held_out_correlation,
        train_mouth_reader,
    )
    from uniavgen.evaluation.truth import iterate_truth
    from uniavgen.media.files import check_writable

    check_writable(out, (".safetensors",))
    timing = BASE.clip(NUM_FRAMES)
    count = min(clips, len(ShardSet(data)))
    config = MouthTrainingConfig(steps=steps, seed=seed)
    truths = tqdm(iterate_truth(str(data), timing, count), total=count, unit="clip", desc="read")
    frames = FrameSet.gather(iter(truths))
    with tqdm(total=steps, unit="step", desc="train", smoothing=0.05) as bar:

        def on_step(step: int, loss: float) -> None:
            if step % 20 == 0:
                bar.set_postfix(loss=f"{loss:.3f}")
            bar.update()

        reader = train_mouth_reader(frames, config, on_step)
    measured = min(held_out_clips, len(ShardSet(held_out)))
    ceiling = held_out_correlation(reader, iterate_truth(str(held_out), timing, measured))
    settings = {name: str(value) for name, value in asdict(config).items()}
    reader.save(out, {**settings, "clips": str(count), "held_out_correlation": f"{ceiling:.4f}"})
    typer.echo(f"{out}: correlation with truth {ceiling:.3f} on {measured} held-out clips")


class _Bar:
    """Progress of `protocol.run`."""

    def __init__(self, total: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=total, unit="clip", smoothing=0.1)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, step: Any) -> None:
        self._bar.set_description(step.system)
        self._bar.update()


def _systems(
    pipeline: "UniAVGenPipeline", name: str, timing: "ClipTiming", options: dict[str, Any], seeds: dict[str, int]
) -> "Sequence[System]":
    from uniavgen.codecs.video_vae import VideoCodec
    from uniavgen.evaluation.metric import MadeClip
    from uniavgen.evaluation.systems import CodecSystem, ModelSystem, TruthSystem
    from uniavgen.inference.picture import resize
    from uniavgen.inference.request import Request
    from uniavgen.tasks.table import Task

    def animate(clip: "TruthClip", driver: "TruthClip") -> "MadeClip":
        request = Request(
            task=Task.ANIMATION,
            picture=clip.frames[0],
            audio=driver.waveform,
            speech=driver.speech,
            caption=clip.caption,
            num_frames=timing.num_frames,
            seed=seeds[clip.key],
            **options,
        )
        made = pipeline(request)
        return MadeClip(frames=made.frames, waveform=made.waveform, face_mask=made.face_mask)

    codec = VideoCodec(pipeline.vae)
    height, width, _ = pipeline.picture_size.fit(128, 128)
    rows, columns = (
        side // codec.spatial_stride // patch
        for side, patch in zip((height, width), pipeline.transformer.settings.video.patch[1:], strict=True)
    )
    grid = (rows, columns)
    return (
        TruthSystem(name="truth", description="the clip itself: the ceiling", timing=timing, grid=grid),
        TruthSystem(name="truth-shuffled", description="another clip: chance", timing=timing, grid=grid, shuffled=True),
        CodecSystem(
            name=f"{name}-codec",
            description="the clip through the video autoencoder and back: the ceiling of the model",
            codec=codec,
            resize=lambda frames: resize(frames, pipeline.picture_size),
        ),
        ModelSystem(name=name, description="made from the clip's first picture and its sound", generate=animate),
        ModelSystem(
            name=f"{name}-shuffled-audio",
            description="made from the clip's first picture and the sound of another clip, measured against the first",
            generate=animate,
            shuffled=True,
        ),
    )


def _metrics(reader: "MouthReader", timing: "ClipTiming", whisper: str | None) -> "Sequence[Metric]":
    from uniavgen.evaluation.face_mask import FaceMaskIoU
    from uniavgen.evaluation.metric import Unavailable
    from uniavgen.evaluation.mouth import MouthCorrelation, MouthCurve, MouthRange, SpokenMouthCorrelation
    from uniavgen.evaluation.wer import WordErrorRate

    if whisper is None:
        reason = "needs a Whisper model: --whisper FOLDER"
        wer: Metric = Unavailable(name=WordErrorRate.name, description=WordErrorRate.description, reason=reason)
    else:
        wer = WordErrorRate(whisper, timing.base)
    curve = MouthCurve(reader)
    return (MouthCorrelation(curve), SpokenMouthCorrelation(curve), MouthRange(curve), FaceMaskIoU(timing), wer)


def _sampling(pipeline: "UniAVGenPipeline", options: dict[str, Any]) -> "SamplingConfig":
    from dataclasses import replace

    return replace(pipeline.sampling, **options)


def _plain(sampling: "SamplingConfig") -> dict[str, Any]:
    from uniavgen.config import dump

    return dump(sampling)


def _sheet(path: Path, truths: "Sequence[TruthClip]", store: "ClipStore", name: str, reader: "MouthReader") -> None:
    from uniavgen.evaluation.mouth import FaceSquare, correlation
    from uniavgen.evaluation.sheet import Row, contact_sheet
    from uniavgen.media.files import whole_file

    rows = []
    for truth in truths:
        made = store.load(name, truth.key)
        if made is not None and truth.face_mask.any():
            opening = reader.read(made.frames, FaceSquare.of(truth.face_mask))
            score = correlation(opening, truth.mouth_opening)
            rows.append(Row(truth=truth, made=made, opening=opening, caption=f"{truth.key}: mouth {score:+.2f}"))
    with whole_file(path) as partial:
        contact_sheet(rows).save(partial)


def _checksum(folder: Path) -> str:
    """Of all files of a model, by name."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _reader_checksum(path: Path | None) -> str:
    from uniavgen.evaluation.mouth import SHIPPED

    return hashlib.sha256((path or Path(str(SHIPPED))).read_bytes()).hexdigest()[:16]
