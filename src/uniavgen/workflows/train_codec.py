"""Training the codecs that every stage needs: video autoencoder, vocoder, caption encoder."""

from collections.abc import Iterable
from pathlib import Path

import torch

from uniavgen.artifacts import atomic_folder, exclusive_output
from uniavgen.training.codecs.caption import (
    CaptionObjective,
    CaptionTrainConfig,
    read_caption_examples,
    synthetic_caption_examples,
)
from uniavgen.training.codecs.run import train_codec
from uniavgen.training.codecs.video_vae import VideoVAEObjective, VideoVAETrainConfig, store_latent_statistics
from uniavgen.training.codecs.vocoder import VocoderObjective, VocoderTrainConfig
from uniavgen.training.loop import Callback
from uniavgen.workflows.load_codecs import load_video_vae


def train_video_vae(
    config: VideoVAETrainConfig,
    data: Path,
    out: Path,
    device: torch.device,
    *,
    init: Path | None = None,
    callbacks: Iterable[Callback] = (),
) -> None:
    """Trains a video autoencoder, new or from the model folder `init`, and writes it to `out`/vae."""
    with exclusive_output(out / "vae"):
        initial = None if init is None else load_video_vae(init)
        objective = VideoVAEObjective.from_folder(config, data, device, initial)
        train_codec(objective, config.loop, out / "run" / "video-vae", callbacks)
        # Latents that a transformer knows already keep their normalisation.
        if initial is None:
            store_latent_statistics(objective.model, objective.clips)
        with atomic_folder(out / "vae") as partial:
            objective.model.save_pretrained(partial)


def train_vocoder(
    config: VocoderTrainConfig, data: Path, out: Path, device: torch.device, *, callbacks: Iterable[Callback] = ()
) -> None:
    """Trains a vocoder and writes it to `out`/vocoder."""
    with exclusive_output(out / "vocoder"):
        objective = VocoderObjective.from_folder(config, data, device)
        train_codec(objective, config.loop, out / "run" / "vocoder", callbacks)
        with atomic_folder(out / "vocoder") as partial:
            objective.vocoder.save_pretrained(partial)


def train_caption_encoder(
    config: CaptionTrainConfig,
    data: Path | None,
    out: Path,
    device: torch.device,
    *,
    callbacks: Iterable[Callback] = (),
) -> None:
    """Trains a caption encoder and writes it to `out`/text_encoder and `out`/tokenizer.

    data: folder of shards with captions; None for captions of the synthetic world.
    """
    with exclusive_output(out / "text_encoder"):
        if data is None:
            examples = synthetic_caption_examples(config.num_captions, config.loop.seed)
        else:
            examples = read_caption_examples(data, config.bounds)
        objective = CaptionObjective(config, examples, device)
        train_codec(objective, config.loop, out / "run" / "caption", callbacks)
        with atomic_folder(out / "text_encoder") as partial:
            objective.encoder.save_pretrained(partial)
        with atomic_folder(out / "tokenizer") as partial:
            objective.tokenizer.save_pretrained(partial)
