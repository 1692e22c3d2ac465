"""A list of clips as sources: what it says is carried to shards as given, and what it does not name is dropped."""

import json

import pytest
from tests.data_engine.small_stages import STAGES, write_film

from uniavgen.data.shards import ShardSet
from uniavgen.data_engine.forget import DECISIONS_FILE
from uniavgen.data_engine.rules import Rules
from uniavgen.errors import DataError
from uniavgen.workflows.data_engine import PackConfig, StageSelection, pack, run_stages


def test_list_is_carried_to_shards_and_limits_clips_to_its_times(tmp_path):
    write_film(tmp_path / "films" / "a.mp4", 5)
    rows = [
        {"video": "a.mp4", "start": 0, "end": 2.4, "speech": "One two", "caption": "A lamp", "licence": "CC0-1.0"},
        {"video": "gone.mp4", "start": 0, "end": 2},
    ]
    table = tmp_path / "films" / "list.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    work, shards = tmp_path / "work", tmp_path / "shards"
    summary = run_stages([table], work, StageSelection(stages=STAGES))
    (failure,) = summary.failures
    assert (summary.num_usable, failure.path.name) == (1, "list.jsonl line 2")
    assert "names gone.mp4, and no such file is in" in failure.reason
    pack(PackConfig(work=work, out=shards, num_frames=33), Rules(require_licence=True))
    (facts,) = [json.loads(ShardSet(shards).read(0, "json"))]
    assert (facts["given"]["text"], facts["caption"], facts["rights"]["licence"]) == ("One two", "A lamp", "CC0-1.0")
    assert facts["text"].startswith("beep")
    lines = [json.loads(line) for line in (work / DECISIONS_FILE).read_text().splitlines()]
    assert [row["reasons"] for row in lines] == [[], ["it lies outside the clips that its list names"]]
    # What the list says of rights counts as it stands today.
    rows[0]["opt_out"] = "yes"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="no clip is kept"):
        pack(PackConfig(work=work, out=shards, num_frames=33), Rules())


def test_transcript_beside_a_source_gives_each_clip_its_own_words(tmp_path):
    write_film(tmp_path / "films" / "a.mp4", 5)
    words = [["one", 0.5, 0.9], ["two", 3.0, 3.4]]
    (tmp_path / "films" / "a.json").write_text(json.dumps({"words": words, "speaker": "Ann"}))
    run_stages([tmp_path / "films"], tmp_path / "work", StageSelection(stages=STAGES))
    pack(PackConfig(work=tmp_path / "work", out=tmp_path / "shards", num_frames=33), Rules())
    shards = ShardSet(tmp_path / "shards")
    given = [json.loads(shards.read(i, "json"))["given"] for i in range(len(shards))]
    assert [(each["text"], each["words"], each["speaker"]) for each in given] == [
        ("one", words[:1], "Ann"),
        ("two", words[1:], "Ann"),
    ]
