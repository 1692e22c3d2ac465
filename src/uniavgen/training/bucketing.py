"""Lays the clips of a run out in buckets, as its settings say."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from uniavgen.artifacts import atomic_file, not_written
from uniavgen.data.buckets import BucketRule, ClipBuckets, lengths_of, sizes_of
from uniavgen.data.features import FeatureSet
from uniavgen.errors import ConfigError
from uniavgen.training.config import TrainConfig

logger = logging.getLogger(__name__)


def bucket_clips(config: TrainConfig, sources: Sequence[FeatureSet], weights: Sequence[int]) -> ClipBuckets:
    """Returns the clips of feature sets in the buckets of the settings.

    Raises DataError where nothing of a set fits, ConfigError where a batch is larger than the data or smaller than a
    clip.
    """
    indexes = [source.index for source in sources]
    base, patch, with_video = config.model.timebase, config.model.video.patch, config.stage.branches == "both"
    num_clips = sum(map(len, sources))
    if num_clips and config.train.batch_tokens is None and config.train.batch_size > num_clips:
        raise ConfigError(f"train.batch_size is {config.train.batch_size}, the data has {num_clips} clips; lower it")
    rule = BucketRule(
        lengths=config.data.timings(base) or lengths_of(indexes, base, with_video),
        sizes=(config.data.latent_sizes or sizes_of(indexes)) if with_video else None,
    )
    return ClipBuckets(
        sources, weights, rule, lambda bucket: config.train.clips_of(bucket.num_tokens(patch)), config.train.seed
    )


def report_misfits(clips: ClipBuckets, path: Path) -> None:
    """Logs which clips fit no bucket, and lists them in a file, a line of JSON each; no file where all fit.

    Raises OutputError where the file cannot be written or removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise not_written(path, error) from error
    texts = [text for number in range(len(clips.sources)) if (text := clips.describe_misfits(number))]
    if not texts:
        return
    with atomic_file(path) as partial, partial.open("w") as file:
        for number, source in enumerate(clips.sources):
            for key, misfit in clips.misfit_keys(number):
                file.write(json.dumps({"folder": source.folder, "key": key, "reason": misfit.reason}) + "\n")
    for text in texts:
        logger.warning("%s; all are listed in %s", text, path)
