"""Features of one video VAE are not mixed with those, or trained into a model, of another."""

import json
import shutil
from pathlib import Path

import pytest

from data.feature_folders import write_features
from uniavgen.data.features import SETTINGS_FILE, FeatureSet
from uniavgen.errors import DataError
from uniavgen.workflows.codec_fingerprints import check_codecs, fingerprint_codecs


def codecs(folder: Path, content: str) -> Path:
    (folder / "vae").mkdir(parents=True)
    (folder / "vae" / "weights.bin").write_text(content)
    return folder


def prepared(folder: Path, parts: Path | None, numbers=range(3)) -> FeatureSet:
    write_features(folder, numbers)
    (folder / SETTINGS_FILE).write_text(json.dumps({"codecs": fingerprint_codecs(parts)}))
    return FeatureSet(folder)


@pytest.fixture
def ours(tmp_path) -> Path:
    return codecs(tmp_path / "ours", "weights")


def test_features_of_the_models_own_codecs_pass(tmp_path, ours):
    copied = shutil.copytree(ours, tmp_path / "copied")
    (tmp_path / "weights-only").mkdir()
    check_codecs([prepared(tmp_path / "a", ours), prepared(tmp_path / "b", copied)], [ours, tmp_path / "weights-only"])


def test_features_of_speech_alone_fit_every_model(tmp_path, ours):
    speech = prepared(tmp_path / "speech", None, range(1, 2))
    check_codecs([prepared(tmp_path / "a", ours), speech], [ours])


def test_features_of_two_video_codecs_are_refused(tmp_path, ours):
    others = codecs(tmp_path / "others", "other weights")
    with pytest.raises(DataError, match=r"in .*/b were made by another video VAE .* than those in .*/a; prepare both"):
        check_codecs([prepared(tmp_path / "a", ours), prepared(tmp_path / "b", others)], [])


def test_features_of_another_codec_than_the_models_are_refused(tmp_path, ours):
    others = codecs(tmp_path / "others", "other weights")
    with pytest.raises(DataError, match=r"in .*/a were made by another .* than those of .*/others; prepare them again"):
        check_codecs([prepared(tmp_path / "a", ours)], [others])
