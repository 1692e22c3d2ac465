"""`uniavgen train`: one stage of training, from settings and prepared features to weights."""

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from uniavgen.errors import ConfigError

_SAME_REQUEST_S = 1.0
"""Signals within it are one request: launchers pass on what schedulers send to every process as well."""


def train(
    config: Annotated[list[str], typer.Option("--config", "-c", help="Preset or YAML file; later ones win.")],
    data: Annotated[
        list[str] | None,
        typer.Option(help="Folder of `uniavgen prepare`, or a URL such as s3://bucket/features; may be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for checkpoints, curves and the finished weights.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", "-s", help="key.path=value, over the presets.")] = None,
    init: Annotated[
        list[Path] | None,
        typer.Option(
            help="Weights to begin with: nano, a run, a checkpoint, a model, a start or an adapter; repeatable."
        ),
    ] = None,
    vocab: Annotated[
        Path | None, typer.Option(help="Speech symbols, one a line; if left out the run's own, else printable ASCII.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last checkpoint in --out; begin where there is none.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Resume with settings that repeat or skip samples, such as another seed.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    parts: Annotated[Path | None, typer.Option(help="Model folder whose codecs make the clips to watch.")] = None,
    watch: Annotated[
        Path | None, typer.Option(help="Prompts, or shards, of clips to watch; see train.sample_every.")
    ] = None,
    validation: Annotated[
        str | None, typer.Option(metavar="DIR", help="Held-out features; see validation.every.")
    ] = None,
    assets: Annotated[Path | None, typer.Option(help="Networks of validation.metrics, as for `evaluate`.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Show data, first batch (as clips with --parts), memory and time, and stop.")
    ] = False,
    print_config: Annotated[bool, typer.Option("--print-config", help="Show the settings and stop.")] = False,
) -> None:
    """Train a stage. Ctrl-C or SIGTERM saves a checkpoint and stops; --resume goes on as if nothing had happened."""
    from uniavgen.config import annotated_yaml, load_with_origins
    from uniavgen.training.config import TrainConfig

    chosen, origins = load_with_origins(TrainConfig, config, settings or ())
    if print_config:
        typer.echo(annotated_yaml(chosen, origins))
        return
    if not (data or resume or force) or out is None:
        raise ConfigError("train needs --data with prepared features and --out; see uniavgen train --help")
    if bool(watch) != bool(parts) and not check:
        raise ConfigError("clips to watch need both --watch and --parts")

    from uniavgen.distributed import check_device_name, process_group, select_device

    check_device_name(device)

    import warnings
    from contextlib import nullcontext

    import torch

    from uniavgen.apps.cli.training_progress import training_progress
    from uniavgen.workflows.train import WatchedData, check_stage, open_stage, train_stage

    # Norms keep float32 weights under autocast; torch warns once that this has no fused kernel.
    warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
    watched = WatchedData(features=validation, prompts=watch, codecs=parts, assets=assets)
    with process_group(device, chosen.sharding.timeout_s) as shared_device:
        place = torch.device(shared_device or select_device(device))
        if check:
            typer.echo(
                "\n".join(check_stage(chosen, data or (), out, place, vocabulary=vocab, watched=watched).lines())
            )
            return
        opened = open_stage(
            chosen,
            data or (),
            out,
            place,
            init=init or (),
            vocabulary=vocab,
            resume="force" if force else resume,
            watched=watched,
        )
        with opened as run:
            is_main, state = run.is_main, run.stage.state
            progress = training_progress(chosen.train.steps, state.step, run.meter()) if is_main else nullcontext()
            with progress as show, _Interrupt() as interrupt:
                callbacks = () if show is None else (show,)
                finished = train_stage(run, out, callbacks=callbacks, stopped=interrupt.requested)
    if not finished:
        if is_main:
            typer.echo(f"stopped after step {state.step}, which is saved in {out / 'checkpoints'}; --resume goes on")
        raise typer.Exit(interrupt.exit_code)
    if is_main:
        typer.echo(f"{state.step} steps are done; weights in {out / 'transformer'}")


class _Interrupt:
    """The first Ctrl-C or SIGTERM requests a stop after the current step; the second one stops at once."""

    def __init__(self) -> None:
        self._number, self._time = 0, 0.0

    def requested(self) -> bool:
        return self._number != 0

    @property
    def exit_code(self) -> int:
        """128 + the signal, as shells say it: 130 or 143, also where another process was told."""
        return 128 + (self._number or signal.SIGTERM)

    def __enter__(self) -> "_Interrupt":
        self._previous = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._number and time.monotonic() - self._time > _SAME_REQUEST_S:
            signal.default_int_handler(number, frame)
        if not self._number:
            self._number, self._time = number, time.monotonic()
