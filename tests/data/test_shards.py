"""Shards read back what was written, and name what is damaged."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from uniavgen.data.shards import ShardSet, ShardWriter
from uniavgen.errors import DataError


def parts(i):
    return {"json": b"{%d}" % i, "flac": bytes(range(256)) * i, "npz": b"z" * (512 * i)}


def written(folder, count=7, per_shard=3):
    with ShardWriter(folder, per_shard) as writer:
        for i in range(count):
            writer.write(f"clip{i}", parts(i))
    return ShardSet(folder)


def test_samples_come_back_in_order(tmp_path):
    shards = written(tmp_path)
    assert shards.keys == tuple(f"clip{i}" for i in range(7))
    for i in range(7):
        assert {name: shards.read(i, name) for name in shards.parts(i)} == parts(i)


def test_shards_are_plain_tar_files_in_webdataset_order(tmp_path):
    written(tmp_path)
    with tarfile.open(tmp_path / "shard-000001.tar") as tar:
        assert tar.getnames() == [f"clip{i}.{name}" for i in (3, 4, 5) for name in ("flac", "json", "npz")]


def test_tar_without_index_is_scanned(tmp_path):
    shards = written(tmp_path)
    for index in tmp_path.glob("*.npz"):
        index.unlink()
    scanned = ShardSet(tmp_path)
    assert scanned.keys == shards.keys
    assert all(scanned.read(i, p) == shards.read(i, p) for i in range(7) for p in shards.parts(i))


def test_interrupted_writer_goes_on(tmp_path):
    def write_until_interrupted():
        with ShardWriter(tmp_path, 3) as writer:
            for i in range(4):
                writer.write(f"clip{i}", parts(i))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_until_interrupted()
    with ShardWriter(tmp_path, 3) as writer:
        for i in range(7):
            if f"clip{i}" not in writer.keys:
                writer.write(f"clip{i}", parts(i))
    shards = ShardSet(tmp_path)
    assert shards.keys == tuple(f"clip{i}" for i in range(7))
    assert shards.read(3, "npz") == parts(3)["npz"]


def test_killed_writer_leaves_only_whole_shards(tmp_path):
    writer = ShardWriter(tmp_path, 2)
    for i in range(3):
        writer.write(f"clip{i}", parts(i))
    del writer
    assert ShardSet(tmp_path).keys == ("clip0", "clip1")
    with ShardWriter(tmp_path, 2) as second:
        assert second.keys == {"clip0", "clip1"}
        second.write("clip2", parts(2))
    assert ShardSet(tmp_path).keys == ("clip0", "clip1", "clip2")


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("lost", [600, 2048, 4096])
def test_truncated_shard_is_refused(tmp_path, indexed, lost):
    written(tmp_path, count=3, per_shard=3)
    tar = tmp_path / "shard-000000.tar"
    if not indexed:
        (tmp_path / "shard-000000.npz").unlink()
    # tarfile pads archives to 10 KiB; what is cut is content.
    with tarfile.open(tar) as content:
        end = max(member.offset_data + member.size for member in content)
    os.truncate(tar, end - lost)
    with pytest.raises(DataError, match="make that shard again"):
        ShardSet(tmp_path)


def test_changed_byte_is_refused(tmp_path):
    written(tmp_path, count=3, per_shard=3)
    tar = tmp_path / "shard-000000.tar"
    with tarfile.open(tar) as content:
        offset = content.getmember("clip2.flac").offset_data
    with tar.open("rb+") as file:
        file.seek(offset)
        file.write(b"!")
    shards = ShardSet(tmp_path)
    with pytest.raises(DataError, match=r"'clip2.flac' .* is damaged"):
        shards.read(2, "flac")
    assert shards.read(1, "flac") == parts(1)["flac"]


def test_damaged_index_is_refused(tmp_path):
    written(tmp_path, count=3, per_shard=3)
    (tmp_path / "shard-000000.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="index"):
        ShardSet(tmp_path)


def _index_arrays(folder):
    with np.load(folder / "shard-000000.npz") as stored:
        return dict(stored)


@pytest.mark.parametrize("name", ["keys", "names", "places"])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda array: array[0], id="item"),
        pytest.param(lambda array: array[:0], id="empty"),
        pytest.param(lambda array: array[None], id="axis"),
        pytest.param(lambda array: array.reshape(-1)[0], id="scalar"),
        pytest.param(lambda array: np.concatenate([array, array]), id="doubled"),
        pytest.param(lambda array: np.full(array.shape, 2**62), id="huge"),
        pytest.param(lambda array: np.full(array.shape, -3), id="negative"),
        pytest.param(lambda array: np.full(array.shape, np.nan), id="nan"),
        pytest.param(lambda array: np.full(array.shape, "../x"), id="path"),
        pytest.param(lambda array: np.full(array.shape, "same"), id="same"),
    ],
)
def test_index_with_other_arrays_is_refused(tmp_path, name, change):
    written(tmp_path, count=3, per_shard=3)
    arrays = _index_arrays(tmp_path)
    np.savez(tmp_path / "shard-000000.npz", **arrays | {name: change(arrays[name])})
    with pytest.raises(DataError, match=r"the index beside .* is damaged; delete it"):
        ShardSet(tmp_path)


def test_new_folder_in_which_nothing_was_written_is_removed(tmp_path):
    with pytest.raises(DataError), ShardWriter(tmp_path / "deep" / "new"):
        raise DataError("nothing can be used")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old").mkdir()
    with ShardWriter(tmp_path / "old"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_index_that_is_no_file_is_refused_unread(tmp_path):
    written(tmp_path, count=3, per_shard=3)
    index = tmp_path / "shard-000000.npz"
    for replace in (os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")):
        index.unlink()
        replace(index)
        with pytest.raises(DataError, match="is no regular file"):
            ShardSet(tmp_path)
        if index.is_dir():
            index.rmdir()
            index.touch()
    index.unlink()
    with index.open("wb") as file:
        file.truncate(2**36)
    with pytest.raises(DataError, match="index"):
        ShardSet(tmp_path)


def test_shards_are_read_through_fsspec(tmp_path):
    import fsspec

    local = written(tmp_path)
    memory = fsspec.filesystem("memory")
    for file in tmp_path.iterdir():
        memory.pipe(f"/shards/{file.name}", file.read_bytes())
    remote = ShardSet("memory://shards")
    assert remote.keys == local.keys
    assert remote.read(5, "npz") == local.read(5, "npz")


@pytest.mark.parametrize("key", ["", "a.b", "x/", ".a", "clip0", "../a", "x/../../a", "/a"])
def test_keys_that_readers_would_confuse_are_refused(tmp_path, key):
    with ShardWriter(tmp_path) as writer:
        writer.write("clip0", {"json": b"{}"})
        with pytest.raises(DataError, match=r"key|already"):
            writer.write(key, {"json": b"{}"})


def test_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(DataError, match="no shards"):
        ShardSet(tmp_path)
