"""What Prometheus reads at `/metrics`."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

_SECONDS = (0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600)


class ServerMetrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.jobs = Counter("uniavgen_jobs", "Jobs by how they ended.", ["status"], registry=self.registry)
        self.requests = Counter(
            "uniavgen_http_requests", "Requests by route and status.", ["method", "route", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.request_seconds = Histogram(
            "uniavgen_http_request_seconds", "Seconds until an answer begins.", ["route"], registry=self.registry
        )
        self.job_seconds = Histogram(
            "uniavgen_job_seconds", "Seconds that a clip took.", buckets=_SECONDS, registry=self.registry
        )
        self.stage_seconds = Counter(
            "uniavgen_stage_seconds", "Seconds in each stage of making clips.", ["stage"], registry=self.registry
        )
        self.worker_restarts = Counter(
            "uniavgen_worker_restarts", "Times that the process of a device ended in a clip.", registry=self.registry
        )

    def show_queue(self, counts: Callable[[], Mapping[str, int]]) -> None:
        """Adds how many jobs of the store have each status."""
        self.registry.register(_QueueCollector(counts))

    def text(self) -> tuple[bytes, str]:
        """Returns all figures in Prometheus's format, and its media type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class _QueueCollector(Collector):
    """Asks the store when figures are asked for."""

    def __init__(self, counts: Callable[[], Mapping[str, int]]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yields the number of jobs by status."""
        family = GaugeMetricFamily("uniavgen_stored_jobs", "Jobs in the store by status.", labels=["status"])
        for status, count in self._counts().items():
            family.add_metric([status], count)
        yield family

    def describe(self) -> list[GaugeMetricFamily]:
        """Returns nothing, so that the store is not asked when the collector is added."""
        return []
