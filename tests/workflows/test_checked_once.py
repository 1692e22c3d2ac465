"""One clip from the command line: whatever was checked or converted is handed on, not done again."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from uniavgen.apps.cli import main
from uniavgen.media.audio import write_wav

ONCE = (
    "workflows.model_files.find_model",
    "checkpoint.saved_model.check_files",
    "workflows.load_config.LoadConfig.__post_init__",
    "inference.model_spec.saved_model_spec",
    "distributed.select_device",
    "inference.request.Request.__post_init__",
    "inference.prepared_request.prepare_request",
    "inference.sampling_config.SamplingConfig.with_overrides",
    "inference.inputs.prepare_inputs",
    "inference.inputs.resample",
    "inference.resize.resize",
    "media.image.read_image",
    "media.audio.read_audio",
    "inference.pipeline.UniAVGenPipeline.__init__",
    "inference.pipeline.UniAVGenPipeline.encode",
    "media.mux.write_clip",
)


@contextmanager
def _counted_calls() -> Iterator[Counter[str]]:
    """Counts calls of the package's functions, by module and qualified name."""
    calls: Counter[str] = Counter()

    def count(frame, event, _argument):
        if event == "call" and frame.f_code.co_filename.endswith(".py"):
            module = str(frame.f_globals.get("__name__", ""))
            if module.startswith("uniavgen."):
                calls[f"{module.removeprefix('uniavgen.')}.{frame.f_code.co_qualname}"] += 1

    previous = sys.getprofile()
    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(previous)


def _generate(folder: Path, *more: str) -> Counter[str]:
    Image.new("RGB", (150, 140), (90, 120, 200)).save(folder / "face.png")
    time = np.arange(20_000) / 24_000
    write_wav(folder / "voice.wav", (0.3 * np.sin(2 * np.pi * 200 * time)).astype(np.float32), 24_000)
    command = f"generate --image {folder}/face.png --speech Hi --voice {folder}/voice.wav --voice-text Ha --steps 1"
    with _counted_calls() as calls:
        code = main([*command.split(), "--num-frames", "5", "--device", "cpu", "--out", str(folder / "a.mp4"), *more])
    assert code == 0
    return calls


def test_generate_checks_and_converts_everything_once(tmp_path):
    calls = _generate(tmp_path)
    assert {name: calls[name] for name in ONCE} == dict.fromkeys(ONCE, 1)
    assert calls["artifacts.outputs.check_writable"] == 1
    # The speech and the transcript of the voice.
    assert calls["codecs.speech_normalization.check_symbols"] == 2
    # The model's own settings, and those with the request's.
    assert calls["inference.sampling_config.SamplingConfig.__post_init__"] == 2


def test_output_is_checked_once(tmp_path):
    calls = _generate(tmp_path, "--preview")
    assert calls["artifacts.outputs.check_writable"] == 2
    assert (tmp_path / "a.png").is_file()
