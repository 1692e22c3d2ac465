"""Processes beside the server: all are forked from one that has imported everything, so that they start at once."""

import multiprocessing
from multiprocessing.context import ForkServerContext
from typing import Final

_PRELOADED: Final = [
    "uniavgen.workflows.generate",
    "uniavgen.workflows.continue_clip",
    "uniavgen.apps.server.device_worker",
]


def process_context() -> ForkServerContext:
    """Returns how processes of the server are started. None of them holds what the server has open."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context
