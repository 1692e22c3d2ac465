"""What is built from this repository works outside of it."""

import subprocess
import tarfile
import urllib.request
import zipfile

import numpy as np
import pytest
from PIL import Image
from tests.shipping.outside import ROOT, clean_environment

MEGABYTE = 10**6


def _package_files() -> set[str]:
    """Returns every file of the package in the repository, by its path in a wheel."""
    source = ROOT / "src"
    files = (path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(source).as_posix() for path in files}


def test_wheel_built_from_the_sdist_holds_the_whole_package_and_the_licences(distributions):
    with zipfile.ZipFile(distributions.wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    assert {name for name in names if ".dist-info/" not in name} == _package_files()
    assert {name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name} == {"LICENSE", "NOTICE"}


def test_sdist_holds_what_installs_the_package_and_no_tests(distributions):
    with tarfile.open(distributions.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {name.partition("/")[0] for name in names} == {
        "CHANGELOG.md", "LICENSE", "NOTICE", "PKG-INFO", "README.md", "examples", "pyproject.toml", "src", ".gitignore"
    }  # fmt: skip
    assert distributions.sdist.stat().st_size < 40 * MEGABYTE


@pytest.mark.slow
def test_installed_wheel_generates_a_clip_in_an_empty_folder(installed, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "person.png")
    words = ["--image", "person.png", "--speech", "Hello.", "--steps", "1", "--num-frames", "17", "--device", "cpu"]
    done = subprocess.run(
        [installed / "uniavgen", "generate", *words, "--guidance", "none", "--out", "clip.mp4"],
        cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"person.png", "clip.mp4"}
    assert str(ROOT) not in done.stdout + done.stderr


@pytest.mark.slow
def test_installed_wheel_serves_in_an_empty_folder(installed, tmp_path):
    server = subprocess.Popen(
        [installed / "uniavgen", "serve", "--port", "0", "--data-dir", "server", "--device", "cpu"],
        cwd=tmp_path, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split(" at ")[1].strip()
        with urllib.request.urlopen(f"{address}/health") as answer:
            assert answer.read() == b"ok"
        with urllib.request.urlopen(f"{address}/v1/models") as answer:
            assert "nano" in answer.read().decode()
    finally:
        server.terminate()
        status = server.wait()
    assert f"SuccessExitStatus={status}\n" in (ROOT / "deploy" / "uniavgen.service").read_text()
