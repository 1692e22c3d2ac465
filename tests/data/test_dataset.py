"""Batches of training: transcripts, reference audio, and that nothing depends on what is in memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from uniavgen.codecs import mel
from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.data.buckets import BucketRule, ClipBuckets, sizes_of
from uniavgen.data.clip_reader import CacheConfig
from uniavgen.data.dataset import CaptionSize, TrainingData, silent_mel
from uniavgen.data.features import EMPTY_CAPTION, Features, FeatureSet
from uniavgen.data.shards import ShardWriter
from uniavgen.data.words import Word
from uniavgen.errors import DataError
from uniavgen.tasks.mixture import StepSpec
from uniavgen.tasks.table import Task
from uniavgen.timebase import Timebase

FRAMES, CROPPED = 33, 17
TIMING = Timebase().clip(FRAMES)
WORDS = ("one", "two", "three", "four")
SPEAKERS = ("ann", "bob", "ann", "ann", "bob", "lone")


def features(i: int) -> Features:
    """Clip i: word k sounds from 0.4 k s for 0.3 s; mel values say which clip they are of."""
    generator = torch.Generator().manual_seed(i)
    return Features(
        key=f"clip{i}",
        text=" ".join(f"{word}{i}" for word in WORDS),
        speaker=SPEAKERS[i],
        words=tuple(Word(text=f"{w}{i}", start_s=0.4 * k, end_s=0.4 * k + 0.3) for k, w in enumerate(WORDS)),
        mel=torch.full((TIMING.num_audio_tokens, 7), float(i)),
        latents=torch.randn(5, TIMING.num_latent_frames, 4, 6, generator=generator).half().float(),
        face_mask=torch.rand(TIMING.num_latent_frames, 6, generator=generator).half().float(),
        caption=torch.ones(2 + i, 11),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    with ShardWriter(folder, 4) as writer:
        empty = Features(
            key=EMPTY_CAPTION, text="", speaker="", words=(), mel=torch.zeros(1, 7), caption=torch.full((1, 11), 9.0)
        )
        writer.write(EMPTY_CAPTION, empty.to_parts())
        for i in range(len(SPEAKERS)):
            writer.write(f"clip{i}", features(i).to_parts())
    return str(folder)


def data(folder, num_frames=FRAMES, with_video=True, memory_bytes=1 << 20):
    sources = (FeatureSet(folder, CacheConfig(memory_bytes=memory_bytes)),)
    sizes = sizes_of([source.index for source in sources]) if with_video else None
    rule = BucketRule(lengths=(Timebase().clip(num_frames),), sizes=sizes)
    return TrainingData(
        sources=sources,
        clips=ClipBuckets(sources, (1,), rule, lambda _: 2, seed=0),
        seed=0,
        symbols=SpeechSymbols.of(),
        caption=CaptionSize(tokens=13, width=11),
        with_video=with_video,
    )


def drawn(reference_tokens=0, task=Task.JOINT):
    return StepSpec(task=task, given_frames=1, given_tokens=0, reference_tokens=reference_tokens)


def decode_symbols(text, row):
    """Symbols back to text."""
    length = int(text.speech_length[row])
    return "".join(chr(int(i) + 31) for i in text.speech[row, :length] if i)


def test_features_come_back_as_float16_stores_them(folder):
    stored = FeatureSet(folder)
    assert len(stored) == len(SPEAKERS)
    assert tuple(stored.index.speakers[number] for number in stored.index.speaker.tolist()) == SPEAKERS
    for i in range(len(stored)):
        assert (stored[i].text, stored[i].words) == (features(i).text, features(i).words)
        for name in ("mel", "latents", "face_mask", "caption"):
            assert torch.equal(getattr(stored[i], name).float(), getattr(features(i), name))


def test_batches_do_not_depend_on_the_cache(folder):
    cached, read = data(folder), data(folder, memory_bytes=0)
    for step in range(3):
        numbers = range(2 * step, 2 * step + 2)
        a, b = cached.batch(drawn(60), numbers), read.batch(drawn(60), numbers)
        assert torch.equal(a.mel, b.mel)
        assert torch.equal(a.reference_audio, b.reference_audio)
        assert torch.equal(a.text.speech, b.text.speech)


def test_batch_holds_the_drawn_clips(folder):
    clips = data(folder)
    batch = clips.batch(drawn(), range(6))
    order = [clips.clips.locate(n).index for n in range(6)]
    assert sorted(order) == list(range(6))
    for row, i in enumerate(order):
        assert torch.equal(batch.latents[row], features(i).latents)
        assert torch.equal(batch.face_mask[row], features(i).face_mask)
        assert torch.equal(batch.mel[row], features(i).mel)
        assert decode_symbols(batch.text, row) == features(i).text
        assert torch.equal(batch.text.caption[row, : 2 + i], torch.ones(2 + i, 11))
        assert not batch.text.caption[row, 2 + i :].any()


def test_unconditional_text_is_the_empty_caption_and_filler(folder):
    batch = data(folder).batch(drawn(), range(3))
    assert torch.equal(batch.uncond_text.caption[:, 0], torch.full((3, 11), 9.0))
    assert not batch.uncond_text.caption[:, 1:].any()
    assert not batch.uncond_text.speech.any()
    assert batch.uncond_text.speech.shape == (3, 10)


def test_transcript_of_a_cut_clip_ends_before_the_cut(folder):
    clips = data(folder, CROPPED)
    batch = clips.batch(drawn(), range(4))
    timing = Timebase().clip(CROPPED)
    assert batch.latents.shape[2] == timing.num_latent_frames
    assert batch.face_mask.shape[1] == timing.num_latent_frames
    assert batch.mel.shape[1] == timing.num_audio_tokens
    for row in range(4):
        i = clips.clips.locate(row).index
        # 17 frames are 1.0625 s: "three" ends at 1.1 s.
        assert decode_symbols(batch.text, row) == f"one{i} two{i}"


@pytest.mark.parametrize("length", [35, 60, 115, 300])
def test_reference_audio_is_another_clip_of_the_speaker_in_whole_words(folder, length):
    clips = data(folder)
    batch = clips.batch(drawn(length, Task.REFERENCE_AUDIO), range(12))
    assert batch.reference_audio.shape == (12, length + 30, 7)
    for row in range(12):
        i = clips.clips.locate(row).index
        other = int(batch.reference_audio[row, 0, 0])
        assert SPEAKERS[other] == SPEAKERS[i]
        assert other != i or SPEAKERS[i] == "lone"
        transcript = decode_symbols(batch.uncond_text, row).rstrip()
        words = transcript.split()
        reference_words = [w.text for w in features(other).words]
        first = reference_words.index(words[0])
        assert words == reference_words[first : first + len(words)]
        assert decode_symbols(batch.text, row) == f"{transcript} {features(i).text}"
        # The words take 0.3 s each, 0.1 s apart; then there is silence.
        tokens = round(40 * len(words)) - 10
        assert tokens <= length
        assert torch.equal(batch.reference_audio[row, :tokens], torch.full((tokens, 7), float(other)))
        assert torch.equal(batch.reference_audio[row, tokens:], silent_mel(length + 30 - tokens, 7))


def test_silence_is_what_the_mel_of_silence_is():
    silence = mel.normalise(mel.log_mel(torch.zeros(1, 2400)))[0]
    assert torch.allclose(silent_mel(10, 80), silence)


def test_batch_of_the_audio_branch_alone_has_no_video(folder):
    batch = data(folder, with_video=False).batch(drawn(), range(2))
    assert batch.latents is None
    assert batch.face_mask is None


def test_clips_that_are_too_short_are_refused(folder):
    with pytest.raises(DataError, match="too short"):
        data(folder, FRAMES + 4).batch(drawn(), range(1))


def test_captions_of_another_encoder_are_refused(folder):
    clips = data(folder)
    other = TrainingData(**{**vars(clips), "caption": CaptionSize(tokens=13, width=12)})
    with pytest.raises(DataError, match="caption"):
        other.batch(drawn(), range(1))


def test_face_mask_on_the_token_grid_is_a_mean_over_frames_and_pixels():
    from uniavgen.data.extract import face_mask_on_grid

    timing = Timebase().clip(9)
    mask = np.random.default_rng(0).random((11, 12, 8)) < 0.4
    grid = face_mask_on_grid(mask, timing, rows=3, columns=2)
    for latent, (start, stop) in enumerate([(0, 1), (1, 5), (5, 9)]):
        for row in range(3):
            for column in range(2):
                cell = mask[start:stop, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                assert grid[latent, 2 * row + column] == pytest.approx(cell.mean(), abs=1e-6)


def test_symbol_times_are_those_of_their_words(folder):
    batch = data(folder).batch(drawn(), [0, 1])
    rate = float(Timebase().tokens_per_second)
    for row, text in enumerate(decode_symbols(batch.text, row) for row in range(2)):
        first = 0
        for k, word in enumerate(text.split()):
            inside = batch.text.symbol_timestamps[row, first : first + len(word)]
            assert ((inside + 0.5) / rate).tolist() == pytest.approx(
                [0.4 * k + 0.3 * (i + 0.5) / len(word) for i in range(len(word))], abs=1e-3
            )
            first += len(word) + 1
        assert batch.text.symbol_timestamps[row, len(text) :].isnan().all()
    assert batch.uncond_text.symbol_timestamps.isnan().all()


def test_symbol_times_behind_a_reference_count_its_tokens(folder):
    batch = data(folder).batch(drawn(reference_tokens=75, task=Task.REFERENCE_AUDIO), [0])
    reference, alone = batch.reference_audio.shape[1], data(folder).batch(drawn(), [0])
    before, times = decode_symbols(batch.uncond_text, 0).rstrip(), batch.text.symbol_timestamps[0]
    assert times[0] >= 0
    assert times[len(before) - 1] < reference
    assert times[len(before)].isnan()
    clip = alone.text.symbol_timestamps[0][~alone.text.symbol_timestamps[0].isnan()]
    assert torch.allclose(times[len(before) + 1 :][: len(clip)], clip + reference)
    assert torch.equal(batch.uncond_text.symbol_timestamps[0, : len(before)], times[: len(before)])
    assert batch.uncond_text.symbol_timestamps[0, len(before) :].isnan().all()


def test_symbol_times_are_missing_where_audio_is_given(folder):
    given = replace(drawn(task=Task.CONTINUATION), given_frames=2, given_tokens=25)
    assert data(folder).batch(given, [0]).text.symbol_timestamps.isnan().all()
