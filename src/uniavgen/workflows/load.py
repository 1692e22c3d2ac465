"""From a model's name to a pipeline that fits its device. Checks go from cheap to dear: name, files, weights."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging
from torch import nn

from uniavgen.checkpoint.lora_file import open_lora
from uniavgen.checkpoint.lora_fusing import FittedLora, fit_lora
from uniavgen.checkpoint.saved_model import check_files, check_loaded, loading_errors
from uniavgen.distributed import ParallelContext, select_device
from uniavgen.errors import CheckpointError, ConfigError
from uniavgen.inference.load_components import load_components
from uniavgen.inference.memory import GIB, MemoryPlanner, Workload, largest_workload, workload_of
from uniavgen.inference.meta_model import META, WORKING_DTYPE, MetaModel, saved_meta_model
from uniavgen.inference.model_spec import ModelSpec, saved_model_spec, saved_transformer_config
from uniavgen.inference.offload import OffloadConfig, offload_mode
from uniavgen.inference.pipeline import UniAVGenPipeline
from uniavgen.inference.prepared_request import PreparedRequest, prepare_request
from uniavgen.inference.request import Request, check_num_frames, check_size
from uniavgen.inference.resize import ResizeAndCrop, resize_rule_for
from uniavgen.inference.speed import SpeedConfig
from uniavgen.models.kernels import check_attention, parse_attention
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.table import Task
from uniavgen.timebase import NUM_FRAMES
from uniavgen.workflows.fit import check_host_memory, free_host_bytes, gpu_budget, limit_gpu_memory
from uniavgen.workflows.load_config import NANO, LoadConfig
from uniavgen.workflows.model_files import download_model, find_model, shown_name

LARGEST_PX = (1280, 736)
"""Width and height of the widest picture that the release draws. [release]"""
_NAMED = 3
"""Adapters that stand in the name of a system."""
Report = Callable[[str], None]
"""Takes one line about what was decided."""


def _no_report(_: str) -> None:
    pass


class ModelLoader:
    """A model whose name, device and options are checked, and which is loaded once it is known what it has to do.

        loader = ModelLoader(LoadConfig(model="nano"))
        prepared = loader.prepare(request)
        clip = loader.load_for(prepared)(prepared)

    Raises CheckpointError where there is no such model and ConfigError where the options cannot be combined.
    """

    def __init__(self, config: LoadConfig, report: Report = _no_report) -> None:
        self.config = config
        self._report = report
        self._found = find_model(config.model)
        self._lora_files = [open_lora(text) for text in config.lora]
        self.speed = SpeedConfig(
            attention=parse_attention(config.attention), compile_blocks=config.compile, block_cache=config.cache
        )
        if config.mode is not None:
            self.speed.check(offload_mode(config.mode))
        self.device = torch.device(select_device(config.device))
        if self.device.type != "cuda" and (config.vram is not None or config.mode is not None):
            raise ConfigError(
                f"--vram and --mode are for a CUDA GPU, and on the device '{self.device}' everything stays; "
                "leave them out"
            )
        check_attention(self.speed.attention, str(self.device))

    @property
    def is_local(self) -> bool:
        """Whether the model is named by a folder, or is part of this package, and not on the hub."""
        return self._found is not None

    @property
    def name(self) -> str:
        """Returns the name of the model in the settings of its clips: `nano`, a hub name, or the name of its folder."""
        return shown_name(self.config.model, self._found)

    @property
    def system(self) -> str:
        """Returns the name of the model with its adapters in a report: `nano+me`."""
        stems = [file.path.resolve().stem for file in self._lora_files if file.scale]
        return "+".join(
            [Path(self.config.model).name, *(stems if len(stems) <= _NAMED else [f"{len(stems)} adapters"])]
        )

    @property
    def lora_settings(self) -> dict[str, Any]:
        """Returns what clips record of adapters; nothing where there are none, or all have the scale 0.

        Raises CheckpointError where one does not fit the model.
        """
        used = [each.file.settings for each in self.lora if each.file.scale]
        return {"lora": used} if used else {}

    @cached_property
    def folder(self) -> Path:
        """Returns the folder of the model, downloaded where it is on the hub and not in the cache.

        Raises CheckpointError where its files are damaged (`check_files`).
        """
        folder = download_model(self.config.model) if self._found is None else self._found
        check_files(folder)
        return folder

    @cached_property
    def spec(self) -> ModelSpec:
        """Reads what requests are checked against from the model's configs. Raises CheckpointError."""
        return saved_model_spec(self.folder)

    @cached_property
    def lora(self) -> list[FittedLora]:
        """Returns the adapters, each with its places in the model. Raises CheckpointError where one does not fit."""
        if not self._lora_files:
            return []
        with META:
            transformer = UniAVGenTransformer.from_settings(saved_transformer_config(self.folder))
        shapes = {name: tuple(parameter.shape) for name, parameter in transformer.named_parameters()}
        fitted = [fit_lora(file, shapes) for file in self._lora_files]
        for each in fitted:
            self._report(each.describe())
        return fitted

    def prepare(self, request: Request) -> PreparedRequest:
        """Validates a request against the model and converts its inputs, before weights are loaded.

        Raises ConfigError or MediaError for what this model cannot serve, CheckpointError for adapters of another one.
        """
        self.speed.check(task=request.task)
        # Adapters that do not fit are refused here, before inputs are converted.
        _ = self.lora
        return prepare_request(request, self.spec)

    def load_for(self, prepared: PreparedRequest, shared_device: str | None = None) -> UniAVGenPipeline:
        """Loads the model so that the clip of one request fits.

        shared_device: device of this process where several share the clip (`distributed.process_group`).
        """
        if shared_device is not None:
            return self._load_shared(torch.device(shared_device))
        return self._load_fitting(lambda _: [workload_of(prepared)])

    def load_for_tasks(
        self,
        tasks: Sequence[Task],
        num_frames: int,
        size: tuple[int, int] | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> UniAVGenPipeline:
        """Loads the model so that every clip of these tasks fits."""

        def workloads(meta: MetaModel) -> list[Workload]:
            return [largest_task_workload(meta, task, num_frames, size, sampling or {}) for task in tasks]

        return self._load_fitting(workloads)

    def _load_fitting(self, workloads: Callable[[MetaModel], list[Workload]]) -> UniAVGenPipeline:
        if self.device.type != "cuda":
            check_host_memory(self.config.model, self.folder)
            return self._load(OffloadConfig(device=self.device))
        meta = saved_meta_model(self.folder)
        budget = gpu_budget(self.device, self.config.vram)
        planner = MemoryPlanner(meta, *workloads(meta))
        plan = planner.choose(budget, self.device, self.config.mode, host=free_host_bytes())
        self.speed.check(plan.offload.mode)
        if self.config.vram is not None:
            limit_gpu_memory(budget, self.device)
        self._report(
            f"memory mode {plan.offload.mode.name}: at most {plan.peak.required / GIB:.1f} of {budget / GIB:.1f} GB "
            f"(predicted, to {plan.peak.phase})"
        )
        return self._load(plan.offload)

    def _load_shared(self, device: torch.device) -> UniAVGenPipeline:
        """Loads the whole model in each of the processes that share a clip."""
        if self.speed.block_cache is not None:
            raise ConfigError("processes that share a clip cannot use the cache, since each would decide for itself")
        if self.config.vram is not None or self.config.mode is not None:
            raise ConfigError("processes that share a clip keep all parts on their GPUs; leave --vram and --mode out")
        pipeline = self._load(OffloadConfig(device=device))
        return pipeline.configure(parallel=ParallelContext.for_sampling(device.type))

    def _load(self, offload: OffloadConfig) -> UniAVGenPipeline:
        return load_weights(self.folder, self.config.model, offload, self.lora).configure(speed=self.speed)


def load_pipeline(model: str = NANO, **options: Any) -> UniAVGenPipeline:
    """Loads a model so that a clip of any task fits: `load_pipeline("nano", device="cpu")`.

    options: the other fields of `LoadConfig`. Raises CheckpointError and ConfigError.
    """
    return ModelLoader(LoadConfig(model=model, **options)).load_for_tasks([*Task], NUM_FRAMES)


def load_weights(folder: Path, name: str, offload: OffloadConfig, lora: Sequence[FittedLora] = ()) -> UniAVGenPipeline:
    """Loads a saved pipeline, adds adapters and brings it to its device as planned; transformer and caption encoder of
    a GPU work in bfloat16.

    Raises CheckpointError, in which the model is called `name`, where it is damaged or of another version.
    """
    on_gpu = offload.device is not None and offload.device.type == "cuda"
    dtypes = {"transformer": WORKING_DTYPE, "text_encoder": WORKING_DTYPE, "default": torch.float32}
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with loading_errors(f"the model {name} could not be loaded", "copy or download it again"):
        pipeline = UniAVGenPipeline(**load_components(folder, dtypes if on_gpu else {}))
    _check_complete(pipeline, name)
    for component, module in pipeline.components.items():
        if isinstance(module, nn.Module):
            check_loaded(module, folder / component)
    return pipeline.fuse_lora(*lora).configure(offload=offload)


def largest_task_workload(
    meta: MetaModel, task: Task, num_frames: int, size: tuple[int, int] | None, sampling: Mapping[str, Any]
) -> Workload:
    """Returns the most that a clip of a task can take.

    Raises ConfigError for a length that no clip has and a size that the model cannot draw.
    """
    check_num_frames(num_frames)
    if size is not None:
        check_size(size)
    rule = meta.resize_rule if size is None else resize_rule_for(meta.resize_rule, *size)
    width, height = (rule.width, rule.height) if isinstance(rule, ResizeAndCrop) else LARGEST_PX
    timing = meta.transformer.settings.timebase.clip(num_frames)
    return largest_workload(task, height, width, timing, meta.sampling.with_overrides(sampling))


def _check_complete(pipeline: UniAVGenPipeline, name: str) -> None:
    """Raises CheckpointError for weights that a file lacks; diffusers leaves them on the meta device silently."""
    for part_name, part in pipeline.components.items():
        parameters = part.named_parameters() if isinstance(part, nn.Module) else ()
        empty = [key for key, value in parameters if value.is_meta]
        if empty:
            raise CheckpointError(
                f"the model {name} could not be loaded (its {part_name} lacks {len(empty)} weights, first "
                f"{empty[0]}); it is damaged or of another version"
            )
