"""Several replicas behind one address, by Ray Serve: one a GPU of the cluster, each with a device worker of its own.

They share the store of jobs and the clips; a job of a replica that dies is made by another when its lease has ended.
"""

import asyncio
import os
import secrets
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from uniavgen.apps.server.app import create_app, open_files
from uniavgen.apps.server.config import ServerConfig
from uniavgen.apps.server.job_store import JobStore
from uniavgen.apps.server.listening import configure_logging, listen, shown_address, with_local_model
from uniavgen.artifacts import first_line
from uniavgen.data_engine.ray_cluster import connect_ray
from uniavgen.errors import ConfigError
from uniavgen.provenance.config import MarkingConfig
from uniavgen.workflows.load_config import LoadConfig
from uniavgen.workflows.model_files import find_model, shown_name

if TYPE_CHECKING:
    from fastapi import FastAPI

_NAME: Final = "uniavgen"
_MAX_REQUESTS: Final = 1000
"""Requests that a replica answers at once; those that follow a job last as long as it does."""
_STARTS: Final = 2
"""How often a replica that cannot start is tried."""
_STOP_S: Final = 10.0


def serve_replicas(config: ServerConfig, load: LoadConfig, marking: MarkingConfig) -> None:
    """Serves until it is stopped. Raises ConfigError for what the cluster or a replica cannot do."""
    # Tables are made, and URLs that are wrong are told, before anything is started.
    JobStore(config.database_url).close()
    open_files(config)
    load = with_local_model(load)
    with listen(config) as sock:
        config = replace(config, port=sock.getsockname()[1])
    ray = connect_ray(config.ray or "local")
    serve = _import_serve()
    num_gpus = _gpus_per_replica(ray, config, load)
    configure_logging()
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": config.host, "port": config.port},
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )
    if _NAME in serve.status().applications:
        raise ConfigError(f"the Ray cluster at '{config.ray}' serves a model already; stop that server first")
    try:
        serve.run(_deployment(serve, config, load, marking, num_gpus), name=_NAME, route_prefix="/")
        print(
            f"{shown_name(load.model, find_model(load.model))}, {config.replicas} replicas at {shown_address(config)}",
            flush=True,
        )
        while True:
            time.sleep(1)
    except RuntimeError as error:
        raise ConfigError(f"the replicas could not start: {_reason(error)}") from error
    finally:
        serve.delete(_NAME)
        ray.shutdown()


def _deployment(serve: Any, config: ServerConfig, load: LoadConfig, marking: MarkingConfig, num_gpus: int) -> Any:
    """Returns the application as Ray Serve starts it."""
    folder = Path.cwd()

    def build() -> "FastAPI":
        return _build(config, load, marking, folder)

    @serve.ingress(build)
    class Replica:
        """What runs on the cluster."""

        async def check_health(self) -> None:
            """Waits for the model at first, so that only replicas that can make clips are asked for them."""
            scheduler = self.app.state.services.scheduler  # pyright: ignore[reportAttributeAccessIssue]
            await asyncio.to_thread(scheduler.wait_for_model)

    # Ray would give each actor other threads than this process has, and sums of floats another order.
    threads = {name: os.environ[name] for name in ("OMP_NUM_THREADS",) if name in os.environ}
    options = {"num_cpus": 0, "num_gpus": num_gpus, "runtime_env": {"env_vars": threads}}
    return serve.deployment(
        name="replica",
        num_replicas=config.replicas,
        ray_actor_options=options,
        max_ongoing_requests=_MAX_REQUESTS,
        max_constructor_retry_count=_STARTS,
        graceful_shutdown_timeout_s=_STOP_S,
        graceful_shutdown_wait_loop_s=0.5,
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )(Replica).bind()


def _build(config: ServerConfig, load: LoadConfig, marking: MarkingConfig, folder: Path) -> "FastAPI":
    """Returns the application of one replica, in its process."""
    if folder.is_dir():
        # Relative paths among the options mean the folder in which the command was given.
        os.chdir(folder)
    os.umask(0o077)
    configure_logging()
    name = f"{os.getpid()}-{secrets.token_hex(8)}"
    # Calls of a page have to reach the process that made it; Ray Serve asks any replica.
    no_page = config.no_page or config.replicas > 1
    return create_app(replace(config, replica=name, no_page=no_page), with_local_model(load), marking=marking)


def _import_serve() -> Any:
    try:
        from ray import serve  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError("replicas need Ray Serve: pip install 'uniavgen[serve-cluster]'") from error
    return serve


def _gpus_per_replica(ray: Any, config: ServerConfig, load: LoadConfig) -> int:
    """Returns 1 where replicas run on GPUs. Raises ConfigError where the cluster has fewer than replicas."""
    if ":" in load.device:
        raise ConfigError(f"Ray chooses the GPU of each replica, got --device {load.device}; pass --device cuda")
    available = int(ray.cluster_resources().get("GPU", 0))
    if load.device == "cpu" or (load.device == "auto" and not available):
        return 0
    if config.replicas > available:
        raise ConfigError(
            f"the Ray cluster has {available} GPUs, got --replicas {config.replicas}; ask for fewer, or add a machine"
        )
    return 1


def _reason(error: RuntimeError) -> str:
    """Returns the sentence of an error in a replica, which Ray Serve tells at the end of a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "Error: " in line]
    return named[-1].partition("Error: ")[2] if named else first_line(error)
