"""Options made of dataclasses: one declaration, the same options on every generating command."""

from dataclasses import fields

import pytest
import typer

from uniavgen.apps.cli import app
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.workflows.load_config import LoadConfig

GENERATING = ("generate", "continue", "dub", "animate", "evaluate")


def _options(command: str) -> dict[str, str]:
    """Returns help texts by option."""
    group = typer.main.get_command(app)
    found = group.get_command(typer.Context(group), command)
    return {name: parameter.help for parameter in found.params for name in parameter.opts if name.startswith("--")}


@pytest.mark.parametrize("command", GENERATING)
def test_every_sampling_setting_and_load_option_is_an_option(command):
    options = _options(command)
    for config in (SamplingConfig, LoadConfig):
        for field in fields(config):
            # evaluate names its model with --generate.
            if (command, field.name) != ("evaluate", "model"):
                assert (
                    options[f"--{field.name.replace('_', '-')}"].removesuffix(" Repeatable.") == field.metadata["help"]
                )
    assert {"--size", "--seed", "--num-frames"} <= {*options}


@pytest.mark.parametrize("command", GENERATING)
def test_no_option_is_given_twice(command):
    group = typer.main.get_command(app)
    found = group.get_command(typer.Context(group), command)
    names = [name for parameter in found.params for name in parameter.opts]
    assert len(names) == len({*names})
