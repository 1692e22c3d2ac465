"""Where the repository is, and what a process needs to know nothing of it."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]


def clean_environment() -> dict[str, str]:
    """Returns the environment variables without those by which Python would find the repository."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
