"""`uniavgen train`: one stage of training, from settings and prepared features to weights."""

import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from uniavgen.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from uniavgen.codecs.speech_symbols import SpeechSymbols
    from uniavgen.training.callbacks import ClipSampler
    from uniavgen.training.config import TrainConfig
    from uniavgen.training.loop import StepRecord
    from uniavgen.training.run import Run
    from uniavgen.training.state import TrainState

_WATCHED, _WATCH_STEPS = 2, 20
_INTERRUPTED = 130


def train(
    config: Annotated[list[str], typer.Option("--config", "-c", help="Preset or YAML file; later ones win.")],
    data: Annotated[list[Path] | None, typer.Option(help="Folder of `uniavgen prepare`; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for checkpoints, curves and the finished weights.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", "-s", help="key.path=value, over the presets.")] = None,
    init: Annotated[
        list[Path] | None,
        typer.Option(help="Weights to begin with: a run, a checkpoint, a model, or a start; may be repeated."),
    ] = None,
    vocab: Annotated[
        Path | None, typer.Option(help="The model's speech symbols, one a line; printable ASCII if left out.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last checkpoint in --out.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    parts: Annotated[Path | None, typer.Option(help="Model folder whose codecs make the clips to watch.")] = None,
    watch: Annotated[Path | None, typer.Option(help="Shards of clips to watch, see train.sample_every.")] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Show the settings and stop.")] = False,
) -> None:
    """Train a stage. Ctrl-C saves a checkpoint and stops; --resume goes on as if nothing had happened."""
    from uniavgen.config import dump, load
    from uniavgen.training.config import TrainConfig

    chosen = load(TrainConfig, config, settings or ())
    if print_config:
        import yaml

        typer.echo(yaml.safe_dump(dump(chosen), sort_keys=False).rstrip())
        return
    if not data or out is None:
        raise ConfigError("train needs --data with prepared features and --out; see uniavgen train --help")
    if init and resume:
        raise ConfigError("--init begins a run and --resume goes on with one; use one of them")
    if bool(watch) != bool(parts):
        raise ConfigError("clips to watch need both --watch and --parts")

    from uniavgen.distributed import check_device_name, select_device

    check_device_name(device)

    import warnings

    import torch

    # Norms keep float32 weights under autocast; torch says once that this has no fused kernel.
    warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
    place = torch.device(select_device(device))
    symbols = _symbols(vocab, chosen)
    run = _assemble(chosen, [str(folder) for folder in data], symbols, out, init or [], resume, place)
    finished = _execute(run, out, _watcher(watch, parts) if watch and parts else None)
    if not finished:
        raise typer.Exit(_INTERRUPTED)
    typer.echo(f"{run.state.step} steps are done; weights in {out / 'transformer'}")


def _symbols(vocab: Path | None, config: "TrainConfig") -> "SpeechSymbols":
    """The vocabulary that texts are learned in; ConfigError where the model has another one."""
    from uniavgen.codecs.speech_symbols import SpeechSymbols
    from uniavgen.training.run import model_settings

    symbols = SpeechSymbols.of() if vocab is None else SpeechSymbols.from_vocabulary(vocab)
    given, known = len(symbols.symbols()), model_settings(config).audio.speech.num_symbols
    if given != known:
        raise ConfigError(
            f"the model {config.model} knows {known} speech symbols, {vocab or 'printable ASCII'} has {given}; give "
            "the model's own --vocab, or a model of that many"
        )
    return symbols


def _assemble(
    config: "TrainConfig",
    data: list[str],
    symbols: "SpeechSymbols",
    out: Path,
    init: list[Path],
    resume: bool,
    device: "torch.device",
) -> "Run":
    import torch

    from uniavgen.models.transformer import UniAVGenTransformer
    from uniavgen.training.run import build_run, model_settings, training_data
    from uniavgen.training.state import checkpoints, load_initial, restore

    found = checkpoints(out / "checkpoints")
    if found and not resume:
        raise ConfigError(f"{out} already holds {found[-1].name}; add --resume to go on, or use another --out")
    sizes = model_settings(config)
    clips = training_data(config, sizes, data, symbols.encode)
    torch.manual_seed(config.train.seed)
    model = UniAVGenTransformer.from_settings(sizes)
    for weights in init:
        load_initial(model, weights)
    run = build_run(config, model, clips, out, device)
    if found:
        restore(run.state, found[-1])
    return run


def _execute(run: "Run", out: Path, sample: "ClipSampler | None") -> bool:
    """Train; False where the user stopped it."""
    from tqdm import tqdm

    from uniavgen.training.callbacks import TensorBoardCallback, save_weights
    from uniavgen.training.dataloader import load_batches
    from uniavgen.training.loop import train as train_loop

    settings, interrupt = run.config.train, _Interrupt()
    board = TensorBoardCallback(out / "curves", settings.log_every, settings.sample_every, sample)
    with tqdm(total=settings.steps, initial=run.state.step, unit="step", smoothing=0.02) as bar:

        def show(record: "StepRecord", _state: "TrainState") -> None:
            bar.update()
            bar.set_postfix_str(" ".join(f"{name} {value:.3f}" for name, value in record.losses.items()), refresh=False)

        steps = load_batches(run.dataset, run.state.step, settings.steps, run.config.data.workers)
        callbacks = (show, board, run.checkpoint_callback)
        with interrupt:
            train_loop(run.state, run.step_function, steps, run.config, callbacks, interrupt.asked)
    board.close()
    if run.state.step < settings.steps:
        run.checkpoint_callback.save(run.state)
        return False
    save_weights(run.state, out / "transformer")
    return True


class _Interrupt:
    """The first Ctrl-C asks the loop to stop after its step; the second one stops at once."""

    def __init__(self) -> None:
        self._asked = False

    def asked(self) -> bool:
        return self._asked

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGINT, self._note)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            signal.default_int_handler(number, frame)
        self._asked = True


def _watcher(watch: Path, parts: Path) -> "ClipSampler":
    """Clips of a few held-out samples, made with the model under training and the codecs of a model folder."""
    import torch

    from uniavgen.data.sample import read_sample
    from uniavgen.data.shards import ShardSet
    from uniavgen.inference.request import Request
    from uniavgen.models.transformer import UniAVGenTransformer
    from uniavgen.tasks.table import Task
    from uniavgen.timebase import Timebase
    from uniavgen.training.callbacks import SampledClip
    from uniavgen.workflows.load_codecs import load_codecs

    shards, codecs = ShardSet(watch), load_codecs(parts)
    shown = [read_sample(shards, i, Timebase()) for i in range(min(_WATCHED, len(shards)))]

    def sample(model: torch.nn.Module) -> list[SampledClip]:
        assert isinstance(model, UniAVGenTransformer)
        clips = []
        for number, source in enumerate(shown):
            assert source.frames is not None
            request = Request(
                task=Task.JOINT,
                speech=source.text,
                caption=source.caption,
                image=source.frames[0],
                sampling={"steps": _WATCH_STEPS},
                seed=number,
            )
            clip = codecs.build_pipeline(model, size=source.frames.shape[1]).to(model.device)(request)
            clips.append(SampledClip(name=f"clip {number}", frames=clip.frames, mel=clip.mel, waveform=clip.waveform))
        return clips

    return sample
