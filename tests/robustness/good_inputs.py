"""Good inputs of every kind and the command lines that take them, as small as the commands allow."""

import json
import shutil
import sys
import wave
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "checkpoint")]

from forked import preload, run_forked  # noqa: E402
from made_up import write_release  # noqa: E402

from apps import builders, rendered  # noqa: E402
from uniavgen.apps.cli import main  # noqa: E402

FRAMES = 9
SAMPLING = ["--steps", "1", "--guidance", "none", "--device", "cpu"]
CLIP = ["--num-frames", str(FRAMES), *SAMPLING]
SMALL_STAGE = [
    "train.steps=2",
    "train.batch_size=2",
    "train.precision=fp32",
    "train.compile=false",
    "train.checkpoint_every=1",
    f"data.num_frames={FRAMES}",
    "optim.warmup_steps=1",
    "stage.tasks.reference_s=[0.2,0.3]",
    "stage.losses={face_mask: {start: 0.1, end: 0.0}}",
]
SMALL_CODECS = {
    "vocoder": [
        "model.width=8",
        "model.hidden=8",
        "model.num_layers=1",
        "batch_size=1",
        "discriminator.start=1.0",
        "held_out=0",
    ],
    "video-vae": [
        "model={width: 4, decoder_width: 6, latent_channels: 4, width_factors: [1, 1], temporal_levels: [true]}",
        "phases=[{share: 1.0, num_frames: 1, batch_size: 1}]",
        "size_px=32",
    ],
    "caption": ["model={width: 8, hidden: 9, num_layers: 1, num_heads: 1}", "num_captions=50", "batch_size=4"],
}
LOOP = ["loop.steps=2", "loop.warmup_steps=1", "loop.save_every=1"]


@dataclass(frozen=True)
class Command:
    """A command line that succeeds. Files of `GoodInputs` stand in it as their names in braces."""

    words: tuple[str, ...]
    setup: str | None = None
    """A folder of `GoodInputs` that is copied to `out` first, for commands that go on with something."""


@dataclass
class GoodInputs:
    """Files and folders by name, all below `folder`, and commands by name."""

    folder: Path
    commands: dict[str, Command] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """Returns the file or folder of a name."""
        return self.folder / name

    def argv(self, command: Command, **replaced: Path) -> list[str]:
        """Returns the words with paths for names; `replaced` holds damaged copies (dots and slashes as `_`)."""
        words = []
        for word in command.words:
            while "{" in word and "}" in word and (name := word[word.index("{") + 1 : word.index("}")]):
                if not (self.folder / name).exists():
                    break
                path = replaced.get(variable(name), self.folder / name)
                word = word.replace("{" + name + "}", str(path))
            words.append(word)
        return words


