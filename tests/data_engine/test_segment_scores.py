"""Scores of sound and words for each segment: planted music, a second voice and unsure words are seen."""

import numpy as np
import pytest
from tests.data_engine.talking_films import CLIPS, FPS, RATE_HZ, clip_sound, music, write_talking
from tests.data_engine.test_sound_stages import context_of, voice_activity

from uniavgen.data_engine.rights import Rights
from uniavgen.data_engine.segment import SpeechSegment
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import StageContext, StageOutput
from uniavgen.data_engine.stages.loudness import LoudnessConfig, LoudnessStage
from uniavgen.data_engine.stages.sound_quality import SoundQualityConfig, SoundQualityStage
from uniavgen.data_engine.stages.speaker import SpeakerConfig, SpeakerStage, voice_agreement
from uniavgen.data_engine.stages.wording import WordingConfig, WordingStage

CLIP_S = float(81 / FPS)
SOURCE = SourceVideo(path=CLIPS[0], key="a", rights=Rights())


def _segments(*stretches):
    segments = [
        SpeechSegment(
            start_s=start_s, end_s=end_s, shot=0, track=0, num_faces=1, face_share=1.0, speech_share=1.0,
            mouth_movement=0.1, mouth_loudness=0.5,
        )
        for start_s, end_s in stretches
    ]  # fmt: skip
    return StageOutput(values={"segments": [segment.values() for segment in segments]})


def test_music_under_speech_is_seen_beside_clean_speech_and_silence(tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra eval)")
    clean = clip_sound(CLIPS[0])
    level = np.sqrt(np.mean(clean[np.abs(clean) > 1e-3] ** 2))
    quiet_music = music(len(clean) / RATE_HZ) * level / 0.1 * 10 ** (-12 / 20)
    sounds = [clean, (clean + quiet_music).astype(np.float32), np.zeros_like(clean)]
    source = write_talking(tmp_path / "a.mp4", CLIPS[:3], sounds)
    stage = SoundQualityStage(SoundQualityConfig(), context_of("dnsmos"))
    stage.setup()
    segments = _segments(*((k * CLIP_S + 0.1, (k + 1) * CLIP_S - 0.1) for k in range(3)))
    loudness = LoudnessStage(LoudnessConfig(), StageContext())(source, {})
    activity = voice_activity(source)
    inputs = {"segments": segments, "loudness": loudness, "voice_activity": activity}
    first, second, silent = stage(source, inputs).values["segments"]
    assert first["bak"] > second["bak"] + 0.5
    assert first["background_db"] < -30 < second["background_db"] < 0
    assert silent == {"reason": "the segment is silent"}
    assert first["clipping"] < 0.01
    nowhere = {"voice_activity": StageOutput(values={"speech": [[0.0, 3 * CLIP_S]]})}
    assert stage(source, inputs | nowhere).values["segments"][0]["background_db"] is None


def test_second_voice_within_a_segment_is_seen(tmp_path):
    pytest.importorskip("kaldi_native_fbank", reason="kaldi-native-fbank is not installed (extra eval)")
    source = write_talking(tmp_path / "a.mp4", CLIPS)
    stage = SpeakerStage(SpeakerConfig(), context_of("speaker"))
    stage.setup()
    # Of the shipped clips the last three have one kind of voice, the first another.
    stretches = [(0.6, 2.8), (CLIP_S + 0.5, CLIP_S + 2.8), (2 * CLIP_S + 0.5, 2 * CLIP_S + 3.0), (0.1, 0.2)]
    output = stage(source, {"segments": _segments(*sorted(stretches))})
    embedding = output.arrays["embedding"]
    assert output.values["segments"][0]["reason"].startswith("the sound lasts 0.10 s")
    assert not embedding[0].any()
    np.testing.assert_allclose(np.linalg.norm(embedding[1:], axis=1), 1, atol=1e-5)
    agreement = [row["agreement"] for row in output.values["segments"]]
    assert agreement[0] is None
    assert agreement[1] < min(agreement[2:])
    assert embedding[2] @ embedding[3] > embedding[1] @ embedding[2] + 0.2


def test_swapped_voice_does_not_agree_with_the_others_of_its_track():
    rng = np.random.default_rng(0)
    voice, other = np.linalg.qr(rng.normal(size=(192, 2)))[0].T
    voices = np.stack([voice, voice, voice, other, np.zeros(192), other, other]) + 0.03 * rng.normal(size=(7, 192))
    voices[4] = 0
    agreement = voice_agreement(voices, np.array([0, 0, 0, 0, 0, 1, 2]))
    assert agreement[4:] == [None, None, None]
    assert agreement[3] < 0.3 < 0.5 < min(agreement[:3])


def test_words_of_each_segment_are_summed_up():
    words = [
        {"start_s": start_s, "end_s": start_s + 0.4, "probability": 0.8, "language": language, "agrees": sure}
        for start_s, language, sure in ((0.5, "en", True), (1.0, "en", False), (1.5, "fr", True), (5.8, "fr", True))
    ]  # fmt: skip
    inputs = {"segments": _segments((0.0, 2.0), (3.0, 5.0)), "transcript": StageOutput(values={"words": words})}
    first, second = WordingStage(WordingConfig(), StageContext())(SOURCE, inputs).values["segments"]
    assert first == {
        "num_words": 3, "words_per_s": 1.5, "agreement": 0.6667, "probability": 0.8, "language": "en",
        "num_languages": 2,
    }  # fmt: skip
    assert second == {"reason": "no word is heard"}
