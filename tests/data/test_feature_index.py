"""The index of a feature set says what is there, is brought up to date, and never stands in the way."""

import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from uniavgen.data.features import FeatureSet
from uniavgen.data.open_index import INDEX_FILE, begin_features, finish_features
from uniavgen.data.shards import ShardSet, ShardWriter
from uniavgen.errors import DamagedClipError, DataError

from .feature_folders import SPEAKERS, features, write_features

COUNT = 10


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(write_features(tmp_path / "features", range(COUNT)))


def content(stored: FeatureSet) -> list:
    return [(stored[i].key, stored[i].text, stored[i].mel.sum().item()) for i in range(len(stored))]


def flip_byte(path: Path, offset: int) -> None:
    """Changes one byte and leaves the time stamps, as a failing disk does."""
    status = path.stat()
    changed = bytearray(path.read_bytes())
    changed[offset] ^= 0xFF
    path.write_bytes(changed)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_feature_index_holds_sizes_speakers_and_places_of_every_clip(folder):
    stored, shards = FeatureSet(folder), ShardSet(folder)
    index = stored.index
    assert len(stored) == len(index) == COUNT
    for i in range(COUNT):
        expected = features(i, with_video=i % 2 == 0)
        assert index.key(i) == expected.key
        assert index.speakers[int(index.speaker[i])] == expected.speaker
        grid = (0, 0, 0) if expected.latents is None else tuple(expected.latents.shape[1:])
        assert (index.latent_frames[i], index.rows[i], index.columns[i]) == grid
        assert index.audio_tokens[i] == len(expected.mel)
        row = shards.positions[expected.key]
        with (folder / index.tensors(i).shard).open("rb") as tar:
            tar.seek(index.tensors(i).location.offset)
            assert tar.read(index.tensors(i).location.size) == shards.read(row, "safetensors")
        assert torch.equal(stored[i].mel.float(), expected.mel)
    assert index.has_video
    assert torch.equal(stored.empty_caption.float(), torch.ones(1, 11))


def test_feature_index_lists_the_clips_of_each_speaker(folder):
    index = FeatureSet(folder).index
    for number, name in enumerate(index.speakers):
        expected = [i for i in range(COUNT) if SPEAKERS[i % len(SPEAKERS)] == name]
        assert index.clips_of(number).tolist() == expected


def test_feature_index_counts_characters_of_transcripts(folder):
    characters = FeatureSet(folder).index.characters()
    assert characters["h"] == (COUNT, 0)
    assert characters["d"] == (1, 3)
    assert set(characters) == set("hi abcdefghij")


@pytest.mark.parametrize(("first", "later"), [(1, 2), (2, 9), (3, 4), (5, 10)])
def test_extended_feature_index_equals_one_that_is_made_anew(tmp_path, first, later):
    write_features(tmp_path / "grown", range(first))
    FeatureSet(tmp_path / "grown")
    write_features(tmp_path / "grown", range(first, later))
    write_features(tmp_path / "whole", range(later))
    assert content(FeatureSet(tmp_path / "grown")) == content(FeatureSet(tmp_path / "whole"))
    assert (tmp_path / "grown" / INDEX_FILE).read_bytes() == (tmp_path / "whole" / INDEX_FILE).read_bytes()


def test_feature_index_follows_a_shard_that_is_replaced_by_one_of_the_same_size(tmp_path):
    folder, other = tmp_path / "features", tmp_path / "other"
    write_features(folder, range(2))
    assert content(FeatureSet(folder))[1][1] == "hi b"
    write_features(other, range(2, 4))
    for name in ("shard-000000.tar", "shard-000000.npz"):
        (folder / name).write_bytes((other / name).read_bytes())
    assert content(FeatureSet(folder)) == content(FeatureSet(other))


def test_feature_index_of_copied_files_is_kept_whatever_their_times(folder):
    FeatureSet(folder)
    os.utime(folder / INDEX_FILE, (1, 1))
    before = (folder / INDEX_FILE).read_bytes()
    assert len(FeatureSet(folder)) == COUNT
    assert (folder / INDEX_FILE).read_bytes() == before
    assert (folder / INDEX_FILE).stat().st_mtime > 1


@pytest.mark.parametrize("place", [0, 3, 20, 200, -1])
def test_damaged_feature_index_is_made_again(folder, place):
    expected = content(FeatureSet(folder))
    flip_byte(folder / INDEX_FILE, place)
    assert content(FeatureSet(folder)) == expected
    (folder / INDEX_FILE).write_bytes((folder / INDEX_FILE).read_bytes()[:place])
    assert content(FeatureSet(folder)) == expected


def test_feature_set_goes_to_other_processes_as_paths(folder):
    stored = FeatureSet(folder)
    sent = pickle.dumps(stored)
    assert len(sent) < 2000
    assert content(pickle.loads(sent)) == content(stored)


def test_feature_set_of_one_tar_file_is_that_shard(folder):
    stored = FeatureSet(folder / "shard-000001.tar")
    assert [stored.index.key(i) for i in range(len(stored))] == ["x/clip2", "x/clip3", "x/clip4"]
    assert stored[0].text == "hi c"


def test_half_prepared_features_are_refused_until_they_are_finished(folder):
    begin_features(folder)
    with pytest.raises(DataError, match="half prepared; run `uniavgen prepare`"):
        FeatureSet(folder)
    finish_features(folder)
    assert len(FeatureSet(folder)) == COUNT


def test_folders_without_features_are_refused(tmp_path):
    for name in ("missing", "empty"):
        with pytest.raises(DataError, match=r"no shards \(\*\.tar\) in .*; give a folder"):
            FeatureSet(tmp_path / name)
        (tmp_path / "empty").mkdir(exist_ok=True)
    with ShardWriter(tmp_path / "clips") as writer:
        writer.write("a", {"json": b'{"text": "Hello.", "speaker": "ann"}', "wav": b"RIFF"})
    with pytest.raises(DataError, match=r"'a' in .* does not hold features"):
        FeatureSet(tmp_path / "clips")


def test_key_in_two_shards_is_refused(folder):
    (folder / "shard-000009.tar").write_bytes((folder / "shard-000001.tar").read_bytes())
    with pytest.raises(DataError, match="the key 'x/clip2' occurs 2 times"):
        FeatureSet(folder)


@pytest.mark.parametrize("part", ["json", "safetensors"])
@pytest.mark.parametrize("has_index", [True, False])
def test_damaged_clip_is_named_and_harms_no_other(folder, part, has_index):
    expected = content(FeatureSet(folder))
    if not has_index:
        (folder / INDEX_FILE).unlink()
    with tarfile.open(folder / "shard-000001.tar") as tar:
        offset = tar.getmember(f"x/clip3.{part}").offset_data
    flip_byte(folder / "shard-000001.tar", offset)
    stored = FeatureSet(folder)
    with pytest.raises(DamagedClipError, match=rf"'x/clip3.{part}' in .*shard-000001.tar is damaged"):
        stored[3]
    assert [clip.key for clip in stored.readable_clips()] == [key for key, _, _ in expected if key != "x/clip3"]
    others = [i for i in range(COUNT) if i != 3]
    assert np.array_equal(stored.index.speaker[others][:3] == stored.index.speaker[0], [True, False, True])
