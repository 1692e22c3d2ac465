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
    click_command = group.get_command(typer.Context(group), command)
    return {
        name: parameter.help for parameter in click_command.params for name in parameter.opts if name.startswith("--")
    }


@pytest.mark.parametrize("command", GENERATING)
def test_options_hold_all_sampling_settings_and_load_settings(command):
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
def test_options_are_declared_once(command):
    group = typer.main.get_command(app)
    click_command = group.get_command(typer.Context(group), command)
    names = [name for parameter in click_command.params for name in parameter.opts]
    assert len(names) == len({*names})
