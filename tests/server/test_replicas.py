"""Two replicas on Ray share jobs: none is lost, none made twice, and what a killed one leaves is made by the other."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from uniavgen.apps.cli import main
from uniavgen.apps.server.job_store import JOBS

from .postgresql import find_programs
from .running import SMALL, RunningServer, data_url, finished, picture, wait_for

pytest.importorskip("ray.serve")
pytestmark = pytest.mark.slow
SHORT = {"image_reference": data_url(picture()), **SMALL}


@pytest.fixture(scope="module")
def database(request, tmp_path_factory) -> str:
    """The real thing where it is installed, and a file otherwise."""
    if find_programs() is None:
        return f"sqlite:///{tmp_path_factory.mktemp('store') / 'jobs.sqlite'}"
    return request.getfixturevalue("postgresql").replace("://", "+psycopg://")


@pytest.fixture(scope="module")
def server(database, tmp_path_factory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("replicas") / "data"
    server = RunningServer(
        folder, "--replicas", "2", "--ray", "local", "--database", database, "--lease-seconds", "3"
    )  # fmt: skip
    yield server
    assert server.stop() == 130
    assert "Traceback" not in server.log.read_text()


@pytest.fixture
def rows(database) -> Iterator[sa.Engine]:
    engine = sa.create_engine(database)
    yield engine
    engine.dispose()


def _row(rows: sa.Engine, job_id: str) -> sa.Row:
    with rows.connect() as connection:
        return connection.execute(sa.select(JOBS).where(JOBS.c.id == job_id)).one()


def _pid(row: sa.Row) -> int:
    """The process of the replica that makes a job is part of its name."""
    return int(row.replica.partition("-")[0])


def test_jobs_of_several_clients_are_shared_by_replicas(server, rows):
    jobs: list[str] = []

    def ask(seed: int) -> None:
        with server.client() as client:
            mine = [client.post("/v1/videos", json={**SHORT, "seed": seed + each}).json()["id"] for each in (0, 1)]
            for job in mine:
                # Status 503 while the database does not answer.
                wait_for(lambda job=job: client.get(f"/v1/videos/{job}").json().get("status") == "completed")
                wait_for(lambda job=job: client.get(f"/v1/videos/{job}/content").content[4:8] == b"ftyp")
            jobs.extend(mine)

    threads = [threading.Thread(target=ask, args=(10 * number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    if rows.dialect.name == "postgresql":
        wait_for(lambda: _count(rows) == 6)
        with rows.connect() as connection:
            # As when it starts anew: every connection of the servers ends.
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            connection.exec_driver_sql(f"{others} AND datname IS NOT NULL")
    for thread in threads:
        thread.join()
    made = [_row(rows, job) for job in jobs]
    assert len({row.id for row in made}) == 6
    assert [row.attempts for row in made] == [1] * 6
    assert len({row.replica for row in made}) == 2


def _count(rows: sa.Engine) -> int:
    with rows.connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(JOBS)).scalar_one()


def test_job_of_a_killed_replica_is_made_once_by_another(server, rows):
    with server.client() as client:
        job = client.post("/v1/videos", json={**SHORT, "num_inference_steps": 30}).json()["id"]
        wait_for(lambda: _row(rows, job).phase == "sample")
        first = _row(rows, job)
        os.kill(_pid(first), signal.SIGKILL)
        wait_for(lambda: _row(rows, job).status == "completed")
        last = _row(rows, job)
        assert (last.attempts, last.replica == first.replica) == (2, False)
        assert finished(client, job)["status"] == "completed"
        assert client.get(f"/v1/videos/{job}/content", headers={"Range": "bytes=4-7"}).content == b"ftyp"


def test_job_is_deleted_through_any_replica(server, rows):
    """Whoever takes the request, the replica that makes the clip stops before the answer comes."""
    with server.client() as client:
        for _ in range(2):
            job = client.post("/v1/videos", json={**SHORT, "num_inference_steps": 1000}).json()["id"]
            wait_for(lambda job=job: _row(rows, job).phase == "sample")
            assert client.delete(f"/v1/videos/{job}").json()["deleted"] is True
            assert not (server.data_dir / "jobs" / job).exists()
            assert client.get(f"/v1/videos/{job}").status_code == 404


def test_replicas_that_cannot_be_are_one_sentence(tmp_path, capsys):
    command = ["serve", "--port", "0", "--data-dir", str(tmp_path), "--replicas", "2"]
    assert main([*command, "--ray", "127.0.0.1:1"]) == 2
    assert "there is no Ray cluster at '127.0.0.1:1'" in capsys.readouterr().err
