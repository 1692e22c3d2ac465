"""Uploads and clips in a store: what is served, and that what is deleted is gone."""

import os
from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from tests.s3_server import s3_bucket

from uniavgen.apps.cli import main
from uniavgen.apps.server.job_files import JobFiles
from uniavgen.apps.server.stored_job_files import StoredJobFiles

from .running import SMALL, RunningServer, data_url, finished, picture


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[RunningServer]:
    with s3_bucket("clips"):
        server = RunningServer(tmp_path_factory.mktemp("stored") / "data", "--clip-store", "s3://clips/served")
        yield server
        assert server.stop() == 130
        assert "Traceback" not in server.log.read_text()


def _stored() -> dict[str, int]:
    """Size by name of everything in the bucket."""
    import boto3

    listed = boto3.client("s3").list_objects_v2(Bucket="clips").get("Contents", [])
    return {each["Key"]: each["Size"] for each in listed}


@pytest.mark.slow
def test_clips_lie_in_a_store_and_are_gone_when_deleted(server):
    with server.client() as client:
        job = client.post("/v1/videos", json={"image_reference": data_url(picture()), **SMALL}).json()["id"]
        assert finished(client, job)["status"] == "completed"
        clip = client.get(f"/v1/videos/{job}/content")
        assert clip.content[4:8] == b"ftyp"
        assert clip.headers["content-type"] == "video/mp4"
        part = client.get(f"/v1/videos/{job}/content", headers={"Range": "bytes=100-"})
        assert (part.status_code, part.content) == (206, clip.content[100:])
        assert client.get(f"/v1/videos/{job}/content?variant=thumbnail").content[1:4] == b"PNG"
        again = {"video_reference": {"file_id": job}, **SMALL}
        second = client.post("/v1/videos", json=again).json()["id"]
        assert finished(client, second)["task"] == "dubbing"
        names = ("video.mp4", "video.png", "thumbnail.png")
        assert _stored().keys() == {f"served/jobs/{each}/{name}" for each in (job, second) for name in names}
        assert _stored()[f"served/jobs/{job}/video.mp4"] == len(clip.content)
        assert [*(server.data_dir / "jobs").iterdir()] == [], "nothing stays on this machine"
        refused = client.post("/v1/videos", json={"image_reference": data_url(b"no picture"), **SMALL})
        assert refused.status_code == 400
        for each in (job, second):
            client.delete(f"/v1/videos/{each}")
        assert _stored() == {}


@pytest.mark.parametrize("header", [None, "bytes=0-", "bytes=3-5", "bytes=9-99", "bytes=-4", "bytes=-99", "bytes=10-"])
def test_stored_file_is_answered_as_one_of_the_disk_is(tmp_path, header):
    local, stored = JobFiles(tmp_path / "local"), StoredJobFiles(tmp_path / "work", "memory://clips")
    for files in (local, stored):
        (files.create("job") / "video.mp4").write_bytes(b"0123456789")
        files.publish_clip("job")
    app = FastAPI()

    @app.get("/{place}")
    def answer(place: str, request: Request):
        files = local if place == "local" else stored
        return files.answer("job", "video", request.headers.get("range"), {"X-Video-Id": "job"})

    client = TestClient(app)
    headers = {} if header is None else {"Range": header}
    expected, got = client.get("/local", headers=headers), client.get("/stored", headers=headers)
    assert got.status_code == expected.status_code
    if got.status_code != 416:
        assert got.content == expected.content
        for name in ("content-type", "content-length", "content-disposition", "accept-ranges", "x-video-id"):
            assert got.headers[name] == expected.headers[name]
    assert got.headers.get("content-range", "")[-3:] == expected.headers.get("content-range", "")[-3:]
    stored.remove("job")


def test_folders_of_no_job_leave_the_store(tmp_path):
    files = StoredJobFiles(tmp_path, "memory://orphans")
    for name in ("known", "orphan"):
        (files.create(name) / "image.png").write_bytes(b"x")
        files.publish_inputs(name)
    files.remove_orphans({"known"}, min_age_s=0.0)
    assert [file.name for file in files.fetch("known").iterdir()] == ["image.png"]
    assert [*files.fetch("orphan").iterdir()] == []
    os.utime(files.folder("orphan"), (0, 0))
    files.remove_orphans({"known"})
    assert {path.name for path in (tmp_path / "jobs").iterdir()} == {"known"}


@pytest.mark.parametrize("url", ["nothing://clips", "s3://no-such-bucket/clips"])
def test_store_that_cannot_be_used_is_one_sentence(tmp_path, capsys, server, url):
    assert main(["serve", "--port", "0", "--data-dir", str(tmp_path), "--clip-store", url]) == 2
    assert f"{url.partition('://')[2]}" in capsys.readouterr().err