def variable(name: str) -> str:
    """Returns the keyword of `GoodInputs.argv` for a file."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def check_commands(good: GoodInputs, folder: Path) -> None:
    """Checks that every command succeeds on good inputs; else all that its damaged inputs show is nothing."""
    for name, command in good.commands.items():
        work = folder / f"good-{name}"
        work.mkdir(parents=True)
        if command.setup is not None:
            shutil.copytree(good.path(command.setup), work / "out")
        argv = good.argv(command)
        outcome = run_forked(lambda argv=argv: main(argv), work)
        if outcome.code != 0:
            raise SystemExit(f"the good command {name} ended with {outcome.code}: {outcome.output[-2000:]}")
        shutil.rmtree(work)


def sets(settings: list[str]) -> list[str]:
    """Returns `-s` words."""
    return [word for setting in settings for word in ("-s", setting)]


def make_good_inputs(folder: Path) -> GoodInputs:
    """Writes every input, the derived ones with the commands themselves, and imports what the commands import."""
    good = GoodInputs(folder)
    builders.save_inputs(folder / "media")
    _write_media(folder / "media")
    builders.save_pipeline(folder / "model")
    _write_adapters(folder)
    (folder / "model.yaml").write_text(yaml.safe_dump(_transformer_settings()))
    rendered.write_shards(folder / "shards", 3)
    _write_recorded_speech(folder / "speech")
    write_release(folder / "release" / "source")
    good.commands |= _generating() | _learning() | _measuring()
    for name in (
        "prepare",
        "train",
        "codec-vocoder",
        "codec-video-vae",
        "codec-caption",
        "prompts",
        "convert",
        "report",
    ):
        target = {"prepare": "features", "train": "run", "prompts": "set", "convert": "converted"}.get(name, name)
        argv = good.argv(good.commands[name])
        argv[argv.index("--out") + 1] = str(folder / target)
        outcome = run_forked(lambda argv=argv: _run_and_list_modules(argv, folder / "modules.txt"), folder)
        if outcome.code != 0:
            raise SystemExit(f"the good command {name} ended with {outcome.code}: {argv}\n{outcome.output}")
        preload((folder / "modules.txt").read_text().split())
    return good


def _run_and_list_modules(argv: list[str], file: Path) -> int:
    code = main(argv)
    file.write_text("\n".join(sys.modules))
    return code


def _generating() -> dict[str, Command]:
    model = ["--model", "{model}"]
    out = ["--out", "out/a.mp4"]
    image, speech = ["--image", "{media/face.png}"], ["--speech", "Hi"]
    voice = ["--voice", "{media/voice.wav}", "--voice-text", "Ha"]
    lora = ["--lora", "{adapter}", "--lora", "{style}:-0.5"]
    return {
        "generate": Command(("generate", *image, *speech, *model, *CLIP, *out)),
        "generate-voice": Command(("generate", *image, *speech, *voice, *model, *CLIP, *out)),
        "dub": Command(("dub", "{media/film.mp4}", *speech, *model, *CLIP, *out)),
        "animate": Command(("animate", *image, "--audio", "{media/drive.wav}", *model, *CLIP, *out)),
        "continue": Command(("continue", "{media/film.mp4}", *speech, "--keep", "0.2", *model, *CLIP, *out)),
        "generate-lora": Command(("generate", *image, *speech, *model, *lora, *CLIP, *out)),
        "fuse": Command(("fuse", *model, *lora, "--out", "out")),
        "info": Command(("info", "{media/film.mp4}")),
        "plan": Command(("plan", *model, "--num-frames", str(FRAMES))),
        "plan-vram": Command(("plan", *model, "--vram", "1", "--json")),
    }


def _learning() -> dict[str, Command]:
    out = ["--out", "out"]
    stage = ["train", "-c", "nano/stage3", "-s", "model={model.yaml}", *sets(SMALL_STAGE), "--device", "cpu"]
    prepare = ["prepare", "--model", "{model.yaml}", "--num-frames", str(FRAMES), *out]
    codecs = {
        f"codec-{name}": Command(
            (
                "train-codec",
                name,
                *sets([*LOOP, *settings]),
                *([] if name == "caption" else ["--data", "{shards}"]),
                *out,
            )
        )
        for name, settings in SMALL_CODECS.items()
    }
    return {
        "prepare": Command((*prepare, "--data", "{shards}", "--parts", "{model}")),
        "prepare-speech": Command((*prepare, "--data", "{speech}", "--num-frames", "33")),
        "prepare-again": Command((*prepare, "--data", "{shards}", "--parts", "{model}"), setup="features"),
        "train": Command((*stage, "--data", "{features}", *out)),
        "train-resume": Command((*stage, "-s", "train.steps=3", "--data", "{features}", "--resume", *out), setup="run"),
        "train-init": Command((*stage, "--data", "{features}", "--init", "{run}", *out)),
        **codecs,
        **{
            f"{name}-again": Command((*command.words, "-s", "loop.steps=3"), setup=name)
            for name, command in codecs.items()
        },
        "export": Command(("export", "--transformer", "{run}", "--parts", "{model}", "--size", "32", *out)),
        "convert": Command(("convert", "{release/source}", "--vocab", "{release/vocab.txt}", *out)),
        "convert-dry": Command(("convert", "{release/source}", "--vocab", "{release/vocab.txt}", "--dry-run")),
    }


def _measuring() -> dict[str, Command]:
    window = ["--num-frames", "17", *SAMPLING]
    evaluate = ["evaluate", "--prompts", "{set/prompts.jsonl}", "--metrics", "truth,motion", "--out", "out"]
    world = ["synth", "--clips", "2", "--source", "made", "--speech", "{speech}", "--sound-only", "--out", "out"]
    return {
        "prompts": Command(("prompts", "shards", "--data", "{shards}", "--out", "out")),
        "report": Command((*evaluate, "mine={set/truth}")),
        "report-again": Command((*evaluate, "mine={set/truth}"), setup="report"),
        "evaluate": Command((*evaluate, "--generate", "{model}", "--task", "joint,animation", *window)),
        **({"synth": Command(tuple(world))} if _has_heads() else {}),
    }


def _has_heads() -> bool:
    from uniavgen.errors import DataError
    from uniavgen.synth.assets import find_heads

    try:
        find_heads()
    except DataError:
        return False
    return True


def _transformer_settings() -> dict:
    from uniavgen.config import dump, parse
    from uniavgen.models.config import TransformerConfig

    return dump(parse(TransformerConfig, builders._TRANSFORMER))


def _write_adapters(folder: Path) -> None:
    """Adds an adapter as peft writes it for diffusers' model, and one as musubi does; their layers are square."""
    width = _transformer_settings()["video"]["num_heads"] * _transformer_settings()["video"]["head_dim"]
    for name in ("adapter", "style"):
        (folder / name).mkdir()
    stem = "base_model.model.blocks.0.attn1.to_q"
    pair = {f"{stem}.lora_A.weight": torch.ones(2, width), f"{stem}.lora_B.weight": torch.ones(width, 2)}
    save_file(pair, folder / "adapter" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 3, "alpha_pattern": {"to_q": 1.5}, "use_rslora": False}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    stem = "lora_unet_blocks_1_self_attn_v"
    pair = {f"{stem}.lora_down.weight": torch.ones(2, width), f"{stem}.lora_up.weight": torch.ones(width, 2)}
    save_file(pair | {f"{stem}.alpha": torch.tensor(1.0)}, folder / "style" / "style.safetensors")


