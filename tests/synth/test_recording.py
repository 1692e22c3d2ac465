"""Speech made ahead: what is kept is what was said, and a stopped run goes on."""

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


def test_what_is_kept_reads_back_as_it_was_said(tmp_path: Path, speech_folder: Path) -> None:
    source = RecordedSpeech(speech_folder)
    ids = list(recorder(tmp_path, speech_folder).record(4))
    assert ids == [source.line(3, number).utterance for number in range(4)]
    again = RecordedSpeech(tmp_path)
    for number in range(4):
        line = again.line(0, number)
        first = next(n for n in range(4) if source.line(3, n).utterance == line.utterance)
        assert line == source.line(3, first)
        told, said = again.synthesize(line, 1.0), source.synthesize(line, 1.0)
        assert told.phones == said.phones
        assert told.duration_s == pytest.approx(said.duration_s, abs=0.025)
        length = min(len(told.waveform), len(said.waveform))
        assert np.corrcoef(told.waveform[:length], said.waveform[:length])[0, 1] > 0.98


def test_a_stopped_run_goes_on_behind_its_last_whole_line(tmp_path: Path, speech_folder: Path) -> None:
    list(recorder(tmp_path / "whole", speech_folder).record(6))
    list(recorder(tmp_path / "parts", speech_folder).record(2))
    index = tmp_path / "parts" / "index.jsonl"
    with index.open("a") as file:
        file.write('{"id": "00')
    assert len(list(recorder(tmp_path / "parts", speech_folder).record(6))) == 4
    assert index.read_text() == (tmp_path / "whole" / "index.jsonl").read_text()
    assert not list(recorder(tmp_path / "parts", speech_folder).record(5))


def test_utterances_of_another_source_are_not_gone_on_with(tmp_path: Path, speech_folder: Path) -> None:
    (tmp_path / "index.jsonl").write_text('{"id": "elsewhere"}\n')
    with pytest.raises(DataError, match="another source"):
        list(recorder(tmp_path, speech_folder).record(2))
    (tmp_path / "index.jsonl").write_text("nonsense\n")
    with pytest.raises(DataError, match="cannot be read"):
        recorder(tmp_path, speech_folder).recorded_ids()


def test_speech_is_not_made_of_made_speech(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kokoro or flite"):
        speech(utterances=1, out=tmp_path / "out", source="made")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_processes_do_not_change_what_is_kept(tmp_path: Path, speech_folder: Path) -> None:
    for jobs in (1, 2):
        list(recorder(tmp_path / str(jobs), speech_folder).record(5, jobs))
    one, two = ((tmp_path / str(jobs) / "index.jsonl").read_text() for jobs in (1, 2))
    assert one == two
    alone, parallel = (RecordedSpeech(tmp_path / str(jobs)) for jobs in (1, 2))
    for number in range(5):
        line = alone.line(0, number)
        np.testing.assert_array_equal(alone.synthesize(line, 1.0).waveform, parallel.synthesize(line, 1.0).waveform)
