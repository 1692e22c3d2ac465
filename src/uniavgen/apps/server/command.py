"""`uniavgen serve`: clips over HTTP, in the words of OpenAI's video API."""

import os
from dataclasses import replace
from typing import Annotated, Any

import typer

from uniavgen.apps.config_options import given_values
from uniavgen.apps.server.config import ServerConfig
from uniavgen.apps.server.listening import configure_logging, listen, shown_address, with_local_model
from uniavgen.artifacts import check_path_length, exclusive_output
from uniavgen.config import parse
from uniavgen.errors import ConfigError
from uniavgen.provenance.config import MarkingConfig
from uniavgen.workflows.load_config import LoadConfig

CONFIGS: dict[type, tuple[str, ...]] = {ServerConfig: (), MarkingConfig: ("consent",), LoadConfig: ()}
"""Dataclasses whose fields are options, and fields that are none."""


def serve(
    context: typer.Context,
    new_key: Annotated[
        str | None, typer.Option(metavar="NAME", help="Add a key to the file of --api-keys, print it, and stop.")
    ] = None,
) -> None:
    """Make clips for programs that ask over HTTP: POST /v1/videos, as with OpenAI's video API.

    Without keys only programs of this computer can connect. Ctrl-C stops it; jobs that wait go on at the next start.
    """
    config = parse(ServerConfig, given_values(context, ServerConfig), "settings of the server")
    load = LoadConfig(**given_values(context, LoadConfig))
    if new_key is not None:
        if config.api_keys is None:
            raise ConfigError("--new-key adds a key to a file; name it with --api-keys FILE")
        from uniavgen.apps.server.api_keys import add_key

        print(add_key(config.api_keys, new_key))
        return
    check_path_length(config.data_dir.absolute())
    _check_installed()
    # What clients send and get is only for this user.
    os.umask(0o077)
    with exclusive_output(config.data_dir / f"replica-{config.replica}"):
        marking = MarkingConfig(**given_values(context, MarkingConfig))
        if config.replicas > 1 or config.ray:
            from uniavgen.apps.server.replicas import serve_replicas

            serve_replicas(config, load, marking)
        else:
            run_server(config, load, marking)


def run_server(config: ServerConfig, load: LoadConfig, marking: MarkingConfig) -> None:
    """Serves until it is stopped. Raises ConfigError and CheckpointError for what cannot be served."""
    import uvicorn

    from uniavgen.apps.server.app import create_app

    server: uvicorn.Server

    def stop() -> None:
        server.should_exit = True

    configure_logging()
    app = create_app(config, with_local_model(load), stop, marking)
    services = app.state.services
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=5)
    )
    with listen(config) as sock:
        config = replace(config, port=sock.getsockname()[1])
        print(f"{services.model} at {shown_address(config)}", flush=True)
        server.run(sockets=[sock])
    if services.scheduler.failure is not None:
        raise services.scheduler.failure


def _check_installed() -> None:
    try:
        import fastapi
        import fastapi_offline
        import prometheus_client
        import python_multipart
        import sqlalchemy
        import uvicorn
    except ImportError as error:
        raise ConfigError(
            f"serving needs the package {error.name}; install the extra: pip install 'uniavgen[serve]'"
        ) from error
    _: tuple[Any, ...] = (fastapi, fastapi_offline, prometheus_client, python_multipart, sqlalchemy, uvicorn)
