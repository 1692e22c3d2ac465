"""When somebody speaks, by Silero VAD."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from uniavgen.config import Config
from uniavgen.config.values import NonNegative, Probability
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.media.audio_stream import stream_audio
from uniavgen.media.reader import open_media
from uniavgen.perception.sound import SPEECH_RATE_HZ
from uniavgen.perception.voice_activity import STEP_S, VAD_PACKAGES, VoiceActivity, speech_intervals


@dataclass(frozen=True, kw_only=True)
class VoiceActivityConfig(Config):
    """Settings of `VoiceActivityStage`."""

    begin: Probability = 0.5
    """Probability from which speech begins. [Silero VAD]"""
    end: Probability = 0.35
    """Probability below which it ends. [Silero VAD]"""
    min_speech_s: NonNegative = 0.25
    """Shorter speech is none. [Silero VAD]"""
    min_pause_s: NonNegative = 0.2
    """Shorter pauses are none. [ours]"""


class VoiceActivityStage(Stage):
    """Finds speech.

    Values: speech (start_s, end_s), in order and apart; speech_s, their sum; sound_s, the length of the sound.
    Arrays: probability, of speech, every 32 ms.
    """

    name = "voice_activity"
    packages = VAD_PACKAGES
    settings_class = VoiceActivityConfig
    settings: VoiceActivityConfig

    def setup(self) -> None:
        self._network = VoiceActivity()

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        del inputs
        settings = self.settings
        with open_media(source.path) as reader:
            blocks = (block[0] for block in stream_audio(reader, SPEECH_RATE_HZ))
            probabilities = self._network.probabilities(blocks)
        intervals = speech_intervals(
            probabilities, settings.begin, settings.end, settings.min_speech_s, settings.min_pause_s
        )
        values = {
            "speech": [[round(a, 3), round(b, 3)] for a, b in intervals],
            "speech_s": round(sum(b - a for a, b in intervals), 3),
            "sound_s": round(len(probabilities) * STEP_S, 3),
        }
        return StageOutput(values=values, arrays={"probability": probabilities.astype(np.float16)})
