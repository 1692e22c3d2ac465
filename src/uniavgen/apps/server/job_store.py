"""Jobs in a database: SQLite in one file, or PostgreSQL by URL. A job that was accepted is never lost, and runs once.

A replica that runs a job holds a lease on it, which it renews; where the lease ends, the job is free again. All
changes are single transactions, one after the other, so that several replicas may share a store.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from uniavgen.apps.server.errors import RequestError
from uniavgen.errors import ConfigError

MAX_ATTEMPTS: Final = 2
"""How often a job is begun where the process that makes it dies."""
_DIED: Final = "the server ended while it made this clip, and once more when it began anew; ask for the clip again"


class Status(StrEnum):
    """Where a job is, in OpenAI's words."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


# How a transaction takes the lock for writing: of the file, or one that all servers ask for by the same number.
_BEGIN: Final = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(7860)"}
_CONNECT: Final = {"connect_timeout": 10}
ACTIVE: Final = (Status.QUEUED, Status.IN_PROGRESS)
_METADATA = sa.MetaData()
JOBS: Final = sa.Table(
    "jobs",
    _METADATA,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("owner", sa.String(200), nullable=False, index=True),
    sa.Column("status", sa.String(20), nullable=False, index=True),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("result", sa.JSON, nullable=False),
    sa.Column("progress", sa.Integer, nullable=False, default=0),
    sa.Column("phase", sa.String(40), nullable=False, default=""),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("completed_at", sa.Float),
    sa.Column("expires_at", sa.Float),
    sa.Column("error_status", sa.Integer),
    sa.Column("error", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("replica", sa.String(100)),
    sa.Column("lease_until", sa.Float),
    sa.Column("is_deleted", sa.Boolean, nullable=False, default=False),
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("fingerprint", sa.String(64)),
    sa.UniqueConstraint("owner", "idempotency_key"),
    sqlite_autoincrement=True,
)


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """One row: a job as it stands."""

    seq: int
    id: str
    owner: str
    status: str
    request: Mapping[str, Any]
    result: Mapping[str, Any]
    progress: int
    phase: str
    created_at: float
    started_at: float | None
    completed_at: float | None
    expires_at: float | None
    error_status: int | None
    error: str | None
    attempts: int
    replica: str | None
    lease_until: float | None
    is_deleted: bool
    """Whether its owner has deleted it while it runs; nobody sees it any more, and it is stopped."""
    idempotency_key: str | None
    fingerprint: str | None
    """Of what was asked for, so that a repeated key with another request is noticed."""


@dataclass(frozen=True, kw_only=True)
class QueueLimits:
    """How many jobs may wait, and how many of one owner may wait or run."""

    max_queued: int
    max_per_owner: int


class JobStore:
    """The jobs of a server, or of several that share a database. Methods may be called from any thread."""

    def __init__(self, url: str, lease_s: float = 30.0) -> None:
        """`lease_s`: for how long a replica is trusted to run a job without a sign of life."""
        self._lease_s = lease_s
        try:
            self._engine = _open_engine(url)
            with self._engine.begin() as connection:
                _METADATA.create_all(connection)
        except ImportError as error:
            raise ConfigError(
                f"this store of jobs needs the package {error.name}: pip install 'uniavgen[postgres]'"
            ) from error
        except (SQLAlchemyError, OSError, ValueError) as error:
            shown = re.sub(r"//.*@", "//...@", url)[:100]
            raise ConfigError(
                f"the store of jobs {shown} cannot be opened ({type(error).__name__}); check its URL, its driver and "
                "that it runs"
            ) from error
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()

    def add(
        self,
        job_id: str,
        owner: str,
        request: Mapping[str, Any],
        limits: QueueLimits,
        idempotency_key: str | None = None,
        fingerprint: str | None = None,
    ) -> JobRecord:
        """Queues a job and returns it, or the one that was queued with the same idempotency key.

        Raises RequestError 429 where the queue or the owner's share of it is full, 422 for a key of another request.
        """
        values = {
            "id": job_id,
            "owner": owner,
            "status": Status.QUEUED,
            "request": dict(request),
            "result": {},
            "created_at": time.time(),
            "idempotency_key": idempotency_key,
            "fingerprint": fingerprint,
        }
        with self._engine.begin() as connection:
            if idempotency_key is not None:
                earlier = _first(connection, JOBS.c.owner == owner, JOBS.c.idempotency_key == idempotency_key)
                if earlier is not None:
                    return _same_request(earlier, fingerprint)
            self._check_room(connection, owner, limits)
            connection.execute(sa.insert(JOBS).values(values))
            added = _first(connection, JOBS.c.id == job_id)
        assert added is not None, "a row that was inserted is there"
        return added

    def find_repeated(self, owner: str, idempotency_key: str, fingerprint: str) -> JobRecord | None:
        """Returns the job that was queued with an idempotency key. Raises RequestError 422 for another request."""
        with self._reading.connect() as connection:
            job = _first(connection, JOBS.c.owner == owner, JOBS.c.idempotency_key == idempotency_key)
        return None if job is None else _same_request(job, fingerprint)

    def check_room(self, owner: str, limits: QueueLimits) -> None:
        """Raises RequestError 429 where a job of `owner` would be refused."""
        with self._reading.connect() as connection:
            self._check_room(connection, owner, limits)

    def find(self, job_id: str, owner: str | None = None) -> JobRecord | None:
        """Returns a job that was not deleted; of `owner` alone where one is named."""
        conditions = [JOBS.c.id == job_id, ~JOBS.c.is_deleted]
        if owner is not None:
            conditions.append(JOBS.c.owner == owner)
        with self._reading.connect() as connection:
            return _first(connection, *conditions)

    def list_jobs(self, owner: str, limit: int, after: str | None, newest_first: bool) -> list[JobRecord]:
        """Returns jobs of an owner in the order in which they were queued, those behind `after`."""
        query = sa.select(JOBS).where(JOBS.c.owner == owner, ~JOBS.c.is_deleted)
        if after is not None:
            seq = sa.select(JOBS.c.seq).where(JOBS.c.id == after, JOBS.c.owner == owner).scalar_subquery()
            query = query.where(JOBS.c.seq < seq if newest_first else JOBS.c.seq > seq)
        query = query.order_by(JOBS.c.seq.desc() if newest_first else JOBS.c.seq.asc()).limit(limit)
        with self._reading.connect() as connection:
            return [_record(row) for row in connection.execute(query)]

    def position(self, job: JobRecord) -> int:
        """Returns how many jobs were queued before a queued one and wait still."""
        query = sa.select(sa.func.count()).where(JOBS.c.status == Status.QUEUED, JOBS.c.seq < job.seq)
        with self._reading.connect() as connection:
            return connection.execute(query).scalar_one()

    def counts(self) -> dict[str, int]:
        """Returns how many jobs have each status."""
        query = sa.select(JOBS.c.status, sa.func.count().label("jobs")).group_by(JOBS.c.status)
        with self._reading.connect() as connection:
            found = {row.status: row.jobs for row in connection.execute(query)}
        return {str(status): found.get(status, 0) for status in Status}

    def claim(self, replica: str) -> JobRecord | None:
        """Takes the next job for a replica: the oldest of the owner whose last job began the longest ago."""
        waiting = (
            sa.select(JOBS.c.owner, sa.func.min(JOBS.c.seq).label("seq"))
            .where(JOBS.c.status == Status.QUEUED)
            .group_by(JOBS.c.owner)
            .subquery()
        )
        served = sa.select(JOBS.c.owner, sa.func.max(JOBS.c.started_at).label("at")).group_by(JOBS.c.owner).subquery()
        query = (
            sa.select(waiting.c.seq)
            .join(served, served.c.owner == waiting.c.owner)
            .order_by(sa.func.coalesce(served.c.at, 0.0), waiting.c.seq)
            .limit(1)
        )
        with self._engine.begin() as connection:
            seq = connection.execute(query).scalar_one_or_none()
            if seq is None:
                return None
            now = time.time()
            values = {"status": Status.IN_PROGRESS, "replica": replica, "started_at": now}
            values |= {"lease_until": now + self._lease_s, "attempts": JOBS.c.attempts + 1}
            connection.execute(sa.update(JOBS).where(JOBS.c.seq == seq).values(**values))
            return _first(connection, JOBS.c.seq == seq)

    def renew(self, job: JobRecord, progress: int, phase: str) -> bool:
        """Notes the progress of a running job and renews its lease; False where it was deleted or taken away.

        Progress only rises, also where a job is begun anew.
        """
        highest = sa.case((JOBS.c.progress > progress, JOBS.c.progress), else_=progress)
        values = {"progress": highest, "phase": phase, "lease_until": time.time() + self._lease_s}
        return self._update(_running(job), values)

    def finish(self, job: JobRecord, result: Mapping[str, Any], keep_s: float) -> bool:
        """Notes that a job is done; False where it was deleted or taken away meanwhile."""
        now = time.time()
        values = {"status": Status.COMPLETED, "progress": 100, "phase": "", "result": dict(result), "error": None}
        return self._update(_running(job), {**values, "completed_at": now, "expires_at": now + keep_s})

    def fail(self, job: JobRecord, status: int, sentence: str, keep_s: float) -> bool:
        """Notes why a job failed; False where it was deleted or taken away meanwhile."""
        return self._update(_running(job), _failed(status, sentence, keep_s))

    def requeue(self, job: JobRecord, sentence: str | None, counts: bool = True) -> bool:
        """Queues a running job again, at its old place, and keeps the reason. Not `counts`: it was no fault of its."""
        values = {"status": Status.QUEUED, "replica": None, "lease_until": None, "error": sentence}
        return self._update(_running(job), {**values, "attempts": job.attempts - (not counts)})

    def recover(self, replica: str | None, keep_s: float) -> int:
        """Frees running jobs whose lease has ended, and all of `replica`, which has just started: each is begun anew
        once and has failed after that. Returns how many were freed."""
        lost = JOBS.c.lease_until < time.time()
        if replica is not None:
            lost |= JOBS.c.replica == replica
        running = [JOBS.c.status == Status.IN_PROGRESS, lost]
        queued = {"status": Status.QUEUED, "replica": None, "lease_until": None}
        with self._engine.begin() as connection:
            connection.execute(sa.delete(JOBS).where(*running, JOBS.c.is_deleted))
            twice = [*running, JOBS.c.attempts >= MAX_ATTEMPTS]
            failed = connection.execute(sa.update(JOBS).where(*twice).values(_failed(500, _DIED, keep_s)))
            freed = connection.execute(sa.update(JOBS).where(*running).values(queued))
            return failed.rowcount + freed.rowcount

    def delete(self, job_id: str, owner: str) -> Status | None:
        """Deletes a job that does not run, and hides one that does until it has stopped.

        Returns the status that it had, None where there is no such job.
        """
        mine = [JOBS.c.id == job_id, JOBS.c.owner == owner, ~JOBS.c.is_deleted]
        with self._engine.begin() as connection:
            job = _first(connection, *mine)
            if job is None:
                return None
            idle = [*mine, JOBS.c.status != Status.IN_PROGRESS]
            if not connection.execute(sa.delete(JOBS).where(*idle)).rowcount:
                # Its idempotency key is free again.
                hidden = {"is_deleted": True, "idempotency_key": None}
                connection.execute(sa.update(JOBS).where(*mine).values(hidden))
            return Status(job.status)

    def remove(self, job_id: str) -> None:
        """Deletes a row, whatever its status."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(JOBS).where(JOBS.c.id == job_id))

    def is_wanted(self, job_id: str) -> bool:
        """Returns whether a job exists and was not deleted."""
        return self.find(job_id) is not None

    def exists(self, job_id: str) -> bool:
        """Returns whether there is a job, though it was deleted and only stops."""
        with self._reading.connect() as connection:
            return _first(connection, JOBS.c.id == job_id) is not None

    def remove_expired(self) -> list[str]:
        """Deletes jobs whose time is over and returns their ids."""
        expired = JOBS.c.expires_at < time.time()
        with self._engine.begin() as connection:
            ids = list(connection.execute(sa.select(JOBS.c.id).where(expired)).scalars())
            connection.execute(sa.delete(JOBS).where(expired))
        return ids

    def ids(self) -> set[str]:
        """Returns the ids of all jobs."""
        with self._reading.connect() as connection:
            return {*connection.execute(sa.select(JOBS.c.id)).scalars()}

    def _check_room(self, connection: sa.Connection, owner: str, limits: QueueLimits) -> None:
        count = sa.select(sa.func.count())
        queued = connection.execute(count.where(JOBS.c.status == Status.QUEUED)).scalar_one()
        own = connection.execute(count.where(JOBS.c.owner == owner, JOBS.c.status.in_(ACTIVE))).scalar_one()
        if queued >= limits.max_queued:
            raise RequestError(429, f"{queued} clips wait already, no more are taken; try again later", code="queue")
        if own >= limits.max_per_owner:
            raise RequestError(
                429, f"{own} clips of this key wait or are made, more are not taken; wait for one of them", code="key"
            )

    def _update(self, conditions: Sequence[Any], values: Mapping[str, Any]) -> bool:
        with self._engine.begin() as connection:
            return bool(connection.execute(sa.update(JOBS).where(*conditions).values(**values)).rowcount)


def _running(job: JobRecord) -> list[Any]:
    """Returns the conditions under which a job still runs as it was claimed."""
    held = [JOBS.c.replica == job.replica, JOBS.c.attempts == job.attempts]
    return [JOBS.c.id == job.id, JOBS.c.status == Status.IN_PROGRESS, ~JOBS.c.is_deleted, *held]


def _failed(status: int, sentence: str, keep_s: float) -> dict[str, Any]:
    now = time.time()
    values = {"status": Status.FAILED, "error_status": status, "error": sentence, "phase": ""}
    return {**values, "completed_at": now, "expires_at": now + keep_s}


def _same_request(job: JobRecord, fingerprint: str | None) -> JobRecord:
    if job.fingerprint != fingerprint:
        raise RequestError(422, "this idempotency key was used for another request; use a new one for each request")
    return job


def _first(connection: sa.Connection, *conditions: Any) -> JobRecord | None:
    row = connection.execute(sa.select(JOBS).where(*conditions)).first()
    return None if row is None else _record(row)


def _record(row: sa.Row[Any]) -> JobRecord:
    return JobRecord(**dict(zip(JOBS.c.keys(), row, strict=True)))


def _open_engine(url: str) -> sa.Engine:
    parsed = sa.engine.url.make_url(url)
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in _BEGIN:
        raise ConfigError(
            f"jobs are stored in SQLite or PostgreSQL, got {parsed.drivername}://...; give postgresql://USER@HOST/NAME"
        )
    is_sqlite = parsed.get_backend_name() == "sqlite"
    if is_sqlite and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    # Connections that the server of the database has closed are opened anew.
    engine = sa.create_engine(parsed, pool_pre_ping=True, connect_args={"timeout": 30} if is_sqlite else _CONNECT)
    if is_sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_alone)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # SQLAlchemy's recipe: transactions begin where they are told to.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _begin_alone(connection: sa.Connection) -> None:
    """Lets one transaction that writes follow the other: what it reads first is true until it ends."""
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql(_BEGIN[connection.dialect.name])
