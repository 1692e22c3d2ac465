# ruff: noqa: RUF001
"""Text to speech with phone times: Kokoro-82M through ONNX Runtime, and flite.

Both speak the sentences of `sentences`, so a world needs no recordings. espeak-ng and flite are programs of the
system, called when needed.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from uniavgen.artifacts import read_json
from uniavgen.errors import ConfigError, DataError
from uniavgen.synth.sentences import sentence
from uniavgen.synth.speech import SAMPLE_RATE_HZ, Line, Speech, check_split, read_speech, split_of
from uniavgen.synth.visemes import Phone

_TRIES = 200
_FRAME_S = 0.025
_LATE_S = 3 * _FRAME_S
"""Kokoro's durations run three frames late against forced alignment. [ours, measured]"""
_DURATIONS = "/encoder/Clip_output_0"
"""Inner output of the published ONNX graph: frames of each symbol."""
_FASTEST, _SLOWEST = 1.45, 0.75
_NUM_BLENDS = 24
_BLEND_PERCENT = (35, 50, 65)


def _line(seed: int, number: int, split: str, voices: dict[str, str]) -> Line:
    """Returns a sentence of the split and a voice for clip `number`."""
    rng = np.random.default_rng([seed, number, 12])
    names = sorted(voices)
    voice = names[int(rng.integers(len(names)))]
    for attempt in range(_TRIES):
        text = sentence(seed, number * _TRIES + attempt)
        if split in ("all", split_of(text)):
            return Line(utterance=f"s{seed}-{number * _TRIES + attempt}", text=text, voice=voice, gender=voices[voice])
    raise AssertionError("a split that no sentence in hundreds belongs to")


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise ConfigError(f"the program {name} is needed for this speech source; on Debian: apt-get install {name}")
    return path


def _run(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise DataError(f"{Path(command[0]).name} failed ({error}); try it by hand on the same sentence") from error


def blends(voices: Sequence[str], count: int) -> list[str]:
    """Returns names of `count` mixtures of two voices of a language and gender: `af_bella35+af_sky65` is in percent.

    Always the same ones, and a smaller count gives the first of them.
    """
    pairs = [(one, other) for one, other in combinations(sorted(voices), 2) if one[:2] == other[:2]]
    rng = np.random.default_rng(len(pairs))
    shares = rng.choice(_BLEND_PERCENT, len(pairs))
    named = [f"{one}{share}+{other}{100 - share}" for (one, other), share in zip(pairs, shares, strict=True)]
    return [named[i] for i in rng.permutation(len(named))[:count]]


def voice_style(folder: Path, voice: str, num_tokens: int) -> Float32[np.ndarray, "1 256"]:
    """Returns the style vector of a voice for so many symbols: a row of its table, or the weighted mean of two rows."""
    style = np.zeros((1, 256), np.float32)
    for name, percent in re.findall(r"([a-z_]+)(\d*)", voice):
        table = np.fromfile(folder / "voices" / f"{name}.bin", np.float32).reshape(-1, 1, 256)
        style += np.float32(int(percent or 100) / 100) * table[num_tokens]
    return style


class KokoroSpeech:
    """Kokoro-82M with its English voices and blends; phones by espeak-ng, times from the model's own durations."""

    def __init__(self, folder: Path, split: str = "all") -> None:
        self._folder, self._split = folder, check_split(split)
        # The first letter of a voice is its language (American, British), the second its speaker's gender.
        names = [p.stem for p in sorted((folder / "voices").glob("[ab][fm]_*.bin"))]
        names += blends(names, _NUM_BLENDS)
        self._voices = {name: "female" if name[1] == "f" else "male" for name in names}
        if not names or not list(folder.glob("*.onnx")):
            raise DataError(f"{folder} needs an ONNX file and English voices (voices/af_*.bin ...); lay them there")

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("_session", "_vocabulary")}

    def line(self, seed: int, number: int) -> Line:
        """Returns the line of clip `number` of the world `seed`."""
        return _line(seed, number, self._split, self._voices)

    def synthesize(self, line: Line, rate: float) -> Speech:
        """Speaks a line, `rate` times as fast as usual."""
        symbols = [s for s in phonemes(line.text, british=line.voice[0] == "b") if s in self._vocabulary]
        tokens = [self._vocabulary[s] for s in symbols]
        speed = float(np.clip(rate, _SLOWEST, _FASTEST))
        given = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": voice_style(self._folder, line.voice, len(tokens)),
            "speed": np.array([speed], np.float32),
        }
        waveform, durations = self._session.run(None, given)
        edges = np.concatenate([[0], np.cumsum(np.ravel(durations))]) * _FRAME_S - _LATE_S
        # The first and the last duration belong to the silence around the line.
        phones = tuple(
            (symbol, max(float(start), 0.0), max(float(end), 0.0))
            for symbol, start, end in zip(symbols, edges[1:-2], edges[2:-1], strict=True)
        )
        sound = np.ravel(waveform).astype(np.float32)
        return Speech(waveform=0.9 * sound / max(float(np.abs(sound).max()), 1e-6), phones=phones)

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        file = self._folder / "vocab.json"
        table = read_json(file, remedy="copy it again")
        symbols = table.get("vocab", table)
        if not isinstance(symbols, dict) or not all(type(number) is int for number in symbols.values()):
            raise DataError(f"{file} is no vocabulary, which gives each symbol a number; copy it again")
        return symbols

    @cached_property
    def _session(self) -> Any:
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            raise ConfigError("Kokoro needs onnx and onnxruntime: pip install 'uniavgen[synth]'") from error
        model = onnx.load(next(iter(sorted(self._folder.glob("*.onnx")))))
        outputs = {name for node in model.graph.node for name in node.output}
        if _DURATIONS not in outputs:
            raise DataError(f"the ONNX file in {self._folder} has no output {_DURATIONS}; use Kokoro-82M v1.0")
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(_DURATIONS))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


