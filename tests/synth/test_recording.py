"""Recorded speech reads back as it was synthesized, and an interrupted run goes on."""

from pathlib import Path

import numpy as np
import pytest

from uniavgen.apps.cli.speech import speech
from uniavgen.errors import ConfigError, DataError
from uniavgen.synth.recording import Recorder
from uniavgen.synth.speech import RecordedSpeech


def recorder(folder: Path, speech_folder: Path, seed: int = 3) -> Recorder:
    """Kept speech is a source like any other, and the quickest."""
    return Recorder(folder=folder, source=RecordedSpeech(speech_folder), seed=seed)


def test_recorded_speech_reads_back_as_it_was_synthesized(tmp_path: Path, speech_folder: Path) -> None:
    source = RecordedSpeech(speech_folder)
    ids = list(recorder(tmp_path, speech_folder).record(4))
    assert ids == [source.line(3, number).utterance for number in range(4)]
    again = RecordedSpeech(tmp_path)
    for number in range(4):
        line = again.line(0, number)
        first = next(n for n in range(4) if source.line(3, n).utterance == line.utterance)
        assert line == source.line(3, first)
        stored, original = again.synthesize(line, 1.0), source.synthesize(line, 1.0)
        assert stored.phones == original.phones
        assert stored.duration_s == pytest.approx(original.duration_s, abs=0.025)
        length = min(len(stored.waveform), len(original.waveform))
        assert np.corrcoef(stored.waveform[:length], original.waveform[:length])[0, 1] > 0.98


def test_recording_resumes_behind_its_last_whole_line(tmp_path: Path, speech_folder: Path) -> None:
    list(recorder(tmp_path / "whole", speech_folder).record(6))
    list(recorder(tmp_path / "parts", speech_folder).record(2))
    index = tmp_path / "parts" / "index.jsonl"
    with index.open("a") as file:
        file.write('{"id": "00')
    assert len(list(recorder(tmp_path / "parts", speech_folder).record(6))) == 4
    assert index.read_text() == (tmp_path / "whole" / "index.jsonl").read_text()
    assert not list(recorder(tmp_path / "parts", speech_folder).record(5))


def test_recording_refuses_a_folder_of_another_source(tmp_path: Path, speech_folder: Path) -> None:
    (tmp_path / "index.jsonl").write_text('{"id": "elsewhere"}\n')
    with pytest.raises(DataError, match="another source"):
        list(recorder(tmp_path, speech_folder).record(2))
    (tmp_path / "index.jsonl").write_text("nonsense\n")
    with pytest.raises(DataError, match="is not JSON"):
        recorder(tmp_path, speech_folder).recorded_ids()


def test_recording_refuses_recorded_speech_as_its_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kokoro or flite"):
        speech(utterances=1, out=tmp_path / "out", source="made")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_recording_is_the_same_with_more_processes(tmp_path: Path, speech_folder: Path) -> None:
    for jobs in (1, 2):
        list(recorder(tmp_path / str(jobs), speech_folder).record(5, jobs))
    one, two = ((tmp_path / str(jobs) / "index.jsonl").read_text() for jobs in (1, 2))
    assert one == two
    alone, parallel = (RecordedSpeech(tmp_path / str(jobs)) for jobs in (1, 2))
    for number in range(5):
        line = alone.line(0, number)
        np.testing.assert_array_equal(alone.synthesize(line, 1.0).waveform, parallel.synthesize(line, 1.0).waveform)
