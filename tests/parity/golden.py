"""Sets of numbers measured on the authors' model classes: `data/` beside this file, and a folder (`UNIAVGEN_GOLDEN`).

A set is NAME.json + NAME_io.safetensors, and either NAME_weights.safetensors or a rule in NAME.json that its weights
follow. Sizes, layers and case names come from the set.
"""

import json
import math
import os
import zlib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from uniavgen.batch import Gate, Stream, TextInputs, TokenTimesteps
from uniavgen.checkpoint.keymap import release_map
from uniavgen.checkpoint.sizes import SourceConfig, release_settings
from uniavgen.models.config import TransformerConfig
from uniavgen.models.transformer import UniAVGenTransformer

TOLERANCE = 1e-4
DEFAULT = Path(__file__).parents[3] / "shared" / "golden"


DATA = Path(__file__).parent / "data"
"""Sets that every clone holds."""


def folder() -> Path:
    return Path(os.environ.get("UNIAVGEN_GOLDEN", DEFAULT))


_PUBLISHED = {
    "joint": ("release_parameters.json", None),
    "umt5": ("release_codec_parameters.json", "models_t5_umt5-xxl-enc-bf16.pth"),
    "vae": ("release_codec_parameters.json", "Wan2.2_VAE.pth"),
}


def published_shapes(part: str) -> dict[str, tuple[int, ...]]:
    """Every name and shape of a part of the full-size release; skips where the list is not there."""
    file, inside = _PUBLISHED[part]
    path = folder() / file
    if not path.is_file():
        pytest.skip(f"no {path}; name a folder with UNIAVGEN_GOLDEN")
    listed = json.loads(path.read_text())
    return {name: tuple(shape) for name, shape in (listed if inside is None else listed[inside]).items()}


def relative_error(ours: Tensor, reference: Tensor) -> float:
    """Largest difference over the largest reference value."""
    assert ours.shape == reference.shape, (ours.shape, reference.shape)
    return float((ours.float() - reference.float()).abs().max() / reference.float().abs().max())


def or_skip(parameters: list, what: str, arguments: int = 1) -> list:
    """Parameters of a test; one that skips with the reason where the folder has none."""
    reason = f"no {what} in {folder()}; name a folder with UNIAVGEN_GOLDEN"
    return parameters or [pytest.param(*[None] * arguments, marks=pytest.mark.skip(reason=reason), id="none")]


def set_names() -> list[str]:
    """Sets of the joint model."""
    return [path.stem for root in (DATA, folder()) for path in sorted(root.glob("*.json")) if _is_joint(path)]


def weight_file_names() -> list[str]:
    """Sets of the joint model whose weights are a file, as a published model's are."""
    return [name for name in set_names() if "weights" not in golden_set(name).description]


def _is_joint(path: Path) -> bool:
    data = json.loads(path.read_text())
    return isinstance(data, dict) and "cases" in data and "config" in data


