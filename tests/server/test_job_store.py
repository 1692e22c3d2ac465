"""The store of jobs: nothing is lost, nothing runs twice, turns are fair, and limits hold."""

import os
import threading
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from uniavgen.apps.server.config import ServerConfig
from uniavgen.apps.server.device_worker import DeviceWorker
from uniavgen.apps.server.errors import RequestError
from uniavgen.apps.server.job_files import JobFiles
from uniavgen.apps.server.job_store import JOBS, JobStore, QueueLimits, Status
from uniavgen.apps.server.metrics import ServerMetrics
from uniavgen.apps.server.scheduler import Scheduler
from uniavgen.errors import ConfigError
from uniavgen.provenance.config import MarkingConfig
from uniavgen.workflows.load_config import LoadConfig

LIMITS = QueueLimits(max_queued=100, max_per_owner=100)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'jobs.sqlite'}"
        return
    url = request.getfixturevalue("postgresql")
    yield url
    engine = sa.create_engine(url.replace("://", "+psycopg://"))
    with engine.begin() as connection:
        JOBS.drop(connection)
    engine.dispose()


@pytest.fixture
def store(url) -> Iterator[JobStore]:
    store = JobStore(url)
    yield store
    store.close()


def _add(store: JobStore, *names: str, owner: str = "me", limits: QueueLimits = LIMITS, **more) -> None:
    for name in names:
        store.add(name, owner, {"name": name}, limits, **more)


def _claimed(store: JobStore, replica: str = "0") -> str | None:
    job = store.claim(replica)
    return None if job is None else job.id


def test_owners_take_turns(store):
    """One who queues many jobs waits no longer than it takes for the jobs of others between them."""
    _add(store, *"abcd", owner="many")
    _add(store, "x", "y", owner="few")
    _add(store, "z", owner="one")
    assert [_claimed(store) for _ in range(8)] == ["a", "x", "z", "b", "y", "c", "d", None]


