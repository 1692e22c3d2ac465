"""What a server does before it serves: its model, its address, its log."""

import logging
import socket
from dataclasses import replace

from uniavgen.apps.server.config import ServerConfig
from uniavgen.artifacts import os_error_text
from uniavgen.errors import ConfigError
from uniavgen.workflows.load_config import LoadConfig


def with_local_model(load: LoadConfig) -> LoadConfig:
    """Returns the options with a model on the hub downloaded, so that no request waits for it."""
    from uniavgen.workflows.model_files import download_model, find_model

    return load if find_model(load.model) is not None else replace(load, model=str(download_model(load.model)))


def listen(config: ServerConfig) -> socket.socket:
    """Returns a socket at the address of the server. Raises ConfigError where there can be none."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        return socket.create_server((config.host, config.port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen at {config.host}, port {config.port}: {os_error_text(error)}; choose another with --port"
        ) from error


def shown_address(config: ServerConfig) -> str:
    """Returns the URL of the server."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"http://{host}:{config.port}"


def configure_logging() -> None:
    """Lets the server's own lines be the log, without those of each request that uvicorn would add."""
    # The handler that the command line adds would repeat every line.
    logging.getLogger("uniavgen").handlers.clear()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
