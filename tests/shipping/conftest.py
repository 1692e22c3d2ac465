"""The built distributions, and an environment in which the wheel is installed, made once."""

import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.shipping.outside import ROOT, clean_environment


@dataclass(frozen=True, kw_only=True)
class Distributions:
    """The sdist, and the wheel that was built from its content alone."""

    sdist: Path
    wheel: Path


@pytest.fixture(scope="session")
def distributions(tmp_path_factory) -> Distributions:
    """Builds the sdist from the repository and the wheel from the unpacked sdist."""
    folder = tmp_path_factory.mktemp("distributions")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder), "-t"]
    subprocess.run([*build, "sdist"], cwd=ROOT, check=True, capture_output=True)
    (sdist,) = folder.glob("*.tar.gz")
    subprocess.run(["tar", "-xzf", str(sdist), "-C", str(folder)], check=True)
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    subprocess.run([*build, "wheel"], cwd=unpacked, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return Distributions(sdist=sdist, wheel=wheel)


@pytest.fixture(scope="session")
def installed(distributions, tmp_path_factory) -> Path:
    """Installs the wheel into a fresh environment and returns the folder of its commands.

    The packages that it depends on are those of the tests' environment, added behind its own.
    """
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    commands = folder / "bin"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(commands / "python"), "install"]
    options = ["--quiet", "--no-deps", "--no-index", "--no-compile", "--force-reinstall"]
    subprocess.run([*pip, *options, str(distributions.wheel)], check=True, env=clean_environment())
    return commands
