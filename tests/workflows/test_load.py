"""Loading: a fault of the files is one sentence, a fault of this package is a traceback, the model fits its device."""

import shutil
from pathlib import Path

import pytest

from uniavgen.apps.cli import main
from uniavgen.errors import CheckpointError, ConfigError
from uniavgen.workflows.load import ModelLoader, load_pipeline
from uniavgen.workflows.load_config import LoadConfig
from uniavgen.workflows.model_files import find_model

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
EXAMPLE = Path(__file__).parents[2] / "examples" / "person.png"


@pytest.fixture
def truncated(tmp_path) -> Path:
    """Nano with half of its transformer's weights."""
    folder = find_model("nano")
    assert folder is not None
    shutil.copytree(folder, tmp_path / "model")
    file = tmp_path / "model" / WEIGHTS
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return tmp_path / "model"


def _generate(model: str | Path, out: Path) -> list[str]:
    command = f"generate --image {EXAMPLE} --speech Hi --model {model} --device cpu --num-frames 5 --out {out}"
    return command.split()


def _raise_attribute_error(*_: object) -> None:
    raise AttributeError("'NoneType' object has no attribute 'config'")


def test_internal_error_while_loading_is_a_traceback(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("uniavgen.inference.pipeline._check_components", _raise_attribute_error)
    with pytest.raises(AttributeError, match="NoneType"):
        main(_generate("nano", tmp_path / "a.mp4"))
    assert "could not be loaded" not in capsys.readouterr().err


def test_damaged_weights_are_one_sentence_without_debug(truncated, tmp_path, capsys):
    assert main(_generate(truncated, tmp_path / "a.mp4")) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"uniavgen: {truncated / WEIGHTS} of ")
    assert "bytes is cut short or damaged (" in error
    assert len(error.splitlines()) == 1


def test_debug_shows_the_cause_of_an_error(truncated, tmp_path, capsys):
    assert main(["--debug", *_generate(truncated, tmp_path / "a.mp4")]) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error
    cause, _, raised = error.partition("The above exception was the direct cause of the following exception")
    assert "SafetensorError" in cause
    assert "CheckpointError" in raised
    assert error.splitlines()[-1].startswith(f"uniavgen: {truncated / WEIGHTS} of ")


def test_library_errors_become_checkpoint_errors_with_a_cause(truncated):
    shutil.copy(Path(str(find_model("nano"))) / WEIGHTS, truncated / WEIGHTS)
    (truncated / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="could not be loaded") as caught:
        load_pipeline(str(truncated), device="cpu")
    assert isinstance(caught.value.__cause__, OSError)


def test_pipeline_is_loaded_with_the_options_that_were_chosen():
    pipeline = load_pipeline("nano", device="cpu", attention="math", cache=0.05)
    assert pipeline.offload.mode.name == "resident"
    assert (str(pipeline.speed.attention), pipeline.speed.block_cache) == ("math", 0.05)
    assert not pipeline.transformer.training


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "gpu"}, "no device 'gpu'"),
        ({"vram": 0.0}, "memory of the GPU in GB"),
        ({"vram": 24.0, "device": "cpu"}, "for a CUDA GPU"),
        ({"mode": "huge"}, "no mode 'huge'"),
        ({"attention": "fast"}, "no attention 'fast'"),
        ({"cache": 0.1, "compile": True}, "choose one of the two"),
        ({"mode": "streamed", "compile": True}, "leave compiling out"),
    ],
)
def test_loader_refuses_options_before_anything_is_loaded(options, words):
    with pytest.raises(ConfigError, match=words):
        ModelLoader(LoadConfig(**{"device": "cpu", **options}))
