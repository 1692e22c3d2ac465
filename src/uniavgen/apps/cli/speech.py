"""`uniavgen speech`: speech made ahead, for drawing clips where there is no voice program."""

from pathlib import Path
from typing import Annotated

import typer

from uniavgen.artifacts import record_settings
from uniavgen.errors import ConfigError
from uniavgen.synth.generate import WorldSettings, open_speech
from uniavgen.synth.recording import Recorder


def speech(
    utterances: Annotated[int, typer.Option(min=1, help="How many utterances.")],
    out: Annotated[Path, typer.Option(help="Folder for index.jsonl and opus/; run again to go on where it stopped.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same lines and voices.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    source: Annotated[str, typer.Option(help="Voices: kokoro (with blends) or flite.")] = "kokoro",
    split: Annotated[str, typer.Option(help="Sentences: train, val (held out) or all.")] = "all",
    voices: Annotated[Path | None, typer.Option(help="Kokoro: *.onnx, vocab.json and voices/.")] = None,
) -> None:
    """Speak sentences ahead and keep them, with phone times, for uniavgen synth --speech."""
    from tqdm import tqdm

    if source == "made":
        raise ConfigError("speech is made by kokoro or flite, got 'made'; name one with --source")
    recorder = Recorder(
        folder=out, source=open_speech(WorldSettings(source=source, split=split, voices=voices)), seed=seed
    )
    record_settings(out / "speech.json", {"seed": seed, "source": source, "split": split})
    there = len(recorder.recorded_ids())
    for _ in tqdm(recorder.record(utterances, jobs), initial=there, total=max(utterances, there), unit="utterance"):
        pass
    typer.echo(f"{len(recorder.recorded_ids())} utterances in {out}")
