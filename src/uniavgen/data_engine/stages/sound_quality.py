"""How clean the speech of each segment is: DNSMOS, and how far what is behind the speech lies below it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from uniavgen.config import Config
from uniavgen.config.values import NonNegative, Positive, Probability
from uniavgen.data_engine.segment import segments_of
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.data_engine.stages.loudness import loudness_between
from uniavgen.media.audio_stream import cut_audio
from uniavgen.media.reader import open_media
from uniavgen.perception.dnsmos import DNSMOS_PACKAGES, SCALES, WINDOW_S, Dnsmos
from uniavgen.perception.sound import SPEECH_RATE_HZ, is_silent

_FLOOR_DB = -80.0


@dataclass(frozen=True, kw_only=True)
class SoundQualityConfig(Config):
    """Settings of `SoundQualityStage`."""

    frame_s: Positive = 0.032
    """Over which levels are measured. [ours]"""
    loud: Probability = 0.9
    """Quantile of the levels that stands for speech. [ours]"""
    quiet: Probability = 0.25
    """Quantile of the levels in pauses that stands for what is heard there: noise, music, echo. [ours]"""
    min_pauses_s: Positive = 0.3
    """Where there is less pause in a segment, nothing can be said of it. [ours]"""
    pause_margin_s: NonNegative = 0.05
    """Of a pause at either end, in which speech still sounds. [ours]"""


class SoundQualityStage(Stage):
    """Scores each segment.

    Values: segments (sig, bak, ovr: DNSMOS of speech, background and both, 1 to 5; background_db: level where speech
    pauses over that of speech, at most 0, None where it hardly pauses; lufs, peak and clipping as `loudness_between`
    says; or the reason why there are none). Music under speech lowers `bak`, and raises `background_db` since it fills
    the pauses.
    """

    name = "sound_quality"
    version = 2
    requires = ("segments", "loudness", "voice_activity")
    required_networks = ("dnsmos",)
    packages = DNSMOS_PACKAGES
    settings_class = SoundQualityConfig
    settings: SoundQualityConfig

    def setup(self) -> None:
        self._network = Dnsmos(self.context.weights["dnsmos"].path)

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        stretches = [(segment.start_s, segment.end_s) for segment in segments_of(inputs["segments"])]
        speech = np.array(inputs["voice_activity"].values["speech"]).reshape(-1, 2)
        rows: list[Mapping[str, float | str | None]] = []
        with open_media(source.path, quiet=True) as reader:
            for stretch, waveform in zip(stretches, cut_audio(reader, SPEECH_RATE_HZ, stretches), strict=True):
                if is_silent(waveform):
                    rows.append({"reason": "the segment is silent"})
                    continue
                scores = {name: round(value, 3) for name, value in self._scores(waveform).items()}
                background = {"background_db": self._background_db(waveform, speech - stretch[0])}
                rows.append(scores | background | loudness_between(inputs["loudness"], *stretch))
        return StageOutput(values={"segments": rows})

    def _scores(self, waveform: Float32[np.ndarray, " samples"]) -> dict[str, float]:
        """Returns means over windows that cover the sound once; the published script measures one a second."""
        count = int(np.ceil(len(waveform) / SPEECH_RATE_HZ / WINDOW_S))
        scores = [self._network.scores(part) for part in np.array_split(waveform, count)]
        return {name: float(np.mean([each[name] for each in scores])) for name in SCALES}

    def _background_db(
        self, waveform: Float32[np.ndarray, " samples"], speech: Float[np.ndarray, "n 2"]
    ) -> float | None:
        """Returns the level of the pauses over that of the whole; `speech` in seconds of the waveform."""
        frame = max(round(self.settings.frame_s * SPEECH_RATE_HZ), 1)
        if len(waveform) < frame:
            return None
        frames = waveform[: len(waveform) // frame * frame].reshape(-1, frame)
        times = (np.arange(len(frames)) + 0.5)[:, None] * frame / SPEECH_RATE_HZ
        margin_s = self.settings.pause_margin_s
        in_pause = ~((times > speech[:, 0] - margin_s) & (times < speech[:, 1] + margin_s)).any(axis=1)
        if in_pause.sum() * frame < self.settings.min_pauses_s * SPEECH_RATE_HZ:
            return None
        levels = 10 * np.log10(np.square(frames, dtype=np.float64).mean(axis=1) + 10 ** (_FLOOR_DB / 10))
        quiet, loud = np.quantile(levels[in_pause], self.settings.quiet), np.quantile(levels, self.settings.loud)
        return round(float(min(quiet - loud, 0.0)), 3)
