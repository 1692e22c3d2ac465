"""The built-in set of prompts, on made-up speech."""

from pathlib import Path

from uniavgen.apps.cli.prompts import Kind, prompts
from uniavgen.evaluation.prompts import read_prompts


def test_every_second_prompt_is_drawn(tmp_path: Path, heads_folder: Path, speech_folder: Path, offscreen: None) -> None:
    prompts(Kind.WORLD, tmp_path, clips=3, size=32, heads=heads_folder, speech=speech_folder)
    made = read_prompts(tmp_path / "prompts.jsonl").prompts
    assert [prompt.split for prompt in made] == ["shaded", "drawn", "shaded"]
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "truth").iterdir()}
    prompts(Kind.WORLD, tmp_path, clips=3, size=32, heads=heads_folder, speech=speech_folder)
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "truth").iterdir()}
