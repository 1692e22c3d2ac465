"""Runs the little stages and packs, as a process that can be killed: SOURCES WORK SHARDS WHERE."""

import sys
from pathlib import Path

from tests.data_engine.test_pack import NUM_FRAMES, RULES, SELECTION

from uniavgen.data_engine.choose_executor import choose_executor
from uniavgen.workflows.data_engine import PackConfig, pack, run_stages


def main(sources: str, work: str, shards: str, where: str) -> None:
    """Does all of it, or what is left."""
    jobs = {"here": None}.get(where, 2)
    executor = choose_executor(jobs, "local" if where == "ray" else None)
    run_stages([Path(sources)], Path(work), SELECTION, executor)
    pack(PackConfig(work=Path(work), out=Path(shards), num_frames=NUM_FRAMES), RULES, executor)


if __name__ == "__main__":
    main(*sys.argv[1:])
