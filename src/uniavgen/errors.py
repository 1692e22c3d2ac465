"""The errors a user can cause. Their text is one sentence: what came, what was expected, how to mend it.

The command line shows them without a traceback and exits with code 2.
"""


class UniAVGenError(Exception):
    """Base of every error that a user can mend."""


class ConfigError(UniAVGenError):
    """A preset, an override or an option does not make sense."""


class MediaError(UniAVGenError):
    """A picture, a sound or a video cannot be used."""


class OutputError(UniAVGenError):
    """A file or folder cannot be written."""


class CheckpointError(UniAVGenError):
    """Weights are missing, damaged, or belong to something else."""


class TrainingError(UniAVGenError):
    """A training run cannot go on."""


class DataError(UniAVGenError):
    """A data set, a shard or a sample is damaged or does not fit."""


class DamagedClipError(DataError):
    """A clip of a data set is not what was written; training takes another one in its place."""