_TO_KOKORO = (
    ("a^ɪ", "I"), ("a^ʊ", "W"), ("d^ʒ", "ʤ"), ("e^ɪ", "A"), ("t^ʃ", "ʧ"), ("ɔ^ɪ", "Y"), ("o^ʊ", "O"), ("ə^ʊ", "Q"),
    ("ə^l", "ᵊl"), ("e", "A"), ("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɚ", "əɹ"), ("ɐ", "ə"), ("ʔˌn\u0329", "ʔn"), ("ʔ", "t"),
    ("r", "ɹ"), ("x", "k"), ("ç", "k"), ("ɬ", "l"), ("\u0303", ""), ("\u0329", ""), ("ː", ""), ("^", ""), ("_", ""),
)  # fmt: skip
"""From espeak-ng's symbols to those Kokoro was trained with; the order matters."""


def phonemes(text: str, *, british: bool = False) -> str:
    """Returns Kokoro's symbols of an English sentence, with its punctuation between the clauses."""
    program = _program("espeak-ng")
    pieces = []
    for clause, stop in re.findall(r"([^,.!?]+)([,.!?]*)", text):
        ipa = _run([program, "-q", "--ipa=3", "--tie=^", "-v", "en-gb" if british else "en-us", clause.strip()])
        symbols = " ".join(ipa.split())
        for old, new in _TO_KOKORO:
            symbols = symbols.replace(old, new)
        pieces.append(symbols + stop[:1])
    return " ".join(pieces)


_FLITE_VOICES = {"slt": "female", "rms": "male", "awb": "male", "kal16": "male"}
_FROM_FLITE = {
    "aa": "ɑ", "ae": "æ", "ah": "ʌ", "ao": "ɔ", "aw": "W", "ax": "ə", "axr": "ɜ", "ay": "I", "b": "b", "ch": "ʧ",
    "d": "d", "dh": "ð", "dx": "ɾ", "eh": "ɛ", "el": "l", "em": "m", "en": "n", "er": "ɜ", "ey": "A", "f": "f",
    "g": "ɡ", "hh": "h", "hv": "h", "ih": "ɪ", "iy": "i", "jh": "ʤ", "k": "k", "l": "l", "m": "m", "n": "n", "nx": "n",
    "ng": "ŋ", "ow": "O", "oy": "Y", "p": "p", "r": "ɹ", "s": "s", "sh": "ʃ", "t": "t", "th": "θ", "uh": "ʊ",
    "uw": "u", "v": "v", "w": "w", "y": "j", "z": "z", "zh": "ʒ", "pau": " ", "ssil": " ",
}  # fmt: skip


class FliteSpeech:
    """flite: four voices, thirty times faster than real time, plainer sound."""

    def __init__(self, split: str = "all") -> None:
        self._split = check_split(split)
        self._flite = _program("flite")

    def line(self, seed: int, number: int) -> Line:
        """Returns the line of clip `number` of the world `seed`."""
        return _line(seed, number, self._split, _FLITE_VOICES)

    def synthesize(self, line: Line, rate: float) -> Speech:
        """Speaks a line, `rate` times as fast as usual."""
        stretch = 1 / float(np.clip(rate, _SLOWEST, _FASTEST))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "line.wav"
            command = [self._flite, "-voice", line.voice, "--setf", f"duration_stretch={stretch:.3f}"]
            printed = _run([*command, "-psdur", "-t", line.text, "-o", str(file)])
            waveform = read_speech(file)
        return Speech(waveform=waveform, phones=_flite_phones(printed, waveform))


def _flite_phones(printed: str, waveform: Float32[np.ndarray, " samples"]) -> tuple[Phone, ...]:
    """Returns phones out of `name:end` pairs."""
    phones, start = [], 0.0
    for name, end in re.findall(r"(\S+):([\d.]+)", printed):
        stop = min(float(end), len(waveform) / SAMPLE_RATE_HZ)
        phones.append((_FROM_FLITE.get(name, "ə"), start, stop))
        start = stop
    return tuple(phones)
