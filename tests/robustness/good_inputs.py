"""Good inputs of every kind and the command lines that take them, as small as the commands allow."""

import json
import os
import shutil
import socket
import sys
import wave
from dataclasses import dataclass, field
from functools import partial
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
from data import clips  # noqa: E402
from data_engine import small_stages  # noqa: E402
from uniavgen.apps.cli import main  # noqa: E402
from uniavgen.data_engine.stages.loudness import LoudnessStage  # noqa: E402
from uniavgen.data_engine.stages.probe import ProbeStage  # noqa: E402
from uniavgen.data_engine.stages.shots import ShotsStage  # noqa: E402
from uniavgen.workflows import data_engine  # noqa: E402

STAGES = (*small_stages.STAGES, ProbeStage, ShotsStage, LoudnessStage)
"""Of the data engine: those that need no networks, and little ones that find segments in films of flashes and beeps."""

FRAMES = 9
SAMPLING = ["--steps", "1", "--guidance", "none", "--device", "cpu"]
# A signed manifest holds random numbers, so that only clips without one are the same bytes.
CLIP = ["--num-frames", str(FRAMES), "--no-mark", *SAMPLING]
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

    def set_up(self, command: Command, work: Path) -> None:
        """Copies what a command goes on with to `work/out`, where its own paths are those of the copy."""
        if command.setup is None or (work / "out").exists():
            return
        shutil.copytree(self.path(command.setup), work / "out")
        for index in (work / "out").rglob("work.json"):
            index.write_text(index.read_text().replace(str(self.path(command.setup)), str(work / "out")))

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
        good.set_up(command, work)
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
    # For the commands that are called in this process and in those forked from it.
    data_engine.StageSelection = partial(data_engine.StageSelection, stages=STAGES)
    good = GoodInputs(folder)
    builders.save_inputs(folder / "media")
    _write_media(folder / "media")
    builders.save_pipeline(folder / "model")
    _write_adapters(folder)
    (folder / "model.yaml").write_text(yaml.safe_dump(_transformer_settings()))
    rendered.write_shards(folder / "shards", 3)
    _write_recorded_speech(folder / "speech")
    _write_published_speech(folder)
    _write_films(folder)
    write_release(folder / "release" / "source")
    good.commands |= _generating() | _learning() | _measuring() | _engine()
    for name, target in MADE.items():
        if (setup := good.commands[name].setup) is not None:
            shutil.copytree(folder / setup, folder / target)
        argv = good.argv(good.commands[name])
        argv = [str(folder / target / word[4:]) if f"{word}/".startswith("out/") else word for word in argv]
        outcome = run_forked(lambda argv=argv: _run_and_list_modules(argv, folder / "modules.txt"), folder)
        if outcome.code != 0:
            raise SystemExit(f"the good command {name} ended with {outcome.code}: {argv}\n{outcome.output}")
        preload((folder / "modules.txt").read_text().split())
    two = good.argv(good.commands["train"])
    two[two.index("--out") + 1] = str(folder / "run-two")
    outcome = run_forked(lambda: in_two_processes(two), folder)
    if outcome.code != 0:
        raise SystemExit(f"training in two processes ended with {outcome.code}: {outcome.output}")
    return good


MADE = {
    "prepare": "features",
    "train": "run",
    "train-lora": "run-lora",
    "codec-vocoder": "codec-vocoder",
    "codec-video-vae": "codec-video-vae",
    "codec-caption": "codec-caption",
    "prompts": "set",
    "convert": "converted",
    "report": "report",
    "data-run": "scored",
    "data-pack": "packed",
}
"""Commands whose output others take, and its name."""


