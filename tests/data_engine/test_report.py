"""The page of a work folder: its numbers, its clips, that it is the same twice, and that a browser shows it."""

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from tests.data_engine.small_stages import STAGES, write_film

from uniavgen.apps.cli import main
from uniavgen.data_engine import report_page
from uniavgen.data_engine.rules import Limit, Rules
from uniavgen.data_engine.work_folder import WorkFolder
from uniavgen.errors import DataError
from uniavgen.media.probe import probe
from uniavgen.workflows.data_engine import StageSelection, run_stages, write_data_report

NUM_FRAMES = 33
RULES = Rules(
    min_words=1,
    scores={"sync": {"brightness": Limit(reason="it is too dark", minimum=170.0)}},
    require_licence=True,
)
BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Two films, of which one is dark and the other has no licence, and a file that is no film."""
    films, folder = tmp_path_factory.mktemp("films"), tmp_path_factory.mktemp("work")
    write_film(films / "dark.mp4", 5)
    write_film(films / "bright.mp4", 5, tone_hz=700, grey=200)
    write_film(films / "<b>.mp4", 5, tone_hz=500, grey=190)
    (films / "text.mp4").write_text("Not a film.")
    rows = "file,licence\ndark.mp4,</script>\nbright.mp4,CC0-1.0\n"
    (films / "sources.csv").write_text(rows)
    run_stages([films], folder, StageSelection(stages=STAGES))
    return folder


def _data(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL).group(1))


def test_numbers_of_the_report_are_those_of_the_decisions(work, tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "NUM_CLIPS", 0)
    report = write_data_report(work, tmp_path, RULES, num_frames=NUM_FRAMES)
    numbers = _data(tmp_path / "report.html")["numbers"]
    totals = numbers["totals"]
    assert (totals["videos"], totals["candidates"], totals["kept"], totals["clips"]) == (4, 6, 2, 2)
    assert totals["clip_hours"] == pytest.approx(2 * NUM_FRAMES / 16 / 3600, abs=1e-6)
    steps = {step["rule"]: step for step in numbers["rules"]}
    assert [*steps] == ["require_licence", "scores.sync.brightness"]
    assert [step["left"] for step in steps.values()] == [4, 2]
    assert all((step["violated"], step["alone"]) == (2, 2) for step in steps.values())
    (histogram,) = [each for each in numbers["histograms"] if each["score"] == "sync.brightness"]
    assert (sum(histogram["kept"]), sum(histogram["dropped"]), histogram["minimum"]) == (2, 4, 170.0)
    assert histogram["edges"][0] < 170 < histogram["edges"][-1]
    (unused,) = numbers["unused"]
    assert (unused["count"], unused["examples"]) == (1, ["text.mp4"])
    assert {row["stage"]: row["failed"] for row in numbers["stages"]} == {stage.name: 1 for stage in STAGES}
    assert {row["name"]: row["kept"] for row in numbers["licences"]["rows"]}["CC0-1.0"] == 2
    assert report.totals() == totals


def test_clips_of_the_report_can_be_played_and_say_why(work, tmp_path):
    write_data_report(work, tmp_path, RULES, num_frames=NUM_FRAMES)
    data = _data(tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    kept = [clip for clip in data["clips"] if clip["kept"]]
    dropped = [clip for clip in data["clips"] if not clip["kept"]]
    assert (len(kept), len(dropped)) == (2, 5)
    assert {clip["source"] for clip in kept} == {"bright.mp4"}
    assert all(clip["text"].startswith("beep") and "sync.brightness" in clip["scores"] for clip in kept)
    reasons = {clip["source"]: clip["reasons"][0]["reason"] for clip in dropped}
    assert reasons["dark.mp4"].startswith("it is too dark (brightness")
    assert reasons["<b>.mp4"] == "the licence is unknown"
    (bad,) = [clip for clip in dropped if clip["key"] not in data["media"]]
    assert bad["source"] == "text.mp4"
    assert "problem" in bad
    for medium in data["media"].values():
        assert medium["seconds"] == pytest.approx(2.5, abs=0.1)
        assert max(high for _, high in medium["peaks"]) > 0.2


def test_previews_are_small_h264_and_aac_inside_the_page(work, tmp_path):
    write_data_report(work, tmp_path, RULES, num_frames=NUM_FRAMES)
    media = _data(tmp_path / "report.html")["media"]
    assert len(media) == 6
    for medium in media.values():
        content = base64.b64decode(medium["source"].removeprefix("data:video/mp4;base64,"))
        found = probe(content)
        assert (found.video.codec, found.audio.codec) == ("h264", "aac")
        assert len(content) < 100_000


def test_report_is_the_same_twice_and_another_seed_draws_other_clips(work, tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "NUM_CLIPS", 1)
    pages = []
    for number, seed in enumerate((0, 0, 1, 2)):
        write_data_report(work, tmp_path / str(number), RULES, num_frames=NUM_FRAMES, seed=seed)
        pages.append((tmp_path / str(number) / "report.html").read_text())
    assert pages[0] == pages[1]
    assert len({*pages}) > 1


def test_report_of_nothing_kept_and_of_no_folder(work, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report_page, "NUM_CLIPS", 1)
    nothing = replace(RULES, require_consent=True)
    write_data_report(work, tmp_path / "none", nothing, num_frames=NUM_FRAMES)
    assert _data(tmp_path / "none" / "report.html")["numbers"]["totals"]["kept"] == 0
    with pytest.raises(DataError, match="holds no records"):
        write_data_report(tmp_path / "nothing", tmp_path / "out", RULES)
    assert not (tmp_path / "out").exists()
    assert WorkFolder(work).reports[-1].is_file()
    out = ["--out", str(tmp_path / "page"), "--num-frames", "33"]
    assert main(["data", "report", "--work", str(work), *out]) == 0
    assert capsys.readouterr().out.startswith("0 of 6 candidates are kept")
    assert main(["data", "report", "--work", str(tmp_path / "nothing")]) == 2


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_browser_shows_the_report_without_a_network_or_an_error(work, tmp_path):
    write_data_report(work, tmp_path, RULES, num_frames=NUM_FRAMES)
    page = tmp_path / "report.html"
    assert not re.search(r"(src|href)=\"?https?:", page.read_text())
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000", "--enable-logging=stderr"]
    done = subprocess.run([BROWSER, *options, "--dump-dom", page.as_uri()], capture_output=True, text=True, check=False)
    body = done.stdout.partition("<script")[0]
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert body.count('class="row"') == 7
    assert 'data-score="sync.brightness"' in body
    assert body.count("<video") == 2
    assert "&lt;b&gt;.mp4" in body
    assert "&lt;/script&gt;" in body
