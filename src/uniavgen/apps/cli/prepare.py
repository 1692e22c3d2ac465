"""`uniavgen prepare`: a data set to the features that training reads."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from uniavgen.data.extract import FeatureExtractor
    from uniavgen.timebase import ClipTiming

_ORDER_FILE = "features.json"
_HASHED_BYTES = 1 << 20


def prepare(
    data: Annotated[Path, typer.Option(help="Folder of shards (uniavgen synth), or of speech with an index.jsonl.")],
    out: Annotated[Path, typer.Option(help="Folder for the feature shards; a second run goes on where it stopped.")],
    model: Annotated[str, typer.Option(help="Preset or YAML file of the transformer's sizes.")] = "nano/model",
    parts: Annotated[
        Path | None,
        typer.Option(help="Model folder with vae, text_encoder and tokenizer; none for speech alone."),
    ] = None,
    num_frames: Annotated[int, typer.Option(help="Pixel frames a clip, 1 + 4n.")] = 81,
    device: Annotated[str, typer.Option(help="Where the codecs run: cpu, cuda, cuda:1 ...")] = "cpu",
    limit: Annotated[int | None, typer.Option(help="Take only the first so many clips.")] = None,
) -> None:
    """Encode every clip once: video latents, mel, face mask on the token grid, caption features."""
    from tqdm import tqdm

    from uniavgen.artifacts import record_settings
    from uniavgen.config import load
    from uniavgen.data.extract import empty_caption_parts
    from uniavgen.data.features import EMPTY_CAPTION
    from uniavgen.data.shards import ShardWriter
    from uniavgen.data.sources import open_source
    from uniavgen.errors import DataError
    from uniavgen.models.config import TransformerConfig

    settings = load(TransformerConfig, [model])
    timing = settings.timebase.clip(num_frames)
    source = open_source(data, timing)
    keys = source.keys[:limit]
    extract = _extractor(timing, settings.video.patch[1], parts, device)
    with ShardWriter(out) as writer:
        order = {"num_frames": num_frames, "patch": extract.patch, "codecs": _identity(parts)}
        settings_file = out / _ORDER_FILE
        if not writer.keys:
            settings_file.unlink(missing_ok=True)
        elif not settings_file.is_file():
            raise DataError(f"{out} holds shards but no {_ORDER_FILE}; name another --out or delete it")
        record_settings(settings_file, order)
        missing = [key for key in keys if key not in writer.keys]
        if extract.caption is not None and EMPTY_CAPTION not in writer.keys:
            writer.write(EMPTY_CAPTION, empty_caption_parts(extract.caption))
        bar = tqdm(missing, initial=len(keys) - len(missing), total=len(keys), unit="clip", desc="prepare")
        for key in bar:
            writer.write(key, extract(source.read(key)).to_parts())
    typer.echo(f"{len(keys)} clips are prepared in {out}")


def _identity(parts: Path | None) -> str:
    """Tells codecs apart by the size and the beginning of their weights."""
    digest = hashlib.sha256()
    names = ("vae", "text_encoder", "tokenizer")
    files = [] if parts is None else sorted(file for name in names for file in (parts / name).rglob("*.*"))
    for file in files:
        digest.update(f"{file.name} {file.stat().st_size}".encode())
        with file.open("rb") as content:
            digest.update(content.read(_HASHED_BYTES))
    return digest.hexdigest()


def _extractor(timing: "ClipTiming", patch: int, parts: Path | None, device: str) -> "FeatureExtractor":
    from uniavgen.data.extract import FeatureExtractor

    if parts is None:
        return FeatureExtractor(timing=timing, patch=patch)

    from uniavgen.codecs.video_vae import VideoCodec
    from uniavgen.workflows.load_codecs import load_codecs

    codecs = load_codecs(parts, device)
    return FeatureExtractor(timing=timing, patch=patch, video=VideoCodec(codecs.vae), caption=codecs.caption_encoder)
