"""Who is forgotten stays away: the source, copies of it in other files and, where it was asked for, the person."""

import numpy as np
import pytest
from tests.data_engine.written_sources import WRITTEN, write_source

from uniavgen.data_engine import forget as forgetting
from uniavgen.data_engine.decisions import decide, write_decisions
from uniavgen.data_engine.forget import DECISIONS_FILE, forget
from uniavgen.data_engine.report_page import PAGE_FILE
from uniavgen.data_engine.rules import Rules
from uniavgen.data_engine.work_folder import WorkFolder
from uniavgen.errors import DataError, OutputError
from uniavgen.timebase import Timebase
from uniavgen.workflows.data_engine import StageSelection, run_stages

SELECTION = StageSelection(stages=WRITTEN)
ANN, BOB = np.eye(8)[:2]
SAID = "it is a fine day for a walk"


def _run(tmp_path):
    """Returns the work folder, and the names of the sources that a run left out."""
    summary = run_stages([tmp_path / "films"], tmp_path / "work", SELECTION)
    return WorkFolder(tmp_path / "work"), [path.name for path in summary.left_out]


def _decide(work):
    """Decides and writes decisions; returns person and reasons of the candidates of each source."""
    decisions = decide(work, Rules(), Timebase().clip(81))
    write_decisions(work.folder / DECISIONS_FILE, decisions, Rules())
    return {each.candidate.source.path.name: (each.person, each.reasons) for each in decisions.candidates}


def test_copy_of_a_forgotten_source_does_not_stay_and_does_not_come_back(tmp_path):
    films = tmp_path / "films"
    write_source(films / "a.mp4", SAID, [ANN])
    write_source(films / "copy.mp4", SAID.upper(), [ANN], note="written anew", look="0123456789abcdee")
    write_source(films / "same_words.mp4", SAID, [BOB], look="fedcba9876543210")
    write_source(films / "same_look.mp4", "I have never been in that town before", [ANN])
    work, _ = _run(tmp_path)
    gone = forget(work, str(films / "a.mp4"))
    assert sorted(path.name for path in gone.files) == ["a.mp4", "copy.mp4"]
    assert {source.path.name for source in work.sources()} == {"same_words.mp4", "same_look.mp4"}
    # Another file with the same content, later.
    write_source(films / "later.mp4", SAID, [ANN], note="another file")
    work, left_out = _run(tmp_path)
    assert sorted(left_out) == ["a.mp4", "copy.mp4", "later.mp4"]
    assert len(list((work.folder / "records").iterdir())) == 2
    assert sorted(_run(tmp_path)[1]) == ["a.mp4", "copy.mp4", "later.mp4"]
    # What is kept says neither who nor what it was.
    kept = (work.folder / "work.json").read_text().lower()
    assert "walk" not in kept
    assert not list(work.folder.glob("*.npz"))


def test_blocked_person_is_known_in_other_videos_and_an_unblocked_one_is_not(tmp_path):
    films = tmp_path / "films"
    write_source(films / "ann.mp4", "she says this and that today", [ANN], look="5" * 16)
    write_source(films / "bob.mp4", "he has not heard of it yet", [BOB], look="a" * 16)
    work, _ = _run(tmp_path)
    people = {name: person for name, (person, _) in _decide(work).items()}
    forget(work, people["ann.mp4"], block=True)
    forget(work, people["bob.mp4"])
    near = 0.9 * ANN + 0.1 * BOB
    write_source(films / "ann2.mp4", "quite other words are spoken in here", [near], look="f" * 16)
    write_source(films / "bob2.mp4", "and nothing of it was said before", [BOB], look="0" * 16)
    work, left_out = _run(tmp_path)
    assert sorted(left_out) == ["ann.mp4", "bob.mp4"]
    reasons = {name: reasons for name, (_, reasons) in _decide(work).items()}
    assert reasons == {"ann2.mp4": ("the person wants to stay out",), "bob2.mp4": ()}
    with pytest.raises(DataError, match=r"only a person of decisions\.jsonl can be kept out"):
        forget(work, str(films / "bob2.mp4"), block=True)


def test_blocked_person_is_not_let_in_by_another_network(tmp_path):
    write_source(tmp_path / "films" / "ann.mp4", SAID, [ANN])
    work, _ = _run(tmp_path)
    forget(work, _decide(work)["ann.mp4"][0], block=True)
    write_source(tmp_path / "films" / "bob.mp4", "some other words were said here", [BOB], look="f" * 16)

    class Newer(WRITTEN[-1]):
        version = 2

    run_stages([tmp_path / "films"], work.folder, StageSelection(stages=(*WRITTEN[:-1], Newer)))
    with pytest.raises(DataError, match=r"by another stage 'speaker' than that of the last run"):
        _decide(work)


def test_interrupted_forgetting_is_finished_by_the_next(tmp_path, monkeypatch):
    write_source(tmp_path / "films" / "a.mp4", SAID, [ANN])
    write_source(tmp_path / "films" / "b.mp4", "some other words were said here", [BOB])
    work, _ = _run(tmp_path)
    person, _ = _decide(work)["a.mp4"]

    def refuse(*_arguments, **_options):
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(forgetting.shutil, "rmtree", refuse)
        with pytest.raises(OutputError, match="cannot be removed: operation not permitted"):
            forget(work, person)
    # Nothing of it is used any more, whatever is left.
    assert [source.path.name for source in work.sources()] == ["b.mp4"]
    assert _run(tmp_path)[1] == ["a.mp4"]
    gone = forget(work, person)
    assert [path.name for path in gone.files] == ["a.mp4"]
    assert len(list((work.folder / "records").iterdir())) == 1
    assert not any(work.paths[key].name == "a.mp4" for key in work.paths)
    with pytest.raises(DataError, match="there is no source or person"):
        forget(work, person)


def test_pages_that_show_a_forgotten_source_are_deleted_and_absent_shards_are_named(tmp_path):
    write_source(tmp_path / "films" / "a.mp4", SAID, [ANN])
    write_source(tmp_path / "films" / "b.mp4", "some other words were said here", [BOB])
    work, _ = _run(tmp_path)
    page, foreign = tmp_path / "page" / PAGE_FILE, tmp_path / "foreign" / "thesis.html"
    for file in (page, foreign):
        file.parent.mkdir()
        file.touch()
    for path in (page, foreign, foreign.parent, tmp_path / "deleted" / PAGE_FILE):
        work.add_report(path)
    work.add_pack(tmp_path / "moved")
    gone = forget(work, str(tmp_path / "films" / "a.mp4"))
    assert list(gone.reports) == [page]
    assert not page.exists()
    assert foreign.exists()
    assert list(gone.absent) == [tmp_path / "moved"]


def test_damaged_rights_are_a_reason_of_their_source_and_do_not_stop_forgetting(tmp_path):
    films = tmp_path / "films"
    write_source(films / "a.mp4", SAID, [ANN])
    write_source(films / "b.mp4", "some other words were said here", [BOB])
    _run(tmp_path)
    for damaged in ("[1]", "{", '{"opt_out": "perhaps"}', '{"licence": ["MIT"]}'):
        (films / "a.json").write_text(damaged)
        summary = run_stages([films], tmp_path / "work", SELECTION)
        (failure,) = summary.failures
        assert failure.path.name == "a.mp4"
        assert "a.json" in failure.reason
        assert summary.num_usable == 1
    forget(WorkFolder(tmp_path / "work"), str(films / "a.mp4"))
