"""`uniavgen train-codec`: the frozen parts that every stage of training needs."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch

    from uniavgen.training.codecs.loop import LoopConfig, Objective


class Codec(StrEnum):
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
    name = config or f"nano/{codec.value.replace('-', '_')}"
    place = torch.device(device)
    match codec:
        case Codec.VIDEO_VAE:
            _video_vae(name, settings or [], data or Path(), init, out, place)
        case Codec.VOCODER:
            _vocoder(name, settings or [], data or Path(), out, place)
        case Codec.CAPTION:
            _caption(name, settings or [], data, out, place)
    typer.echo(f"the trained {codec.value} is in {out}")


def _video_vae(
    name: str, settings: list[str], data: Path, init: Path | None, out: Path, device: "torch.device"
) -> None:
    from uniavgen.config import load
    from uniavgen.training.codecs.video_vae import VideoVAEObjective, VideoVAETrainConfig, store_latent_statistics
    from uniavgen.workflows.load_codecs import load_video_vae

    config = load(VideoVAETrainConfig, [name], settings)
    objective = VideoVAEObjective.from_folder(config, data, device, None if init is None else load_video_vae(init))
    _run(objective, config.loop, out / "run" / Codec.VIDEO_VAE)
    if init is None:
        store_latent_statistics(objective.model, objective.pictures)
    objective.model.save_pretrained(out / "vae")


def _vocoder(name: str, settings: list[str], data: Path, out: Path, device: "torch.device") -> None:
    from uniavgen.config import load
    from uniavgen.training.codecs.vocoder import VocoderObjective, VocoderTrainConfig

    config = load(VocoderTrainConfig, [name], settings)
    objective = VocoderObjective.from_folder(config, data, device)
    _run(objective, config.loop, out / "run" / Codec.VOCODER)
    objective.vocoder.save_pretrained(out / "vocoder")


def _caption(name: str, settings: list[str], data: Path | None, out: Path, device: "torch.device") -> None:
    from uniavgen.config import load
    from uniavgen.training.codecs.caption import (
        CaptionObjective,
        CaptionTrainConfig,
        read_caption_examples,
        synthetic_caption_examples,
    )

    config = load(CaptionTrainConfig, [name], settings)
    if data is None:
        examples = synthetic_caption_examples(config.num_captions, config.loop.seed)
    else:
        examples = read_caption_examples(data, config.bounds)
    objective = CaptionObjective(config, examples, device)
    _run(objective, config.loop, out / "run" / Codec.CAPTION)
    objective.encoder.save_pretrained(out / "text_encoder")
    objective.tokenizer.save_pretrained(out / "tokenizer")


def _run(objective: "Objective", config: "LoopConfig", folder: Path) -> None:
    """Train in a folder of the codec's own, so that all codecs may share one --out."""
    from tqdm import tqdm

    from uniavgen.training.codecs.loop import train

    with tqdm(total=config.steps, unit="step") as bar:
        for record in train(objective, config, folder):
            bar.update(record.step - bar.n)
            bar.set_postfix({loss: f"{value:.3g}" for loss, value in record.losses.items()}, refresh=False)
