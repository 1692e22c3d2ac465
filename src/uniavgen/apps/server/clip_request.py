"""What is stored of a request: plain values, from which the server makes the same jobs as the shell."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uniavgen.tasks.names import Task

if TYPE_CHECKING:
    from uniavgen.workflows.clip_jobs import ClipJob


@dataclass(frozen=True, kw_only=True)
class ClipRequest:
    """A request whose references are files in the folder of its job."""

    task: str
    settings: Mapping[str, Any]
    """Fields of the `ClipJob` of the task, but for files."""
    inputs: Mapping[str, str]
    """Name of the file in the job's folder by field of the `ClipJob`."""
    input_names: Mapping[str, str]
    """How the client called these files, for the settings that the clip holds."""
    lora: tuple[tuple[str, float], ...] = ()
    """Names of adapters with their scales."""
    consent: bool = False
    """Whether the client states that the person whose voice is given agrees."""
    shown: Mapping[str, Any] = field(default_factory=dict)
    """What answers repeat of the request."""

    def to_json(self) -> dict[str, Any]:
        """Returns plain data that `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ClipRequest":
        """Returns the request that `to_json` has written."""
        return cls(**{**data, "lora": tuple((name, scale) for name, scale in data["lora"])})

    def job(self, folder: Path) -> "ClipJob":
        """Returns the job of the shell's commands. Raises ConfigError for settings that no clip can have."""
        from uniavgen.workflows.clip_jobs import AnimateJob, DubJob, GenerateJob
        from uniavgen.workflows.continue_clip import ContinueJob

        classes = {Task.CONTINUATION: ContinueJob, Task.DUBBING: DubJob, Task.ANIMATION: AnimateJob}
        settings = dict(self.settings)
        if settings.get("size") is not None:
            settings["size"] = tuple(settings["size"])
        paths = {name: folder / file for name, file in self.inputs.items()}
        return classes.get(Task(self.task), GenerateJob)(**settings, **paths, input_names=dict(self.input_names))

    def lora_options(self, adapters: Mapping[str, str]) -> tuple[str, ...]:
        """Returns the adapters as `LoadConfig.lora` takes them, given their files by name."""
        return tuple(f"{adapters[name]}:{scale}" for name, scale in self.lora)
