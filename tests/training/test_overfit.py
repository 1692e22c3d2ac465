"""Two clips that nano has not seen are overfitted: the samples get their voices and their mouths.

A loss can fall while a voice or a mouth is silently not learned, so what is measured here are sampled clips.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float, Float32, UInt8
from scipy.signal import resample_poly

from uniavgen.codecs.video_vae import VideoCodec
from uniavgen.config import load
from uniavgen.data.extract import FeatureExtractor
from uniavgen.data.features import EMPTY_CAPTION
from uniavgen.data.sample import Sample
from uniavgen.data.shards import ShardWriter
from uniavgen.evaluation.metrics.mouth import correlation
from uniavgen.inference.clip import Clip
from uniavgen.inference.request import Request
from uniavgen.inference.resize import ResizeAndCrop
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.perception.sound import SPEECH_RATE_HZ
from uniavgen.perception.traits import VoiceTraitClassifier, voice_statistics
from uniavgen.perception.voice_features import VOICE_MEL, PitchStatistics, waveform_log_mel
from uniavgen.tasks.table import Task
from uniavgen.timebase import Timebase
from uniavgen.training.config import TrainConfig
from uniavgen.training.stage import StageRun, build_stage_run, build_training_data
from uniavgen.workflows.load_codecs import ModelCodecs, load_codecs
from uniavgen.workflows.model_files import find_model

FRAMES, SIZE = 33, 64
RATE, FPS = Timebase.sample_rate_hz, float(Timebase.fps)
NANO = find_model("nano")
SETTINGS = [
    f"data.num_frames={FRAMES}",
    "stage.tasks.ratios={joint: 1, reference_audio: 0, continuation: 0, dubbing: 0, animation: 0}",
    "stage.dropout={alone: 0, no_text: 0}",
    "stage.losses={face_mask: 0.1, face_focus: 0, mouth_focus: 5, duration: 0.01}",
    "train.steps=80",
    "train.precision=fp32",
    "train.compile=false",
    "train.ema=0",
    "optim.lr=1.0e-3",
    "optim.warmup_steps=10",
    "optim.decay_steps=40",
]


def syllables(seed: int, rate: float) -> Float[np.ndarray, " n"]:
    """Returns the loudness of a clip's speech, 0 to 1, which opens the mouth too."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(FRAMES / FPS * rate)) / rate
    loudness, start = np.zeros(len(time)), 0.2
    while start < FRAMES / FPS - 0.3:
        length = rng.uniform(0.18, 0.32)
        inside = (time >= start) & (time < start + length)
        loudness[inside] = rng.uniform(0.6, 1.0) * np.sin(np.pi * (time[inside] - start) / length)
        start += length + rng.uniform(0.1, 0.3)
    return loudness


def voiced(seed: int, pitch_hz: float, formant_hz: float) -> Float32[np.ndarray, " samples"]:
    loudness = syllables(seed, RATE)
    time = np.arange(len(loudness)) / RATE
    harmonics = [
        (np.exp(-(((pitch_hz * k - formant_hz) / 700) ** 2)) * np.sin(2 * np.pi * pitch_hz * k * time + k))
        + 0.3 / k * np.sin(2 * np.pi * pitch_hz * k * time)
        for k in range(1, 25)
    ]
    waveform = np.sum(harmonics, axis=0) * loudness
    return (0.5 * waveform / np.abs(waveform).max()).astype(np.float32)


def drawn_clip(number: int) -> Sample:
    """A face of ellipses whose mouth opens with the sound; the two clips differ in everything."""
    skin, background = [((225, 180, 150), (60, 110, 160)), ((140, 95, 70), (170, 160, 90))][number]
    opening = syllables(number, FPS * 16).reshape(FRAMES, 16).mean(axis=1)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    face = ((x - 0.5) / 0.34) ** 2 + ((y - 0.5) / 0.42) ** 2 < 1
    frames = np.empty((FRAMES, SIZE, SIZE, 3), np.uint8)
    for frame, height in zip(frames, 0.015 + 0.11 * opening, strict=True):
        frame[:] = np.where(face[..., None], skin, background)
        for eye in (0.38, 0.62):
            frame[((x - eye) / 0.05) ** 2 + ((y - 0.4) / 0.04) ** 2 < 1] = (40, 30, 30)
        frame[((x - 0.5) / 0.13) ** 2 + ((y - 0.7) / height) ** 2 < 1] = (90, 10, 20)
    return Sample(
        key=f"clip{number}",
        text=("Morning.", "Evening.")[number],
        caption=("A pale face.", "A dark face.")[number],
        speaker=f"speaker{number}",
        waveform=voiced(number, *((110, 500), (230, 1500))[number]),
        frames=frames,
        face_mask=np.repeat(face[None], FRAMES, axis=0),
        mouth_opening=(0.01 + 0.1 * opening).astype(np.float32),
    )


