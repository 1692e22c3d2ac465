"""Features in an S3 store, served by a process-local server that speaks its protocol."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.s3_server import s3_bucket
from torch.utils.data import DataLoader

from uniavgen.apps.cli import main
from uniavgen.data.clip_reader import CacheConfig
from uniavgen.data.features import FeatureSet

from .feature_folders import write_features
from .test_feature_index import content


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket("features"):
        yield "features"


def upload(folder: Path, bucket: str, prefix: str) -> str:
    import boto3

    for file in folder.iterdir():
        boto3.client("s3").upload_file(str(file), bucket, f"{prefix}/{file.name}")
    return f"s3://{bucket}/{prefix}"


def test_features_of_an_s3_bucket_are_those_of_the_folder(bucket, tmp_path):
    local = FeatureSet(write_features(tmp_path / "features", range(7)))
    remote = FeatureSet(upload(tmp_path / "features", bucket, "small"), CacheConfig(folder=tmp_path / "cache"))
    assert content(remote) == content(local)
    assert remote.index.path.parent == tmp_path / "cache"


def test_index_is_made_for_an_s3_bucket_that_lacks_it(bucket, tmp_path):
    local = FeatureSet(write_features(tmp_path / "features", range(7)))
    local.index.path.unlink()
    remote = FeatureSet(upload(tmp_path / "features", bucket, "bare"), CacheConfig(folder=tmp_path / "cache"))
    assert content(remote) == content(local)


@pytest.mark.parametrize("url", ["s3://features/nothing", "s3://no-such-bucket/features"])
def test_s3_folder_without_features_is_refused(bucket, tmp_path, capsys, url):
    command = ["train", "-c", "nano/stage1", "--data", url, "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert main(command) == 2
    assert f"no shards (*.tar) in {url}" in capsys.readouterr().err


def test_workers_read_from_s3_after_their_parent_has(bucket, tmp_path):
    local = FeatureSet(write_features(tmp_path / "features", range(7)))
    nothing_kept = CacheConfig(folder=tmp_path / "cache", memory_bytes=0, disk_bytes=0)
    remote = FeatureSet(upload(tmp_path / "features", bucket, "workers"), nothing_kept)
    assert remote[0].text == local[0].text
    # Forked, as the workers of a data loader: the connections of the parent are of no use to them.
    loader = DataLoader(remote, batch_size=None, num_workers=2, sampler=range(len(local)))
    assert [clip.text for clip in loader] == [local[i].text for i in range(len(local))]
