"""Clips for a set of prompts: every option of generating reaches the clips, and seeds count on."""

from pathlib import Path

import pytest

from uniavgen.errors import CheckpointError, ConfigError, DataError
from uniavgen.evaluation.prompts import Prompt, PromptSet
from uniavgen.media.mux import read_metadata
from uniavgen.tasks.table import Task
from uniavgen.workflows.generate_set import SetConfig, build_request, generate_set, parse_kinds
from uniavgen.workflows.load import ModelLoader
from uniavgen.workflows.load_config import LoadConfig

EXAMPLE = Path(__file__).parents[2] / "examples" / "person.png"
CONFIG = SetConfig(num_frames=5, seed=7, sampling={"steps": 1, "shift": 2.5, "spacing": "trailing"})


@pytest.fixture
def prompts() -> PromptSet:
    prompts = tuple(Prompt(id=f"p{number}", speech="Hi.", image=EXAMPLE) for number in range(2))
    return PromptSet(prompts=prompts, sha256="")


def test_generated_set_carries_its_options_and_counting_seeds(prompts, tmp_path):
    loader = ModelLoader(LoadConfig(device="cpu", attention="math", cache=0.05))
    (system,) = generate_set(loader, CONFIG, prompts, tmp_path)
    assert (system.name, system.failures) == ("nano/joint", {})
    settings = [read_metadata(system.folder / f"p{number}.mp4") for number in range(2)]
    assert [each["seed"] for each in settings] == [7, 8]
    assert {(each["steps"], each["shift"], each["spacing"]) for each in settings} == {(1, 2.5, "trailing")}


def test_generated_set_refuses_a_folder_of_other_settings(prompts, tmp_path):
    loader = ModelLoader(LoadConfig(device="cpu"))
    generate_set(loader, CONFIG, PromptSet(prompts=prompts.prompts[:1], sha256=""), tmp_path)
    with pytest.raises(DataError, match="another shift"):
        generate_set(
            loader, SetConfig(num_frames=5, seed=7, sampling={"steps": 1, "spacing": "trailing"}), prompts, tmp_path
        )


def test_speech_that_does_not_fit_is_a_failure_before_a_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(ModelLoader, "load_for_tasks", lambda *_: pytest.fail("a model was loaded"))
    prompts = PromptSet(prompts=(Prompt(id="p0", speech="It is late " * 3, image=EXAMPLE),), sha256="")
    (system,) = generate_set(ModelLoader(LoadConfig(device="cpu")), CONFIG, prompts, tmp_path)
    assert "the speech takes about 2.0 s, the clip lasts 0.31 s" in system.failures["p0"]


def test_prompt_without_a_needed_input_is_named(prompts):
    with pytest.raises(ConfigError, match="the prompt has no video, which 'dubbing' needs"):
        build_request(prompts.prompts[0], Task.DUBBING, CONFIG, 0)


def test_prompt_kinds_are_parsed_by_name():
    assert parse_kinds("joint, reconstruction") == ["joint", "reconstruction"]
    assert parse_kinds("all") == [str(task) for task in Task]
    with pytest.raises(ConfigError, match="no task 'sing'"):
        parse_kinds("sing")


def test_model_that_cannot_be_loaded_leaves_nothing(prompts, tmp_path, monkeypatch):
    def fail(*_):
        raise CheckpointError("damaged")

    monkeypatch.setattr(ModelLoader, "load_for_tasks", fail)
    with pytest.raises(CheckpointError, match="damaged"):
        generate_set(ModelLoader(LoadConfig(device="cpu")), CONFIG, prompts, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_generated_set_reports_finished_clips_by_system(prompts, tmp_path):
    lines = []
    generate_set(
        ModelLoader(LoadConfig(device="cpu")), CONFIG, prompts, tmp_path, lambda *progress: lines.append(progress)
    )
    assert lines == [("nano/joint", done, 2) for done in range(3)]
