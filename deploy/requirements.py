"""Prints what pip installs for the package and some of its extras, so that an image has a layer of dependencies alone.

python deploy/requirements.py pyproject.toml serve,postgres > requirements.txt
"""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """Returns the dependencies of a project and of its extras. Ends the program where there is no such extra."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    unknown = [extra for extra in extras if extra not in optional]
    if unknown:
        sys.exit(f"there is no extra '{unknown[0]}'; choose among {', '.join(optional)}")
    return [*project["dependencies"], *(requirement for extra in extras for requirement in optional[extra])]


if __name__ == "__main__":
    print(*requirements(Path(sys.argv[1]), [extra for extra in sys.argv[2].split(",") if extra]), sep="\n")