@dataclass(frozen=True)
class GoldenSet:
    """One set of the joint model."""

    name: str

    @property
    def root(self) -> Path:
        return DATA if (DATA / f"{self.name}.json").is_file() else folder()

    @cached_property
    def description(self) -> dict:
        return json.loads((self.root / f"{self.name}.json").read_text())

    @property
    def config(self) -> dict:
        """Arguments of the authors' class."""
        return self.description["config"]

    @property
    def cases(self) -> dict[str, dict]:
        """Arguments of each single forward."""
        return self.description["cases"]

    @property
    def sampling(self) -> dict:
        """Settings of the sampled trajectories; empty if the set has none."""
        return self.description.get("sampling", {})

    @cached_property
    def io(self) -> dict[str, Tensor]:
        """`inputs.*`, `cases.NAME.*` and `sampling.TASK.PRESET.*`, float32 or int64, without batch axis."""
        return load_file(self.root / f"{self.name}_io.safetensors")

    @property
    def sampled(self) -> list[tuple[str, str]]:
        """(task, preset) of the sampled trajectories."""
        names = (key.split(".") for key in self.io if key.startswith("sampling."))
        return sorted({(parts[1], parts[2]) for parts in names})

    def input(self, name: str) -> Tensor:
        """`inputs.NAME` with a batch axis of one. Speech ids are ours (0 is the filler)."""
        value = self.io[f"inputs.{name}"][None]
        return value if value.is_floating_point() else value + 1

    def text(self, *, null: bool, with_reference: bool) -> TextInputs:
        """Both texts of a pass. With reference audio its transcript stands in front of the speech."""
        speech = self.input(("null_" if null else "") + "speech" + ("_with_ref" if with_reference else ""))
        return TextInputs(
            caption=self.input("null_caption" if null else "caption"),
            speech=speech,
            speech_length=torch.tensor([speech.shape[1]]),
        )

    @cached_property
    def settings(self) -> TransformerConfig:
        """Read from the weights; what their shapes cannot tell, from the authors' configuration."""
        return release_settings(self._shapes, SourceConfig.of(self.config, self.name))

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        if "shapes" in self.description:
            return {name: tuple(shape) for name, shape in self.description["shapes"].items()}
        with safe_open(self.root / f"{self.name}_weights.safetensors", "pt") as weights:
            return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118

    @cached_property
    def model(self) -> UniAVGenTransformer:
        """Our model with the set's weights, float32."""
        model = UniAVGenTransformer.from_settings(self.settings).eval()
        ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        places = release_map(self.settings.interaction.layer_list(self.settings.num_layers)).match(self._shapes, ours)
        weights = self._weights()
        model.load_state_dict({name: weights[source].float() for name, source in places.items()}, strict=True)
        return model

    def _weights(self) -> dict[str, Tensor]:
        if "weights" not in self.description:
            return load_file(self.root / f"{self.name}_weights.safetensors")
        seed = self.description["weights"]["seed"]
        return {name: _weight_by_rule(name, shape, seed) for name, shape in self._shapes.items()}

    def output(self, case: str) -> dict[str, Tensor]:
        """`video`, `audio` and `face_mask` of a single forward, with a batch axis of one."""
        prefix = f"cases.{case}."
        return {key.removeprefix(prefix): value[None] for key, value in self.io.items() if key.startswith(prefix)}

    def case_inputs(self, case: str) -> "CaseInputs":
        """What our model is called with for a case."""
        arguments, null = self.cases[case], self.cases[case].get("zero_con", False)
        time = arguments["timestep"] / 1000.0
        video_given, audio_given = arguments["video_cond"], arguments["audio_cond"]
        with_reference = "reference_audio" in case
        skipped = arguments.get("slg", -1)
        return CaseInputs(
            video=self._video(time, video_given),
            audio=self._audio(time, audio_given, with_reference),
            text=self.text(null=null, with_reference=with_reference),
            gate=Gate(
                a2v=not (null or arguments.get("no_a2v", False)), v2a=not (null or arguments.get("no_v2a", False))
            ),
            skip_layers=(skipped,) if skipped > 0 else (),
        )

    def given_picture(self, given: int) -> tuple[Tensor, Tensor]:
        """Reference frame and the `given` leading latent frames of the clip.

        With one given frame it is the reference image again; with more they come from the driving video, and its first
        frame is the reference (paper.md, section 3).
        """
        if given <= 1:
            image = self.input("ref_image")
            return image, image[:, :, :given]
        clean = self.input("cond_video")[:, :, :given]
        return clean[:, :, :1], clean

    def _video(self, time: float, given: int) -> Stream:
        noise = self.input("video_noise")
        reference, clean = self.given_picture(given)
        values = torch.cat([reference, clean, noise[:, :, given:]], dim=2)
        frames = noise.shape[2]
        index = (torch.arange(1 + frames) > given).long()[None]
        receives = (torch.arange(frames) >= given).float()[None]
        times = TokenTimesteps(unique=torch.tensor([[0.0, time]]), index=index)
        return Stream(values=values, timesteps=times, update_mask=receives, num_reference=1)

    def _audio(self, time: float, given: int, with_reference: bool) -> Stream:
        noise = self.input("audio_noise")
        reference = self.input("ref_audio") if with_reference else noise[:, :0]
        values = torch.cat([reference, self.input("cond_audio")[:, :given], noise[:, given:]], dim=1)
        receives = (torch.arange(noise.shape[1]) >= given).float()[None]
        # One time for the whole sequence, 0 as soon as anything is given. [release]
        times = TokenTimesteps(
            unique=torch.tensor([[0.0 if given else time]]), index=torch.zeros(values.shape[:2], dtype=torch.long)
        )
        return Stream(values=values, timesteps=times, update_mask=receives, num_reference=reference.shape[1])


def _weight_by_rule(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Returns standard normal numbers seeded by the name, scaled as the set's `weights.rule` says, in bfloat16."""
    values = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32).standard_normal(shape)
    if name.endswith("text_embed.weight"):
        scaled = values
    elif name.endswith("modulation"):
        scaled = values / math.sqrt(shape[-1])
    elif "norm" in name and name.endswith("weight"):
        scaled = 0.1 * values + 1
    elif len(shape) >= 2 and not name.endswith(("gamma", "beta")):
        scaled = 0.7 * values / math.sqrt(math.prod(shape[1:]))
    else:
        scaled = 0.05 * values
    return torch.from_numpy(np.asarray(scaled)).to(torch.bfloat16)


@dataclass(frozen=True)
class CaseInputs:
    """Arguments of `UniAVGenTransformer.forward`."""

    video: Stream
    audio: Stream
    text: TextInputs
    gate: Gate
    skip_layers: tuple[int, ...]


@cache
def golden_set(name: str) -> GoldenSet:
    """The set of that name; its model and tensors are read once."""
    return GoldenSet(name)
