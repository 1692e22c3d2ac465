"""`uniavgen speech`: recorded speech, for rendering clips where there is no voice program."""

from pathlib import Path
from typing import Annotated

import typer

from uniavgen.apps.cli.progress import progress_bar
from uniavgen.synth import WorldSettings
from uniavgen.workflows.render import record_speech


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
    settings = WorldSettings(source=source, split=split, voices=voices)
    with progress_bar("utterance") as on_progress:
        count = record_speech(settings, utterances, out, seed=seed, jobs=jobs, on_progress=on_progress)
    typer.echo(f"{count} utterances in {out}")
