"""Features in a store: fetched with patience, once, and kept on the local disk within its limit."""

from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from uniavgen.data import storage
from uniavgen.data.clip_cache import ClipCache
from uniavgen.data.clip_reader import CacheConfig
from uniavgen.data.features import FeatureSet
from uniavgen.data.open_index import INDEX_FILE
from uniavgen.data.storage import Storage
from uniavgen.errors import DamagedClipError, DataError

from .feature_folders import FlakyFileSystem, write_features
from .test_feature_index import content

COUNT = 7
NOTHING_KEPT = CacheConfig(memory_bytes=0)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
    monkeypatch.setattr(storage, "FIRST_PAUSE_S", 0.001)


@pytest.fixture
def local(tmp_path) -> FeatureSet:
    return FeatureSet(write_features(tmp_path / "features", range(COUNT)))


@pytest.fixture
def url(local, tmp_path) -> str:
    return FlakyFileSystem.fill(Path(local.folder), tmp_path.name)


@pytest.fixture
def cache(tmp_path) -> CacheConfig:
    return replace(NOTHING_KEPT, folder=tmp_path / "cache")


def test_features_of_a_store_are_those_of_the_folder(local, url, cache):
    remote = FeatureSet(url, cache)
    assert content(remote) == content(local)
    assert remote.empty_caption.equal(local.empty_caption)


def test_read_that_fails_twice_is_tried_again(local, url, cache):
    FlakyFileSystem.failures = 2
    remote = FeatureSet(url, cache)
    FlakyFileSystem.failures = 2
    assert remote[3].text == local[3].text
    assert FlakyFileSystem.failures == 0


def test_store_that_stays_away_is_named_after_a_few_tries(url, cache):
    remote = FeatureSet(url, cache)
    FlakyFileSystem.failures, FlakyFileSystem.requested = 1000, []
    with pytest.raises(DataError, match=r"shard-00000\d\.tar cannot be read after 5 tries: the store does not answer"):
        remote[3]
    assert len(FlakyFileSystem.requested) == storage.MAX_TRIES


def test_missing_file_is_not_asked_for_again(url):
    with pytest.raises(DataError, match="cannot be read"):
        Storage(url).read(f"{Storage(url).root}/nothing.tar")
    assert len(FlakyFileSystem.requested) == 1


def test_truncated_transfer_is_no_damage(local, url, cache):
    remote = FeatureSet(url, cache)
    FlakyFileSystem.truncated = 1
    assert remote[2].mel.equal(local[2].mel)
    FlakyFileSystem.truncated = 2
    with pytest.raises(DamagedClipError, match=r"'x/clip3\.safetensors' in .* is damaged"):
        remote[3]


def test_index_and_clips_are_fetched_once(local, url, cache):
    expected = content(local)
    assert content(FeatureSet(url, cache)) == expected
    assert sum(INDEX_FILE in path for path in FlakyFileSystem.requested) == 1
    FlakyFileSystem.requested = []
    assert content(FeatureSet(url, cache)) == expected
    assert FlakyFileSystem.requested == []


def test_index_of_a_store_is_extended_where_it_lacks_shards(local, url, cache, tmp_path):
    assert len(FeatureSet(url, cache)) == COUNT
    write_features(Path(local.folder), range(COUNT, 9))
    (Path(local.folder) / INDEX_FILE).unlink()
    assert content(FeatureSet(FlakyFileSystem.fill(Path(local.folder), tmp_path.name), cache)) == content(
        FeatureSet(local.folder)
    )


def test_clip_that_is_damaged_in_the_cache_is_fetched_again(local, url, cache):
    remote = FeatureSet(url, cache)
    assert remote[1].mel.equal(local[1].mel)
    (cached,) = (path for path in cache.folder.rglob("*") if path.is_file() and path.suffix != ".safetensors")
    cached.write_bytes(cached.read_bytes()[:-3])
    assert remote[1].mel.equal(local[1].mel)


def test_clip_cache_holds_what_was_used_last_within_its_limit(tmp_path):
    cache = ClipCache(folder=tmp_path, max_bytes=1000)
    for number in range(20):
        cache.put(f"clip{number}", bytes(300))
        assert cache.get("clip0") == bytes(300)
        assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 1000
    assert cache.get("clip19") is not None
    assert cache.get("clip5") is None
    cache.put("large", bytes(1001))
    assert cache.get("large") is None


def test_unknown_store_is_refused():
    with pytest.raises(DataError, match="nowhere://bucket cannot be opened"):
        FeatureSet("nowhere://bucket")
