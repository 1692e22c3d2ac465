"""kill -9 of the process of the device and of the server: every job ends, once. Deleting stops a job at a step."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from .running import SMALL, RunningServer, data_url, finished, picture, wait_for

pytestmark = pytest.mark.slow
LONG = {"image_reference": data_url(picture()), **SMALL, "num_inference_steps": 400}
"""Minutes of sampling."""
SHORT = {"image_reference": data_url(picture()), **SMALL}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path_factory.mktemp("restarts") / "data", "--max-queued", "3")
    yield running
    running.kill()


def _worker(server: RunningServer) -> int:
    """The process of the device: the one that holds the weights."""
    wait_for(lambda: _biggest(server) is not None)
    found = _biggest(server)
    assert found is not None
    return found


def _biggest(server: RunningServer) -> int | None:
    ids = {}
    for pid in server.children():
        try:
            process = psutil.Process(pid)
            if "forkserver" in " ".join(process.cmdline()) and process.parent().pid != server.process.pid:
                ids[process.create_time()] = pid
        except psutil.NoSuchProcess:
            continue
    return ids[min(ids)] if ids else None


def _sampling(client, job_id: str) -> None:
    """Waits until a job is in the middle of its steps."""
    wait_for(lambda: client.get(f"/v1/videos/{job_id}").json()["phase"] == "sample")


def test_deleting_stops_a_job_at_its_next_step_and_frees_its_files(server):
    server.wait_until_ready()
    with server.client() as client, server.client() as other:
        worker = _worker(server)
        job = client.post("/v1/videos", json=LONG).json()["id"]
        _sampling(client, job)
        waiting = client.post("/v1/videos", json=SHORT, headers={"Idempotency-Key": "once"}).json()["id"]
        assert client.post("/v1/videos", json=SHORT, headers={"Idempotency-Key": "once"}).json()["id"] == waiting
        more = [client.post("/v1/videos", json=SHORT).json()["id"] for _ in range(2)]
        refused = client.post("/v1/videos", json=SHORT)
        assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
        assert int(refused.headers["retry-after"]) >= 1
        assert all(client.delete(f"/v1/videos/{each}").status_code == 200 for each in more)
        started = time.monotonic()
        assert other.delete(f"/v1/videos/{job}").json()["deleted"] is True
        assert client.get(f"/v1/videos/{job}").status_code == 404
        assert not (server.data_dir / "jobs" / job).exists()
        # A step takes a tenth of a second here, all of them minutes.
        assert time.monotonic() - started < 10
        assert finished(client, waiting)["status"] == "completed"
        assert _worker(server) == worker, "the model stays loaded"
        client.delete(f"/v1/videos/{waiting}")
        assert [*(server.data_dir / "jobs").iterdir()] == []


def test_job_begins_anew_when_its_process_is_killed_and_fails_the_second_time(server):
    server.wait_until_ready()
    with server.client() as client:
        job = client.post("/v1/videos", json=LONG).json()["id"]
        behind = client.post("/v1/videos", json=SHORT).json()["id"]
        for _ in range(2):
            _sampling(client, job)
            killed = _worker(server)
            os.kill(killed, signal.SIGKILL)
            wait_for(lambda killed=killed: not psutil.pid_exists(killed))
            wait_for(lambda: client.get(f"/v1/videos/{job}").json()["phase"] != "sample")
        answer = client.get(f"/v1/videos/{job}")
        wait_for(lambda: client.get(f"/v1/videos/{job}").status_code == 500)
        answer = client.get(f"/v1/videos/{job}")
        assert answer.json()["status"] == "failed"
        assert "ended (signal 9), and so did its second one" in answer.json()["error"]["message"]
        assert finished(client, behind)["status"] == "completed"
        assert "uniavgen_worker_restarts_total 2.0" in client.get("/metrics").text


def test_killed_server_loses_no_job_and_leaves_no_process(server):
    """The running job begins anew, those that wait go on, what was finished stays."""
    server.wait_until_ready()
    with server.client() as client:
        done = client.post("/v1/videos", json=SHORT).json()["id"]
        finished(client, done)
        running = client.post("/v1/videos", json={**SHORT, "num_inference_steps": 20}).json()["id"]
        waiting = [client.post("/v1/videos", json=SHORT).json()["id"] for _ in range(2)]
        _sampling(client, running)
        children = server.children()
    server.kill()
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in children))
    server.start()
    with server.client() as client:
        for job in (done, running, *waiting):
            assert finished(client, job)["status"] == "completed"
            assert client.get(f"/v1/videos/{job}/content").content[4:8] == b"ftyp"
        texts = client.get("/metrics").text
        assert re.search(r'uniavgen_jobs_total\{status="completed"\} 3\.0', texts), "each of them once"
        folders = {path.name for path in (server.data_dir / "jobs").iterdir()}
        jobs = client.get("/v1/videos", params={"limit": 100}).json()["data"]
        assert folders == {job["id"] for job in jobs}


def test_second_server_on_the_same_data_is_refused(server, capsys):
    from uniavgen.apps.cli import main

    assert main(["serve", "--port", "0", "--data-dir", str(Path(server.data_dir))]) == 2
    assert "another process is writing" in capsys.readouterr().err
