"""Queues many jobs from many clients at once, watches the server meanwhile, and may kill it. Minutes:

    python tests/robustness/server_load.py --jobs 200 --clients 20 --kills 2 --seed 1

Every job must end completed, once; figures of memory and of answers are printed.
"""

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx2 as httpx
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from server.running import SMALL, RunningServer, data_url, picture


class Load:
    """Clients that each queue jobs and ask after them until all have ended."""

    def __init__(self, server: RunningServer, jobs: int, clients: int) -> None:
        self.server, self.clients = server, clients
        self.left = [jobs // clients + (number < jobs % clients) for number in range(clients)]
        self.lock = threading.Lock()
        self.answers_s: list[float] = []
        self.statuses: dict[str, list[str]] = {}
        """All final states that were seen, by job."""
        self.refused = self.disconnected = 0

    def run(self) -> None:
        """Runs all clients."""
        threads = [threading.Thread(target=self._client, args=(number,)) for number in range(self.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _client(self, number: int) -> None:
        open_jobs: list[str] = []
        asked = 0
        while asked < self.left[number] or open_jobs:
            try:
                with self.server.client(patience_s=30) as client:
                    while asked < self.left[number] or open_jobs:
                        if asked < self.left[number] and self._ask(client, number, asked, open_jobs):
                            asked += 1
                        self._look(client, open_jobs)
                        time.sleep(0.5)
            except httpx.TransportError:
                # The server is being started again; the same idempotency keys find what it had taken.
                self.disconnected += 1
                time.sleep(0.5)

    def _ask(self, client: httpx.Client, number: int, asked: int, open_jobs: list[str]) -> bool:
        request = {"image_reference": data_url(picture()), **SMALL, "seed": 1000 * number + asked}
        answer = client.post("/v1/videos", json=request, headers={"Idempotency-Key": f"{number}-{asked}"})
        if answer.status_code == 429:
            self.refused += 1
            time.sleep(min(float(answer.headers["retry-after"]), 1))
            return False
        answer.raise_for_status()
        open_jobs.append(answer.json()["id"])
        return True

    def _look(self, client: httpx.Client, open_jobs: list[str]) -> None:
        for job in [*open_jobs]:
            started = time.monotonic()
            state = client.get(f"/v1/videos/{job}").json()
            with self.lock:
                self.answers_s.append(time.monotonic() - started)
                if state["status"] in ("completed", "failed"):
                    self.statuses.setdefault(job, []).append(state["status"])
                    open_jobs.remove(job)


class Watch(threading.Thread):
    """Notes the memory of the server and of its processes, and kills them as often as it is told."""

    def __init__(self, server: RunningServer, load: Load, jobs: int, kills: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.server, self.load, self.jobs = server, load, jobs
        rng = random.Random(seed)
        self.at = sorted(rng.randrange(jobs // 10, max(jobs * 8 // 10, 2)) for _ in range(2 * kills))
        self.killed: list[str] = []
        self.memory_mb: list[tuple[float, float]] = []

    def run(self) -> None:
        """Looks twice a second."""
        while True:
            try:
                server = psutil.Process(self.server.process.pid)
                own = server.memory_info().rss / 2**20
                whole = own + sum(child.memory_info().rss / 2**20 for child in server.children(recursive=True))
                self.memory_mb.append((own, whole))
                if self.at and len(self.load.statuses) >= self.at[0]:
                    self.at.pop(0)
                    self._kill(server)
            except psutil.NoSuchProcess:
                pass
            time.sleep(0.5)

    def _kill(self, server: psutil.Process) -> None:
        """Kills the process of the device and the server in turn."""
        if len(self.killed) % 2 == 0:
            workers = [each for each in server.children(recursive=True) if each.ppid() != server.pid]
            biggest = max(workers, key=lambda each: each.memory_info().rss)
            os.kill(biggest.pid, signal.SIGKILL)
            self.killed.append("worker")
        else:
            self.server.kill()
            self.server.start()
            self.killed.append("server")


def main() -> int:
    """Runs the load and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        limits = ("--max-queued", "1000", "--max-jobs-per-key", "1000")
        with RunningServer(Path(folder) / "data", *limits) as server:
            server.wait_until_ready()
            load = Load(server, options.jobs, options.clients)
            watch = Watch(server, load, options.jobs, options.kills, options.seed)
            started = time.monotonic()
            watch.start()
            load.run()
            seconds = time.monotonic() - started
            with server.client() as client:
                counts = client.get("/metrics").text
            clips = len([*(Path(folder) / "data" / "jobs").glob("*/video.mp4")])
    completed = [job for job, states in load.statuses.items() if states == ["completed"]]
    answers = sorted(load.answers_s)
    own, whole = zip(*watch.memory_mb, strict=True)
    tenth = max(len(own) // 10, 1)
    print(f"{len(completed)} of {options.jobs} completed, {clips} clips, {seconds:.0f} s, killed: {watch.killed}")
    print(f"refused for a while: {load.refused}, connections lost: {load.disconnected}")
    print(
        f"GET of {len(answers)}: median {1000 * statistics.median(answers):.0f} ms, "
        f"p95 {1000 * answers[int(0.95 * len(answers))]:.0f} ms, max {1000 * answers[-1]:.0f} ms"
    )
    print(
        f"memory of the server: {statistics.mean(own[tenth : 2 * tenth]):.0f} MB in the second tenth, "
        f"{statistics.mean(own[-tenth:]):.0f} MB in the last; with all processes at most {max(whole):.0f} MB"
    )
    print(next(line for line in counts.splitlines() if line.startswith('uniavgen_stored_jobs{status="completed"}')))
    return 0 if len(completed) == clips == options.jobs else 1


if __name__ == "__main__":
    sys.exit(main())
