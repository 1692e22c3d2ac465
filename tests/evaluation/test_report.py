"""The report: its public shape, its bytes, and what it says about what is missing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from uniavgen.evaluation.metric import Better, Column
from uniavgen.evaluation.prompts import PromptSet
from uniavgen.evaluation.protocol import ClipRow, System, SystemRows
from uniavgen.evaluation.registry import MissingColumn
from uniavgen.evaluation.report import Report

from .builders import prompt_set

SYNC = Column(name="sync", description="how well; 1 is best", better=Better.HIGHER)
WER = Column(name="wer", description="words", better=Better.LOWER)


def _rows(values: dict[str, float], **changes) -> list[ClipRow]:
    return [ClipRow(id=name, split=name[0], file=Path(f"{name}.mp4"), scores={"sync": v}) for name, v in values.items()]


def small_report(prompts: PromptSet | None = None) -> Report:
    ours = _rows({"a1": 0.5, "a2": 0.7, "b1": 0.9})
    theirs = [*_rows({"a1": 0.4, "a2": 0.6, "b1": 0.8}), ClipRow(id="b2", split="b", not_measured={"sync": "silent"})]
    theirs.append(ClipRow(id="b3", problem="there is no clip of this id"))
    return Report(
        title="Trial",
        protocol={"prompts": 4},
        networks={"net": {"source": "net.pt", "licence": "MIT", "sha256": "a" * 64}},
        versions={"uniavgen": "1"},
        columns=[SYNC],
        missing=[MissingColumn(column=WER, reason="no ears: buy some")],
        prompts=prompts or prompt_set("a1", "a2", "b1", "b2"),
        systems=[
            SystemRows(system=System(name="ours", folder=Path(), description="this"), rows=ours),
            SystemRows(system=System(name="theirs", folder=Path()), rows=theirs),
        ],
        published={"Ovi": {"wer": 0.216}},
    )


def test_report_json_has_the_public_shape():
    data = json.loads(small_report().to_json())
    assert data["systems"]["ours"]["metrics"]["sync"] == {"mean": 0.7, "low": 0.5, "high": 0.9, "n": 3}
    assert data["systems"]["theirs"]["metrics"]["sync"]["n"] == 3
    assert data["systems"]["theirs"]["counts"] == {"rows": 5, "measured": 3, "problems": 1}
    clips = data["systems"]["theirs"]["clips"]
    assert [clip["id"] for clip in clips] == ["a1", "a2", "b1", "b2", "b3"]
    assert clips[3]["not_measured"] == {"sync": "silent"}
    assert clips[4]["problem"] == "there is no clip of this id"
    assert data["missing"]["wer"]["reason"] == "no ears: buy some"
    assert data["networks"]["net"]["sha256"] == "a" * 64


def test_splits_are_reported_apart():
    splits = json.loads(small_report().to_json())["systems"]["ours"]["splits"]
    assert (splits["a"]["sync"]["mean"], splits["a"]["sync"]["n"]) == (0.6, 2)
    assert (splits["b"]["sync"]["mean"], splits["b"]["sync"]["n"]) == (0.9, 1)


def test_comparisons_are_paired_so_a_constant_gain_has_no_spread():
    (difference,) = json.loads(small_report().to_json())["comparisons"]
    assert difference == {"metric": "sync", "system": "ours", "against": "theirs"} | {
        "mean": 0.1,
        "low": 0.1,
        "high": 0.1,
        "n": 3,
        "p": pytest.approx(2 / 2**3),
        "detectable": 0.0,
    }


def test_same_findings_give_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        small_report().write(tmp_path / name)
    for file in ("report.json", "report.md"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_markdown_shows_ours_beside_published_rows_and_names_what_is_missing():
    text = small_report().to_markdown()
    assert "| ours | 0.700 [0.500, 0.900] n=3 |" in text
    assert "| system | wer |\n|---|---|\n| **ours** | - |\n| **theirs** | - |\n| Ovi | 0.216 |" in text
    assert "- **wer**: no ears: buy some" in text
    assert "- theirs, sync: silent (1)" in text
    assert "- theirs, the whole clip: there is no clip of this id (1)" in text


def test_names_of_files_that_are_not_utf8_are_escaped(tmp_path):
    report = small_report()
    rows = [replace(report.systems[0].rows[0], id="\udcff", file=Path("\udcff.mp4"))]
    systems = [SystemRows(system=System(name="a\udcfe", folder=Path()), rows=rows)]
    replace(report, title="\udcff", systems=systems).write(tmp_path)
    data = json.loads((tmp_path / "report.json").read_text())
    assert data["systems"]["a\udcfe"]["clips"][0]["file"] == "\udcff.mp4"
    assert (tmp_path / "report.md").read_text().startswith("# \\udcff\n")
