"""Files for containers and systemd agree with the package: paths, ports, extras, and commands that it would run.

No image is built here; the shell of its steps is parsed, and run where it needs no network.
"""

import configparser
import fnmatch
import json
import re
import shlex
import subprocess
import sys
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import typer
import yaml
from tests.shipping.outside import ROOT
from typer.main import get_command

from uniavgen.apps.cli import app
from uniavgen.apps.config_options import given_values
from uniavgen.apps.server.config import ServerConfig
from uniavgen.config import parse

DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DATA = Path("/var/lib/uniavgen")


def _instructions() -> list[tuple[str, str]]:
    """Returns the instructions of the Dockerfile in order: word and arguments."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in joined if line.strip()]


def _arguments(instruction: str) -> list[str]:
    return [arguments for word, arguments in _instructions() if word == instruction]


def _compose(*names: str) -> list[dict]:
    return [yaml.safe_load((ROOT / name).read_text()) for name in names]


def _server_config(words: list[str]) -> ServerConfig:
    """Returns the settings that `uniavgen serve ...` would have; words are those behind `uniavgen`."""
    group = get_command(app)
    command = group.get_command(typer.Context(group), words[0])  # type: ignore[attr-defined]
    context = command.make_context(words[0], words[1:])
    return parse(ServerConfig, given_values(context, ServerConfig), "settings of the server")


def _unit() -> configparser.ConfigParser:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(DEPLOY / "uniavgen.service")
    return unit


def test_dockerfile_serves_to_other_computers_with_keys_from_its_volume():
    config = _server_config(json.loads(_arguments("CMD")[0]))
    assert not config.is_loopback
    assert [str(config.port)] == _arguments("EXPOSE")
    assert [str(DATA)] == _arguments("VOLUME")
    assert config.data_dir.is_relative_to(DATA)
    assert config.api_keys is not None
    assert config.api_keys.is_relative_to(DATA)
    assert json.loads(_arguments("ENTRYPOINT")[0])[0] in PROJECT["scripts"]


def test_dockerfile_ends_as_an_ordinary_user_who_owns_the_volume():
    steps = _instructions()
    (user,) = _arguments("USER")
    assert int(user) > 0
    created = next(arguments for word, arguments in steps if word == "RUN" and "useradd" in arguments)
    assert f"--uid {user}" in created
    assert f"--home-dir {DATA} --create-home" in created
    assert [word for word, _ in steps].index("USER") < [word for word, _ in steps].index("ENTRYPOINT")


def test_dockerfile_copies_only_files_that_exist_and_are_sent_to_the_build():
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    sources = [
        source
        for arguments in _arguments("COPY")
        if not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in rules
        assert not fnmatch.fnmatch(source, rules[-1])


def test_dockerfile_steps_are_shell():
    for step in [re.sub(r"^--mount=\S+\s+", "", arguments) for arguments in _arguments("RUN")]:
        subprocess.run(["sh", "-n", "-c", step], check=True)


def test_dockerfile_installs_what_the_package_and_its_extras_need(tmp_path):
    """The step is run as it stands, in a folder like the build's."""
    (step,) = [step for step in _arguments("RUN") if "requirements.py" in step]
    for source in ("pyproject.toml", "deploy/requirements.py"):
        (tmp_path / Path(source).name).write_bytes((ROOT / source).read_bytes())
    extras = dict(argument.split("=") for argument in _arguments("ARG"))["EXTRAS"]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    subprocess.run(["sh", "-c", step], cwd=tmp_path, env={"EXTRAS": extras, "PATH": path}, check=True)
    needed = PROJECT["dependencies"] + [
        requirement for extra in extras.split(",") for requirement in PROJECT["optional-dependencies"][extra]
    ]
    assert (tmp_path / "requirements.txt").read_text().splitlines() == needed
    wrong = subprocess.run(
        ["sh", "-c", step], cwd=tmp_path, env={"EXTRAS": "nothing", "PATH": path}, capture_output=True, check=False
    )
    assert wrong.returncode != 0
    assert b"there is no extra 'nothing'" in wrong.stderr


