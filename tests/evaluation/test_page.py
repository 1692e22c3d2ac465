"""The page: what it holds, that it is the same twice, and that a browser shows it."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from uniavgen.artifacts import checksum
from uniavgen.evaluation import page
from uniavgen.evaluation.metric import Better, Column
from uniavgen.evaluation.metrics.wer import word_differences
from uniavgen.evaluation.page import write_report_page
from uniavgen.evaluation.protocol import ClipRow, System, SystemRows
from uniavgen.evaluation.report import Report
from uniavgen.html_report.page import peaks

from .builders import write_noise
from .test_report import small_report

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Report:
    folder = tmp_path_factory.mktemp("clips")
    rows = []
    for number, score in enumerate([0.5, 0.1, 0.9]):
        file = write_noise(folder / f"c{number}.mp4", seed=number)
        details = {
            "curve/mouth": {"fps": 16.0, "values": [0.0, 0.5, 1.0]},
            "transcript/sync": {
                "script": "</script> Say", "heard": "Stay", "script_words": "</script> say", "heard_words": "stay",
            },
        }  # fmt: skip
        rows.append(ClipRow(id=file.stem, file=file, sha256=checksum(file), scores={"sync": score}, details=details))
    rows.append(ClipRow(id="c3", problem="there is no clip of this id"))
    column = Column(name="sync", description="how well", better=Better.HIGHER)
    systems = [SystemRows(system=System(name="ours", folder=folder), rows=rows)]
    return replace(small_report(), title="A & B <trial>", columns=[column], systems=systems)


@pytest.mark.parametrize(
    ("script", "transcript", "runs"),
    [
        ("a b c", "a b c", [("same", "a b c")]),
        ("a b c", "a x c", [("same", "a"), ("missing", "b"), ("extra", "x"), ("same", "c")]),
        ("a b", "", [("missing", "a b")]),
        ("", "a b", [("extra", "a b")]),
    ],
)
def test_differences_are_runs_of_words(script, transcript, runs):
    assert word_differences(script, transcript) == runs


def test_peaks_hold_the_least_and_greatest_of_each_column():
    wave = np.array([0.0, -0.5, 0.25, 0.75, -1.0], np.float32)
    assert peaks(wave, 2) == [(-0.5, 0.0), (-1.0, 0.75)]
    assert peaks(wave[:0]) == []


def test_page_holds_its_clips_and_is_the_same_twice(report, tmp_path):
    for name in ("first", "second"):
        write_report_page(report, tmp_path / name)
    text = (tmp_path / "first" / "report.html").read_text()
    assert text == (tmp_path / "second" / "report.html").read_text()
    assert text.count("data:video/mp4;base64,") == 3
    assert [path.name for path in (tmp_path / "first").iterdir()] == ["report.html"]
    assert not re.search(r"(src|href)=\"?https?:", text)
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL).group(1))
    assert data["report"]["systems"]["ours"]["clips"][0]["differences"]["sync"][0] == ["missing", "</script> say"]


def test_large_clips_lie_beside_the_page(report, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "EMBEDDED_BYTES", 1000)
    write_report_page(report, tmp_path)
    text = (tmp_path / "report.html").read_text()
    names = re.findall(r'"source": "(media/[0-9a-f]{64}\.mp4)"', text)
    files = {row.sha256: row.file for row in report.systems[0].rows if row.file}
    assert len(names) == 3
    for name in names:
        assert (tmp_path / name).read_bytes() == files[Path(name).stem].read_bytes()


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_page_shows_the_worst_clip_first(report, tmp_path):
    write_report_page(report, tmp_path)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", "--dump-dom"]
    done = subprocess.run(
        [BROWSER, *options, (tmp_path / "report.html").as_uri()],
        capture_output=True,
        text=True,
        check=False,
    )
    body = done.stdout.partition("<script")[0]
    assert re.findall(r'class="row" data-id="(\w+)"', body) == ["c3", "c1", "c0", "c2"]
    assert "<h1>A &amp; B &lt;trial&gt;</h1>" in body
    assert "<del>&lt;/script&gt; say </del><ins>stay </ins>" in html.unescape(body).replace(
        "</script>", "&lt;/script&gt;"
    )
    # The two worst that can be watched are open.
    assert body.count('class="card"') == body.count("<video") == 2
