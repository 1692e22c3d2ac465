"""The built-in set of prompts, on made-up speech."""

from pathlib import Path

from uniavgen.evaluation.prompts import read_prompts
from uniavgen.synth import WorldSettings
from uniavgen.workflows.prompt_sets import PromptSource, make_prompt_set


def test_every_second_prompt_is_drawn(tmp_path: Path, heads_folder: Path, speech_folder: Path, offscreen: None) -> None:
    world = WorldSettings(size=32, heads=heads_folder, speech=speech_folder)
    make_prompt_set(PromptSource.WORLD, tmp_path, num_prompts=3, world=world)
    made = read_prompts(tmp_path / "prompts.jsonl").prompts
    assert [prompt.split for prompt in made] == ["shaded", "drawn", "shaded"]
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "truth").iterdir()}
    make_prompt_set(PromptSource.WORLD, tmp_path, num_prompts=3, world=world)
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "truth").iterdir()}