def _write_media(folder: Path) -> None:
    """Adds the same picture, sound and film in other formats."""
    import av

    picture = Image.open(folder / "face.png")
    for name in ("face.jpg", "face.webp", "face.gif", "face.bmp", "face.tiff"):
        picture.save(folder / name)
    frames, waveform = builders.film(FRAMES), builders.sound(FRAMES / 16)
    films = {"film.mkv": ("libx264", "aac"), "film.mov": ("libx264", "pcm_s16le"), "film.ts": ("libx264", "aac")}
    films |= {"film.avi": ("mpeg4", "mp3"), "film.webm": ("libvpx-vp9", "libopus"), "film.gif": ("gif", "")}
    films |= {
        "drive.flac": ("", "flac"),
        "drive.ogg": ("", "libopus"),
        "drive.mp3": ("", "mp3"),
        "drive.m4a": ("", "aac"),
    }
    for name, (video_codec, audio_codec) in films.items():
        with av.open(str(folder / name), "w") as out:
            tracks = []
            if video_codec:
                track = out.add_stream(video_codec, rate=16)
                track.width, track.height = 64, 48
                track.pix_fmt = "rgb8" if video_codec == "gif" else "yuv420p"
                tracks.append((track, [av.VideoFrame.from_ndarray(each) for each in frames]))
            if audio_codec:
                rate = 48_000 if audio_codec == "libopus" else 24_000
                track = out.add_stream(audio_codec, rate=rate, layout="mono")
                samples = np.interp(
                    np.arange(len(waveform) * rate // 24_000) * 24_000 / rate, np.arange(len(waveform)), waveform
                )
                frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], "s16", "mono")
                frame.sample_rate = rate
                tracks.append((track, [frame]))
            for track, content in tracks:
                for frame in content:
                    out.mux(track.encode(frame))
                out.mux(track.encode(None))


def _write_recorded_speech(folder: Path) -> None:
    """Four utterances of two voices."""
    (folder / "opus").mkdir(parents=True)
    entries = []
    for number, seconds in enumerate((1.0, 2.0, 3.0, 1.5)):
        phones = [["s", 0.1, 0.4], ["oU", 0.4, 0.5], [" ", 0.5, 0.6], ["h", 0.6, seconds - 0.2]]
        entry = {"id": f"u{number}", "text": "so high", "voice": f"v{number % 2}", "gender": "female"}
        entries.append({**entry, "seconds": seconds, "phones": phones})
        sound = np.random.default_rng(number).normal(0, 3000, int(seconds * 24_000)).astype("<i2")
        with (folder / "opus" / f"u{number}.opus").open("wb") as file, wave.open(file) as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(24_000)
            out.writeframes(sound.tobytes())
    (folder / "index.jsonl").write_text("\n".join(json.dumps(entry) for entry in entries) + "\n")
