"""A process that does not answer in time ends the run, in all processes, with a reason."""

import os
import socket
import time
from pathlib import Path

from tests.forks import CONTEXT
from tiny_run import config, run, write_features

from uniavgen.distributed import ParallelContext, process_group
from uniavgen.errors import TrainingError

TIMEOUT_S, SLEEP_S = 4.0, 8.0


def as_one_of_two(rank: int, port: int, folder: str, base: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCH_CPP_LOG_LEVEL": "FATAL"}

    def sleep(_record, _state):
        if rank == 1:
            time.sleep(SLEEP_S)

    try:
        with process_group("cpu", TIMEOUT_S):
            context = ParallelContext.for_training()
            run(folder, base / "out", config("sharding.shard_degree=2"), context=context).train([sleep])
    except TrainingError as error:
        (base / f"{rank}.txt").write_text(str(error))


def test_process_that_does_not_answer_in_time_ends_all_with_a_reason(tmp_path):
    folder = write_features(tmp_path / "data")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [CONTEXT.Process(target=as_one_of_two, args=(rank, port, folder, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    for rank in range(2):
        reason = (tmp_path / f"{rank}.txt").read_text()
        assert "another of the 2 processes has ended or did not answer for 4 s; start the run again" in reason
