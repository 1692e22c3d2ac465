"""Optional means to sample faster: the attention kernel, compiled blocks, a cache over steps.

The first two give the same clip but for rounding (kernels that quantise, such as sage, round more). The cache skips
work that the clip may need.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from uniavgen.config import Config
from uniavgen.errors import ConfigError
from uniavgen.inference.offload import OffloadMode, OffloadStrategy
from uniavgen.models.kernels import AttentionKernel, compile_blocks, use_attention
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.table import TASKS, ModalityRole, Task


@dataclass(frozen=True, kw_only=True)
class SpeedConfig(Config):
    """Speed for a pipeline. The defaults change nothing."""

    attention: AttentionKernel = AttentionKernel.SDPA
    compile_blocks: bool = False
    """Blocks go through `torch.compile`, once for each kind: some minutes before the first clip of a size."""
    block_cache: float | None = None
    """Threshold of `first_block_cache`."""

    def __post_init__(self) -> None:
        if self.block_cache is not None and not 0 < self.block_cache < 1:
            raise ConfigError(f"the cache's threshold lies between 0 and 1, such as 0.05, got {self.block_cache}")
        if self.block_cache is not None and self.compile_blocks:
            raise ConfigError("the cache decides while it runs, which compiled blocks cannot; choose one of the two")

    def check(self, mode: OffloadMode | None = None, task: Task | None = None) -> None:
        """Checks what can be known before a model is loaded. Raises ConfigError for

        - compiled blocks in a mode of group offload: what fetches and casts the weights of a block breaks the compiled
          program, or has it compiled anew for every block;
        - the block cache in a task that gives a whole modality: its branch is run once, and the cache compares steps.
        """
        if self.compile_blocks and mode is not None and mode.strategy is OffloadStrategy.GROUP_OFFLOAD:
            raise ConfigError(
                f"compiled blocks have to stay where they are, and the mode '{mode.name}' streams them to the device "
                "one by one; leave compiling out, or choose a mode that streams nothing (turns, resident)"
            )
        if (
            self.block_cache is not None
            and task is not None
            and ModalityRole.GIVEN in (TASKS[task].video, TASKS[task].audio)
        ):
            raise ConfigError(
                f"the task '{task}' runs one branch only once, which the cache cannot follow; leave it out"
            )


def apply_speed(transformer: UniAVGenTransformer, config: SpeedConfig, mode: OffloadMode) -> None:
    """Gives a transformer, already offloaded in `mode`, its attention kernel and compiled blocks, in place.

    The block cache is opened for each clip (`first_block_cache`). Raises ConfigError for what the mode does not allow.
    """
    config.check(mode)
    use_attention(transformer, config.attention)
    if config.compile_blocks:
        compile_blocks(transformer)


@contextmanager
def first_block_cache(transformer: UniAVGenTransformer, threshold: float | None) -> Iterator[None]:
    """Enables diffusers' FirstBlockCache for one clip, while the context is open; None enables nothing.

    Where the first block changes a pass by less than `threshold` (relative to the step before), the other blocks are
    not run and their last updates are added again. Its effect on lips and voice is not measured. It compares video,
    so it cannot be used where the video branch is not run (dubbing, animation). `cache_context` names the pass.
    """
    if threshold is None:
        yield
        return
    from diffusers import FirstBlockCacheConfig

    transformer.enable_cache(FirstBlockCacheConfig(threshold=threshold))
    try:
        yield
    finally:
        transformer.disable_cache()
