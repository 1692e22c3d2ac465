"""Sampling settings: overrides by name, and the guidance and gates that follow from them."""

from dataclasses import fields, replace

import pytest

from uniavgen.errors import ConfigError
from uniavgen.flow.choices import GUIDANCE_NAMES, Spacing
from uniavgen.flow.guidance import GUIDANCE
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.tasks.table import Task
from uniavgen.timebase import Source


def test_overrides_replace_only_the_settings_they_name():
    model = SamplingConfig(steps=9, video_guidance=4.0, source=Source.RELEASE)
    expected = replace(model, steps=3, guidance="none", spacing=Spacing.TRAILING, skip_layers=(1, 2))
    plain = {"steps": 3, "guidance": "none", "spacing": "trailing", "skip_layers": [1, 2]}
    assert model.with_overrides(plain) == expected
    assert model.with_overrides({}) == model


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"steps": 0}, "steps must be 1 to 1000, got 0"),
        ({"steps": "many"}, "steps: should be a valid integer"),
        ({"guidance": "more"}, "choose one of none, vanilla"),
        ({"video_guidance": -1.0}, "video_guidance must be 0 to 20"),
        ({"audio_guidance": float("nan")}, "audio_guidance: should be a finite number"),
        ({"shift": 0.0}, "shift"),
        ({"spacing": "odd"}, "spacing: should be 'linspace' or 'trailing'"),
        ({"cfg": 3.0}, "no sampling setting 'cfg'; choose among steps, guidance"),
    ],
)
def test_overrides_with_unknown_names_or_bad_values_are_refused(overrides, text):
    with pytest.raises(ConfigError, match=text):
        SamplingConfig().with_overrides(overrides)


def test_every_setting_has_a_help_text():
    assert all(len(setting.metadata["help"]) > 10 for setting in fields(SamplingConfig))


def test_guidance_plan_has_the_gates_of_the_task():
    plan = SamplingConfig(source=Source.RELEASE).plan(Task.REFERENCE_AUDIO)
    assert (plan.conditional_gate.v2a, plan.uncond_gate.v2a) == (False, True)
    skipped = SamplingConfig(skip_layers=(1,)).plan(Task.DUBBING).passes(4)
    assert [pass_.skip_layers for pass_ in skipped] == [(), (1,), (1,)]
    assert not any(pass_.gate.a2v for pass_ in skipped)
    with pytest.raises(ConfigError):
        SamplingConfig(guidance="")


def test_source_chooses_guidance_and_gates_of_paper_or_release():
    paper, release = (SamplingConfig(source=source) for source in (Source.PAPER, Source.RELEASE))
    assert (paper.guidance_name, release.guidance_name) == ("ma_cfg_interval", "release")
    null_passes = [
        {pass_.skip_layers for pass_ in config.plan(Task.JOINT).passes(50) if not pass_.text}
        for config in (paper, release)
    ]
    assert null_passes == [{()}, {(11,)}]
    closed = [config.plan(Task.REFERENCE_AUDIO).conditional_gate.v2a for config in (paper, release)]
    assert closed == [True, False]
    assert replace(release, guidance="vanilla").guidance_name == "vanilla"


def test_guidance_names_are_those_of_the_presets():
    assert tuple(GUIDANCE) == GUIDANCE_NAMES