def test_job_is_claimed_once_by_many_replicas(store, url):
    _add(store, *(f"job{number}" for number in range(40)))
    taken: list[str] = []

    def take(replica: str) -> None:
        own = JobStore(url)
        while (name := _claimed(own, replica)) is not None:
            taken.append(name)
        own.close()

    threads = [threading.Thread(target=take, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(f"job{number}" for number in range(40))


def test_limits_count_what_waits_and_runs(store):
    limits = QueueLimits(max_queued=2, max_per_owner=2)
    _add(store, "a", "b", limits=limits)
    with pytest.raises(RequestError, match="2 clips wait already") as refused:
        _add(store, "c", owner="other", limits=limits)
    assert refused.value.status == 429
    job = store.claim("0")
    with pytest.raises(RequestError, match="2 clips of this key wait or are made"):
        _add(store, "c", limits=limits)
    _add(store, "c", owner="other", limits=limits)
    assert store.finish(job, {}, 100.0)
    store.delete("c", "other")
    _add(store, "d", limits=limits)


def test_limits_hold_for_requests_at_the_same_time(url):
    limits = QueueLimits(max_queued=7, max_per_owner=100)
    refused: list[str] = []

    def ask(thread: int) -> None:
        # Tables are made once, too.
        own = JobStore(url)
        for number in range(5):
            try:
                _add(own, f"{thread}-{number}", limits=limits)
            except RequestError as error:
                refused.append(str(error))
        own.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = JobStore(url)
    assert store.counts()["queued"] == 7
    assert len(refused) == 13
    store.close()


def test_repeated_idempotency_key_finds_the_first_job(store):
    _add(store, "a", idempotency_key="k", fingerprint="1")
    again = store.add("b", "me", {}, LIMITS, "k", "1")
    assert (again.id, store.find("b")) == ("a", None)
    with pytest.raises(RequestError, match="used for another request") as refused:
        store.add("b", "me", {}, LIMITS, "k", "2")
    assert refused.value.status == 422
    assert store.add("c", "other", {}, LIMITS, "k", "2").id == "c"


def test_job_of_a_killed_server_begins_anew_once_and_then_fails(store):
    _add(store, "a", "b")
    store.claim("0")
    assert store.recover("1", 100.0) == 0, "another replica's job is left alone while its lease lasts"
    assert store.recover("0", 100.0) == 1
    assert _claimed(store) == "a"
    store.recover("0", 100.0)
    failed = store.find("a")
    assert (failed.status, failed.error_status, failed.attempts) == (Status.FAILED, 500, 2)
    assert "ended while it made this clip" in failed.error
    assert _claimed(store) == "b"


def test_job_whose_lease_has_ended_is_free_and_its_late_replica_is_refused(store, monkeypatch):
    _add(store, "a")
    lost = store.claim("slow")
    assert store.renew(lost, 40, "sample")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 31)
    store.recover(None, 100.0)
    taken = store.claim("quick")
    assert (taken.id, taken.attempts) == ("a", 2)
    assert store.renew(taken, 10, "sample")
    assert store.find("a").progress == 40, "progress only rises"
    assert not store.renew(lost, 50, "sample")
    assert not store.finish(lost, {}, 100.0)
    assert store.finish(taken, {"x": 1}, 100.0)
    assert store.find("a").result == {"x": 1}


def test_running_job_that_is_deleted_is_hidden_and_not_finished(store):
    _add(store, "a", idempotency_key="k")
    job = store.claim("0")
    assert store.delete("a", "other") is None
    assert store.delete("a", "me") is Status.IN_PROGRESS
    assert (store.find("a"), store.list_jobs("me", 10, None, True), store.delete("a", "me")) == (None, [], None)
    assert not store.renew(job, 10, "sample")
    assert not store.finish(job, {}, 100.0)
    assert store.ids() == {"a"}
    store.recover("0", 100.0)
    assert store.ids() == set(), "after a restart it is gone"


def test_requeued_job_keeps_its_place_and_its_error(store):
    _add(store, "a", "b")
    job = store.claim("0")
    assert store.requeue(job, "it died")
    again = store.claim("0")
    assert (again.id, again.attempts, again.error) == ("a", 2, "it died")
    store.requeue(again, None, counts=False)
    assert store.find("a").attempts == 1


def test_jobs_expire(store):
    _add(store, "a", "b")
    store.finish(store.claim("0"), {}, -1.0)
    store.fail(store.claim("0"), 400, "no", 100.0)
    assert store.remove_expired() == ["a"]
    assert store.ids() == {"b"}
    assert store.counts() == {"queued": 0, "in_progress": 0, "completed": 0, "failed": 1}


def test_position_counts_those_in_front(store):
    _add(store, "a", "b", "c")
    assert [store.position(store.find(name)) for name in "abc"] == [0, 1, 2]


def test_files_of_expired_jobs_and_of_none_go(tmp_path):
    config = ServerConfig(data_dir=tmp_path)
    store, files = JobStore(config.database_url), JobFiles(tmp_path)
    for name in ("over", "kept", "orphan", "upload"):
        (files.create(name) / "video.mp4").touch()
    os.utime(files.folder("orphan"), (0, 0))
    _add(store, "over", "kept")
    store.finish(store.claim("0"), {}, -1.0)
    metrics = ServerMetrics()
    scheduler = Scheduler(
        store, files, DeviceWorker(LoadConfig(), config, MarkingConfig()), config, metrics, lambda: None
    )
    scheduler.sweep()
    assert {path.name for path in (tmp_path / "jobs").iterdir()} == {"kept", "upload"}
    store.close()


def test_store_that_cannot_be_opened_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="jobs are stored in SQLite or PostgreSQL, got nothing://"):
        JobStore("nothing://")
    for url in (
        "postgresql://me:secret@host:port/x",
        f"sqlite:///{tmp_path}/file/jobs.sqlite",
        "postgresql://me:secret@127.0.0.1:1/x",
    ):
        with pytest.raises(ConfigError, match="cannot be opened") as refused:
            JobStore(url)
        assert "secret" not in str(refused.value)


def test_records_have_the_columns_of_the_table():
    from dataclasses import fields

    from uniavgen.apps.server.job_store import JobRecord

    assert [each.name for each in fields(JobRecord)] == JOBS.c.keys()
