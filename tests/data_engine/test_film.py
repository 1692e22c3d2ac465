"""The whole data engine on a film with known truth, with people on whom no threshold was chosen.

Needs all networks of `uniavgen data run`, the material of the rendered world, and the clips that `film` names.
"""

import os
from pathlib import Path

import pytest
from tests.data_engine.film import CASTS, CLIPS, make_film
from tests.data_engine.film_judge import FilmReport, judge

from uniavgen.data_engine.decisions import decide
from uniavgen.data_engine.registry import STAGES
from uniavgen.data_engine.work_folder import WorkFolder
from uniavgen.perception.packages import is_missing
from uniavgen.perception.weights import WeightResolver
from uniavgen.timebase import Timebase
from uniavgen.workflows.data_engine import StageSelection, load_rules, run_stages

pytestmark = pytest.mark.slow
TIMING = Timebase().clip(81)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> FilmReport:
    assets = Path(os.environ.get("UNIAVGEN_ASSETS", "no-assets"))
    resolver = WeightResolver(assets=assets if assets.is_dir() else None)
    networks = {network for stage in STAGES for network in stage.required_networks}
    lacking = [name for name in sorted(networks) if resolver.resolve(name) is None]
    lacking += [package for stage in STAGES for module, package in stage.packages.items() if is_missing(module)]
    lacking += [str(CLIPS / name) for name in CASTS["b"].clips if not (CLIPS / name).is_file()]
    if lacking:
        pytest.skip(f"no {lacking[0]} ($UNIAVGEN_ASSETS, the extra data, $UNIAVGEN_CLIPS)")
    folder = tmp_path_factory.mktemp("film")
    film = make_film(folder / "film", "b")
    run_stages([source.path for source in film], folder / "work", StageSelection(resolver=resolver))
    work = WorkFolder(folder / "work")
    return judge(film, work, decide(work, load_rules(), TIMING), TIMING)


def test_stretches_of_the_film_are_kept_and_dropped_as_planted(report):
    assert min(report.scores(clips=False).values()) >= 0.9
    # Of clips that are no longer than what is cut some good ones are lost (docs/data.md).
    scores = report.scores()
    assert min(scores["keep precision"], scores["drop recall"], scores["drops named"]) >= 0.9


def test_planted_offsets_of_the_film_are_found(report):
    assert len(report.offsets_ms) == 5
    for planted_ms, found_ms, measured_s in report.offsets_ms.values():
        assert measured_s >= 20
        assert found_ms == pytest.approx(planted_ms, abs=80)


def test_people_of_the_film_are_told_apart(report):
    assert report.person_f1["rendered"] >= 0.9


def test_no_clip_of_the_film_reaches_over_a_cut(report):
    assert report.crossing == 0
    planted, found, others = report.cuts
    assert found == planted
    assert others == 0
