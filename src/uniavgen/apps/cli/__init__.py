"""The shell command `uniavgen`. Every command stands in its own file, which is imported when it is called.

Errors that a user can mend are one sentence on stderr and exit code 2; --debug shows the traceback and causes before
it. Ctrl-C is 130, and so is SIGTERM, which schedulers send before they kill. Neither leaves a half-written file.
A reader that closes the pipe ends the command silently, as SIGPIPE does.
"""

import logging
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import uniavgen
from uniavgen.apps.cli.streams import ClosedPipeError, prepare_streams
from uniavgen.apps.config_options import config_options
from uniavgen.artifacts import check_path_length
from uniavgen.cpu import configure_threads
from uniavgen.distributed import is_first_failure
from uniavgen.errors import OutputError, UniAVGenError

USAGE, INTERRUPTED, CLOSED_PIPE = 2, 130, 141
_NOISY_LOGGERS = ("torchao", "torch.utils._pytree")
"""transformers imports torchao where it is installed, which warns of kernels for GPUs that are not here, and through
torch of its own classes."""
_MAX_SENTENCE = 2000

# Command: module beside this one, the function in it (or none for all of its COMMANDS, as commands of a group), and
# what the list of commands says about it.
_COMMANDS: dict[str, tuple[str, str, str]] = {
    "generate": ("generate", "generate", "Make a talking clip of a picture, a caption and a sentence."),
    "continue": ("continue_clip", "continue_clip", "Continue a clip with what is said next."),
    "dub": ("dub", "dub", "Give a video a voice; its frames stay as they are."),
    "animate": ("animate", "animate", "Make a picture speak a recording; the sound stays as it is."),
    "serve": (".server.command", "serve", "Make clips for programs that ask over HTTP."),
    "plan": ("plan", "plan", "Show what a clip takes of a GPU's memory, before anything is loaded."),
    "info": ("info", "info", "Show what a file holds, who made it, and whether marks and signature hold."),
    "synth": ("synth", "synth", "Draw clips of the synthetic world."),
    "speech": ("speech", "speech", "Speak sentences ahead for the synthetic world."),
    "data": ("data", "", "Turn raw video into clips to train on: run, report, pack, forget."),
    "prepare": ("prepare", "prepare", "Store the features that training reads."),
    "train": ("train", "train", "Train a stage."),
    "train-codec": ("train_codec", "train_codec", "Train a video autoencoder, a vocoder or a caption encoder."),
    "export": ("export", "export", "Put trained parts together to a model."),
    "fuse": ("fuse", "fuse", "Add adapters (LoRA) to the weights of a model."),
    "convert": ("convert", "convert", "Turn published weights into a model."),
    "prompts": ("prompts", "prompts", "Make a set of prompts to measure on."),
    "evaluate": ("evaluate", "evaluate", "Measure clips of any system, or a model, on prompts."),
    "train-reader": ("train_reader", "train_reader", "Train a network that reads sync, faces or voices."),
}


class _Command(TyperCommand):
    # typer's own default is a class that its public `Context` derives from.
    context_class = typer.Context

    def invoke(self, ctx: Any) -> Any:
        """Runs the command, once it is known that its paths can exist."""
        for value in ctx.params.values():
            for path in value if isinstance(value, list | tuple) else [value]:
                if isinstance(path, Path):
                    check_path_length(path)
        return super().invoke(ctx)


class _LazyGroup(TyperGroup):
    """Imports a command's file when the command is called, not to list it."""

    context_class = typer.Context

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        name, function, text = _COMMANDS[cmd_name]
        module = import_module(f".{name}", __name__)
        app = typer.Typer(add_completion=False, rich_markup_mode=None, help=text)
        if not function:
            app.callback()(lambda: None)
            for name, each in module.COMMANDS.items():
                app.command(name, cls=_Command)(each)
            return typer.main.get_command(app)
        app.command(cmd_name, cls=_Command, short_help=text)(getattr(module, function))
        command = typer.main.get_command(app)
        for config, excluded in getattr(module, "CONFIGS", {}).items():
            command.params += config_options(config, excluded)
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


app = typer.Typer(
    cls=_LazyGroup,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Joint audio and video generation of talking people.",
)


@dataclass
class _RootOptions:
    debug: bool = False


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error and of its causes.")] = False,
) -> None:
    context.obj.debug = debug
    if version:
        print(uniavgen.__version__)
        raise typer.Exit


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns the exit code."""
    if argv is None:
        signal.signal(signal.SIGTERM, _stop)
        prepare_streams()
        configure_threads()
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    options = _RootOptions()
    # Warnings of the package go to stderr as they are, whatever the root logger does.
    logging.getLogger("uniavgen").addHandler(logging.lastResort or logging.StreamHandler())
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        code = typer.main.get_command(app).main(arguments, prog_name="uniavgen", standalone_mode=False, obj=options)
        sys.stdout.flush()
    except ClosedPipeError:
        return CLOSED_PIPE
    except UniAVGenError as error:
        if options.debug and is_first_failure():
            traceback.print_exception(error)
        return _failed(str(error))
    except typer.TyperException as error:
        command = [name for name in arguments if name in _COMMANDS][:1]
        return _failed(f"{error.format_message().rstrip('.')}; see {' '.join(['uniavgen', *command, '--help'])}")
    except MemoryError:
        return _failed("there is not enough memory; use a smaller model or fewer frames, or close other programs")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception:
        if is_first_failure():
            raise
        return USAGE
    if code == INTERRUPTED and is_first_failure():
        print("uniavgen: stopped on request; no unfinished file was left", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _stop(_number: int, frame: FrameType | None) -> None:
    """Does what Ctrl-C does, also in a background process, which a shell lets ignore Ctrl-C."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        handler = signal.default_int_handler
    handler(signal.SIGINT, frame)


def _failed(sentence: str) -> int:
    # Where nothing can be printed any more, the exit code says it; of several processes, one speaks.
    with suppress(OutputError):
        if is_first_failure():
            print(f"uniavgen: {_shortened(' '.join(sentence.split()))}", file=sys.stderr)
    return USAGE


def _shortened(sentence: str) -> str:
    """Leaves out the middle of a sentence that quotes a value of thousands of letters."""
    half = _MAX_SENTENCE // 2
    return sentence if len(sentence) <= _MAX_SENTENCE else f"{sentence[:half]} ... {sentence[-half:]}"