def in_two_processes(argv: list[str]) -> int:
    """Runs a command as each of two processes of one run and returns the exit code of the first that fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    other = os.fork()
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= dict.fromkeys(("RANK", "LOCAL_RANK"), "1" if other == 0 else "0")
    code = 1
    try:
        code = main(argv)
    finally:
        if other == 0:
            sys.stdout.flush()
            os._exit(code)
    return code or os.waitstatus_to_exitcode(os.waitpid(other, 0)[1])


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
        "fuse-trained": Command(("fuse", *model, "--lora", "{run-lora}", "--out", "out")),
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
        "train-resume-two": Command(
            (*stage, "-s", "train.steps=3", "--data", "{features}", "--resume", *out), setup="run-two"
        ),
        "train-init": Command((*stage, "--data", "{features}", "--init", "{run}", *out)),
        "train-lora": Command((*stage, "-s", "lora.rank=2", "--data", "{features}", "--init", "{run}", *out)),
        "train-lora-init": Command(
            (*stage, "-s", "lora.rank=2", "--data", "{features}", "--init", "{run}", "--init", "{run-lora}", *out)
        ),
        **codecs,
        **{
            f"{name}-again": Command((*command.words, "-s", "loop.steps=3"), setup=name)
            for name, command in codecs.items()
        },
        "export": Command(("export", "--transformer", "{run}", "--parts", "{model}", "--size", "32", *out)),
        "export-two": Command(("export", "--transformer", "{run-two}", "--parts", "{model}", "--size", "32", *out)),
        **{
            f"prepare-{name}": Command((*prepare, "--data", "{" + name + "}", "--num-frames", "17"))
            for name in ("ljspeech", "audiofolder", "librispeech", "libritts", "emilia")
        },
        "convert": Command(("convert", "{release/source}", "--vocab", "{release/vocab.txt}", *out)),
        "convert-dry": Command(("convert", "{release/source}", "--vocab", "{release/vocab.txt}", "--dry-run")),
    }


def _engine() -> dict[str, Command]:
    """Films to records, records to shards; a folder holds both."""
    work, shards = ["--work", "out/work"], ["--out", "out/shards"]
    pack = Command(
        ("data", "pack", *work, *shards, "--rules", "{rules.yaml}", "--num-frames", str(FRAMES)), setup="scored"
    )
    return {
        "data-run": Command(("data", "run", "{films}", *work)),
        "data-run-again": Command(("data", "run", "{films}", *work), setup="packed"),
        "data-pack": pack,
        "data-pack-again": Command(pack.words, setup="packed"),
        "data-forget": Command(("data", "forget", "{films/a.mp4}", *work, "--features", "{features}"), setup="packed"),
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


def _write_films(folder: Path) -> None:
    """Three films, what is known of their rights, and rules that keep them."""
    small_stages.write_film(folder / "films" / "a.mp4")
    small_stages.write_film(folder / "films" / "more" / "b.mp4", tone_hz=500, fps=30)
    small_stages.write_film(folder / "films" / "c.mov", tone_hz=700, grey=200)
    (folder / "films" / "sources.csv").write_text("file,licence,consent\na.mp4,CC-BY-4.0,yes\nx.mp4,,no\n")
    (folder / "films" / "c.json").write_text('{"licence": "CC0-1.0", "consent": true, "title": "C"}')
    rules = {"min_words": 1, "scores": {"sync": {"brightness": {"minimum": 1.0, "reason": "it is dark"}}}}
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))


def _write_published_speech(folder: Path) -> None:
    """Speech sets in the layouts in which they are published, and one in a tar file."""
    wav, flac = clips.wav(), clips.speech("flac")
    files: dict[str, bytes | str] = {
        "ljspeech/metadata.csv": "LJ-1|Dr. A|Doctor A\nLJ-2|Two|Two\n",
        "audiofolder/metadata.csv": 'file_name,text,speaker\na.flac,"One, two",ann\nb/b.flac,Three,ben\n',
        "librispeech/1/2/1-2.trans.txt": "1-2-0 ONE TWO\n1-2-1 THREE\n",
        "libritts/1/2/1_2_0.normalized.txt": "One.",
        "libritts/1/2/1_2_1.original.txt": "Two.",
    }
    files |= dict.fromkeys(("ljspeech/wavs/LJ-1.wav", "ljspeech/wavs/LJ-2.wav"), wav)
    files |= dict.fromkeys(("libritts/1/2/1_2_0.wav", "libritts/1/2/1_2_1.wav"), wav)
    files |= dict.fromkeys(("audiofolder/a.flac", "audiofolder/b/b.flac"), flac)
    files |= dict.fromkeys(("librispeech/1/2/1-2-0.flac", "librispeech/1/2/1-2-1.flac"), flac)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    members = {"a.wav": wav, "a.txt": b"One.", "b.mp3": clips.speech("mp3"), "b.json": clips.facts("Two.")}
    (folder / "emilia").mkdir()
    clips.write_tar(folder / "emilia" / "shard.tar", members)


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
