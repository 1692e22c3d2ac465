"""`uniavgen train-codec`: the frozen parts that every stage of training needs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Codec(StrEnum):
    """Which codec."""

    VIDEO_VAE = "video-vae"
    VOCODER = "vocoder"
    CAPTION = "caption"


def train_codec(
    codec: Annotated[Codec, typer.Argument(help="Which part.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights; a second run goes on where it stopped.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of shards (uniavgen synth); for the vocoder sound files do. Captions need none."),
    ] = None,
    init: Annotated[
        Path | None, typer.Option(help="Model folder whose video autoencoder is gone on with; video-vae only.")
    ] = None,
    config: Annotated[str, typer.Option("--config", "-c", help="Preset or YAML file; nano's if left out.")] = "",
    settings: Annotated[list[str] | None, typer.Option("--set", "-s", help="key.path=value, repeatable.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
) -> None:
    """Train a video autoencoder, a vocoder or a caption encoder."""
    import torch

    from uniavgen.errors import ConfigError

    if data is None and codec is not Codec.CAPTION:
        raise ConfigError(f"the {codec.value} is trained on data, none given; add --data with a folder of shards")
    if init is not None and codec is not Codec.VIDEO_VAE:
        raise ConfigError(f"--init is for the video-vae; the {codec.value} begins anew, leave --init out")
    from uniavgen.apps.cli.training_progress import training_progress
    from uniavgen.config import load
    from uniavgen.training.codecs.caption import CaptionTrainConfig
    from uniavgen.training.codecs.video_vae import VideoVAETrainConfig
    from uniavgen.training.codecs.vocoder import VocoderTrainConfig
    from uniavgen.workflows.train_codec import train_caption_encoder, train_video_vae, train_vocoder

    classes = {
        Codec.VIDEO_VAE: VideoVAETrainConfig,
        Codec.VOCODER: VocoderTrainConfig,
        Codec.CAPTION: CaptionTrainConfig,
    }
    chosen = load(classes[codec], [config or f"nano/{codec.value.replace('-', '_')}"], settings or [])
    where = torch.device(device)
    with training_progress(chosen.loop.steps) as progress:
        match chosen:
            case VideoVAETrainConfig():
                train_video_vae(chosen, data or Path(), out, where, init=init, callbacks=(progress,))
            case VocoderTrainConfig():
                train_vocoder(chosen, data or Path(), out, where, callbacks=(progress,))
            case CaptionTrainConfig():
                train_caption_encoder(chosen, data, out, where, callbacks=(progress,))
    typer.echo(f"the trained {codec.value} is in {out}")