@pytest.mark.parametrize(("device", "index"), [("cpu", "/whl/cpu"), ("cuda", "pypi.org"), ("tpu", None)])
def test_dockerfile_takes_torch_from_the_index_of_the_device(device, index, tmp_path):
    """The step is run with a pip that only notes its arguments."""
    (step,) = [step for step in _arguments("RUN") if "DEVICE" in step]
    pip = tmp_path / "pip"
    pip.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    pip.chmod(0o755)
    (tmp_path / "requirements.txt").write_text("\n".join(PROJECT["dependencies"]))
    step = step.replace("/opt/uniavgen/bin/pip", str(pip))
    done = subprocess.run(
        ["sh", "-c", step], cwd=tmp_path, env={"DEVICE": device, "PATH": "/usr/bin:/bin"}, check=False
    )
    if index is None:
        assert done.returncode == 2
        return
    assert done.returncode == 0
    first, second = (tmp_path / "calls").read_text().splitlines()
    assert index in first
    assert first.endswith(next(each for each in PROJECT["dependencies"] if each.startswith("torch>")))
    assert second == "install --requirement requirements.txt"


@pytest.mark.parametrize(("status", "is_healthy"), [(200, True), (503, False)])
def test_dockerfile_health_check_asks_the_server(status, is_healthy):
    (check,) = _arguments("HEALTHCHECK")
    words = json.loads(check.partition("CMD")[2])
    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.handle_request).start()
        (port,) = _arguments("EXPOSE")
        code = words[2].replace(f":{port}/", f":{server.server_port}/")
        done = subprocess.run([sys.executable, *words[1:2], code], capture_output=True, check=False)
    assert (done.returncode == 0) == is_healthy
    assert asked == ["/health"]


def test_compose_server_keeps_the_volume_and_listens_on_loopback_of_the_host():
    (compose,) = _compose("compose.yaml")
    server = compose["services"]["server"]
    volume, _, target = server["volumes"][0].partition(":")
    assert volume in compose["volumes"]
    assert target == str(DATA)
    (port,) = _arguments("EXPOSE")
    assert server["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_compose_postgres_command_is_the_image_command_with_a_database():
    (compose,) = _compose("deploy/compose.postgres.yaml")
    server, database = (compose["services"][name] for name in ("server", "database"))
    config = _server_config(server["command"])
    image = _server_config(json.loads(_arguments("CMD")[0]))
    assert config.database == f"postgresql+psycopg://{database['environment']['POSTGRES_USER']}@database/uniavgen"
    assert database["environment"]["POSTGRES_DB"] == "uniavgen"
    for name in ("host", "port", "data_dir", "api_keys"):
        assert getattr(config, name) == getattr(image, name)
    assert "postgres" in dict(argument.split("=") for argument in _arguments("ARG"))["EXTRAS"].split(",")


def test_compose_cuda_sets_arguments_that_the_dockerfile_has():
    (compose,) = _compose("deploy/compose.cuda.yaml")
    arguments = compose["services"]["server"]["build"]["args"]
    assert {*arguments} <= {argument.partition("=")[0] for argument in _arguments("ARG")}
    assert {*arguments["EXTRAS"].split(",")} <= {*PROJECT["optional-dependencies"]}


@pytest.mark.parametrize("name", ["HF_HOME", "XDG_CONFIG_HOME"])
def test_models_of_the_hub_and_the_signing_key_stay_where_jobs_do(name):
    image = dict(word.split("=", 1) for word in _arguments("ENV")[-1].split())
    assert Path(image[name]).is_relative_to(DATA)
    assert f"Environment={name}={image[name]}" in (DEPLOY / "uniavgen.service").read_text().splitlines()


def test_systemd_unit_serves_to_this_computer_from_its_state_folder():
    service = _unit()["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert Path(program).name in PROJECT["scripts"]
    config = _server_config(words)
    assert config.is_loopback
    assert config.data_dir.is_relative_to(Path("/var/lib") / service["StateDirectory"])
    assert service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"
    assert service["DynamicUser"] == "yes"
