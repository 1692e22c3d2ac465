"""The built-in set of prompts, on made-up speech."""

from pathlib import Path

from uniavgen.evaluation.prompts import read_prompts
from uniavgen.synth import WorldSettings
from uniavgen.workflows.prompt_sets import PromptSource, make_prompt_set


def test_prompt_set_alternates_shaded_and_drawn_clips(
    tmp_path: Path, heads_folder: Path, speech_folder: Path, offscreen: None
) -> None:
    world = WorldSettings(size=32, heads=heads_folder, speech=speech_folder)
    make_prompt_set(PromptSource.WORLD, tmp_path, num_prompts=3, world=world)
    prompts = read_prompts(tmp_path / "prompts.jsonl").prompts
    assert [prompt.split for prompt in prompts] == ["shaded", "drawn", "shaded"]
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "truth").iterdir()}
    make_prompt_set(PromptSource.WORLD, tmp_path, num_prompts=3, world=world)
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "truth").iterdir()}
