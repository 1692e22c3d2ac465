"""Which share of the work this process does."""

from dataclasses import dataclass

from uniavgen.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class World:
    """The processes of a run. One is all there is so far."""

    rank: int = 0
    size: int = 1

    def sample_indices(self, step: int, batch_size: int) -> range:
        """Global sample numbers of this process at a step; all processes together go through every number once."""
        if batch_size % self.size:
            raise ConfigError(f"train.batch_size {batch_size} must be a multiple of the {self.size} processes")
        local = batch_size // self.size
        first = step * batch_size + self.rank * local
        return range(first, first + local)


SINGLE = World()
