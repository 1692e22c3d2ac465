"""Every setting of the server, declared once; light enough to be read by a command line before anything is imported."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from annotated_types import Interval

from uniavgen.config import Config, Positive, PositiveInt
from uniavgen.errors import ConfigError

MIB: Final = 2**20


def _shown(metavar: str, text: str) -> dict[str, str]:
    """Returns the metadata of a field: what options and docs show."""
    return {"metavar": metavar, "help": text}


@dataclass(frozen=True, kw_only=True)
class ServerConfig(Config):
    """Where the server listens, what it keeps, and how much it takes of whom."""

    host: str = field(
        default="127.0.0.1", metadata=_shown("ADDRESS", "Address to listen at; any but loopback needs --api-keys.")
    )
    port: Annotated[int, Interval(ge=0, le=65535)] = field(
        default=7860, metadata=_shown("N", "Port to listen at; 0 is any that is free.")
    )
    data_dir: Path = field(default=Path("out/server"), metadata=_shown("DIR", "Folder of jobs, uploads and clips."))
    database: str = field(
        default="", metadata=_shown("URL", "Store of jobs, as postgresql://...; SQLite in --data-dir if left out.")
    )
    clip_store: str = field(
        default="", metadata=_shown("URL", "Store of uploads and clips, as s3://BUCKET/FOLDER; --data-dir if left out.")
    )
    api_keys: Path | None = field(
        default=None, metadata=_shown("FILE", "File of hashed keys, one a line; --new-key adds one.")
    )
    keep_hours: Positive = field(default=24.0, metadata=_shown("X", "Hours after which finished clips are deleted."))
    max_queued: PositiveInt = field(
        default=100, metadata=_shown("N", "Jobs that may wait; more are refused with status 429.")
    )
    max_jobs_per_key: PositiveInt = field(default=20, metadata=_shown("N", "Jobs of one key that may wait or run."))
    max_frames: PositiveInt = field(
        default=81, metadata=_shown("N", "Longest clip, in frames; a GPU's memory is planned for it.")
    )
    job_minutes: Positive = field(default=60.0, metadata=_shown("X", "Minutes after which a job is given up."))
    lease_seconds: Positive = field(
        default=30.0, metadata=_shown("X", "Seconds without a sign of life after which others make a replica's job.")
    )
    max_image_mb: Positive = field(default=20.0, metadata=_shown("X", "Largest picture, in MiB."))
    max_audio_mb: Positive = field(default=50.0, metadata=_shown("X", "Largest recording, in MiB."))
    max_video_mb: Positive = field(default=200.0, metadata=_shown("X", "Largest video, in MiB."))
    check_seconds: Positive = field(
        default=30.0, metadata=_shown("X", "Seconds that decoding the inputs of a job may take.")
    )
    check_memory_gb: Positive = field(
        default=4.0, metadata=_shown("X", "GB of memory that decoding the inputs of a job may take.")
    )
    allow_url: Sequence[str] = field(
        default=(), metadata=_shown("ORIGIN", "Origin, as https://cdn.example.org, from which references are fetched.")
    )
    adapter: Sequence[str] = field(default=(), metadata=_shown("NAME=FILE", "Adapter (LoRA) that a request may name."))
    no_page: bool = field(
        default=False, metadata=_shown("", "Offer no web page at /ui, even where the extra page is installed.")
    )
    replicas: PositiveInt = field(
        default=1, metadata=_shown("N", "Replicas behind the address, one a GPU; more than one run on Ray.")
    )
    ray: str = field(
        default="",
        metadata=_shown("ADDRESS", "Ray cluster of replicas: auto, local or HOST:PORT; local if left out."),
    )
    replica: str = field(default="0", metadata=_shown("NAME", "Name of this server among those that share a store."))

    def __post_init__(self) -> None:
        for text in self.adapter:
            name, _, file = text.partition("=")
            if not name.replace("-", "").replace("_", "").isalnum() or not file:
                raise ConfigError(f"an adapter is NAME=FILE with a name of letters and figures, got '{text[:100]}'")
        for text in self.allow_url:
            parts = urlsplit(text)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
                raise ConfigError(f"an origin is https://HOST or https://HOST:PORT, got '{text[:100]}'")
        if not self.replica.replace("-", "").isalnum():
            raise ConfigError(f"the name of a replica has letters, figures and -, got '{self.replica[:100]}'")
        if not self.is_loopback and self.api_keys is None:
            raise ConfigError(
                f"the address {self.host} can be reached from other computers, which needs --api-keys FILE; give one, "
                "or listen at 127.0.0.1"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this computer can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def adapters(self) -> dict[str, str]:
        """Returns the files of adapters by name."""
        return dict(text.split("=", 1) for text in self.adapter)

    @property
    def database_url(self) -> str:
        """Returns where jobs are stored."""
        return self.database or f"sqlite:///{(self.data_dir / 'jobs.sqlite').absolute()}"

    def max_bytes(self, kind: str) -> int:
        """Returns the size of the largest file of a kind: image, audio or video."""
        return int({"image": self.max_image_mb, "audio": self.max_audio_mb, "video": self.max_video_mb}[kind] * MIB)