def mouth_curve(frames: UInt8[np.ndarray, "F H W 3"]) -> Float[np.ndarray, " F"]:
    """Returns how dark the place of the mouth is in each frame."""
    low, high, left, right = (round(SIZE * edge) for edge in (0.55, 0.85, 0.36, 0.64))
    return -frames[:, low:high, left:right, 1].mean(axis=(1, 2), dtype=np.float64)


class VoiceSimilarity:
    """Cosine of two voices in the first layers of the shipped voice reader."""

    def __init__(self) -> None:
        self.layers = VoiceTraitClassifier.load().answer[:4]

    @torch.no_grad()
    def __call__(self, one: Float32[np.ndarray, " n"], other: Float32[np.ndarray, " m"]) -> float:
        return float(torch.nn.functional.cosine_similarity(self._embed(one), self._embed(other)))

    def _embed(self, waveform: Float32[np.ndarray, " n"]) -> torch.Tensor:
        at_16_khz = resample_poly(waveform, SPEECH_RATE_HZ // 8000, RATE // 8000).astype(np.float32)
        log_mel = torch.from_numpy(waveform_log_mel(at_16_khz, VOICE_MEL))
        pitch = torch.from_numpy(PitchStatistics.of(at_16_khz).values())
        return self.layers(voice_statistics(log_mel[None], pitch[None]))


def run_on(clips: list[Sample], codecs: ModelCodecs, folder: Path) -> StageRun:
    settings = load(TrainConfig, ["nano/stage3"], SETTINGS)
    model, caption = settings.model, codecs.caption_encoder
    extract = FeatureExtractor(
        base=model.timebase, patch=model.video.patch[1], video=VideoCodec(codecs.vae), caption=caption
    )
    features = [extract(clip, model.timebase.clip(FRAMES)) for clip in clips]
    empty = replace(features[0], key=EMPTY_CAPTION, text="", caption=caption.encode([""])[0].float())
    with ShardWriter(folder / "features") as writer:
        for one in (empty, *features):
            writer.write(one.key, one.to_parts())
    data = build_training_data(settings, [str(folder / "features")], codecs.speech_tokenizer)
    transformer = UniAVGenTransformer.from_pretrained(NANO / "transformer").float()
    return build_stage_run(settings, transformer, data, folder, torch.device("cpu"))


@torch.no_grad()
def samples(run: StageRun, clips: list[Sample], codecs: ModelCodecs) -> list[Clip]:
    assert isinstance(run.state.model, UniAVGenTransformer)
    pipeline = codecs.build_pipeline(run.state.model.eval(), ResizeAndCrop(height=SIZE, width=SIZE))
    sampling = {"steps": 8, "guidance": "none", "shift": 3.0}
    return [
        pipeline(
            Request(
                task=Task.JOINT,
                speech=clip.text,
                caption=clip.caption,
                image=clip.frames[0],
                num_frames=FRAMES,
                seed=7,
                sampling=sampling,
            )
        )
        for clip in clips
    ]


@pytest.mark.slow
def test_overfitted_clips_are_sampled_with_their_voices_and_mouths(tmp_path: Path):
    clips, codecs = [drawn_clip(0), drawn_clip(1)], load_codecs(NANO)
    run, similarity = run_on(clips, codecs, tmp_path), VoiceSimilarity()
    before = samples(run, clips, codecs)
    run.train()
    after = samples(run, clips, codecs)
    for clip, other, *of_clip in zip(clips, reversed(clips), before, after, strict=True):
        voices = [similarity(sample.waveform, clip.waveform) for sample in of_clip]
        mouths = [correlation(mouth_curve(sample.frames), mouth_curve(clip.frames)) for sample in of_clip]
        # Measured: voices 0.75 to 0.99 and 0.39 to 0.98, mouths 0.10 to 0.78 and 0.24 to 0.62.
        assert voices[1] > voices[0] + 0.15
        assert voices[1] > similarity(of_clip[1].waveform, other.waveform) + 0.15
        assert mouths[1] > max(mouths[0] + 0.2, 0.4)
