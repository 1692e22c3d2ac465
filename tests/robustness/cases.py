"""Cases of damaged inputs: a command line that succeeds on good inputs, and what is damaged in one of them."""

import os
import random
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from byte_damage import damaged_file, special_file
from damage import BY_ENDING, damaged_by_kind, damaged_yaml
from good_inputs import SMALL_CODECS, STAGES, GoodInputs, sets, variable
from oddities import FILE_NAMES, NUMBERS, PATHS, TEXTS, WORDS, YAML_ODDITIES


@dataclass(frozen=True)
class Case:
    """A command line with damaged inputs, in a folder of its own: inputs in `given`, outputs below `work`."""

    name: str
    damage: str
    argv: list[str]
    codes: tuple[int, ...] = (0, 2)
    keeps_output: bool = False
    """Whether a refusal may leave complete files in `work`, or others than before: training reads a sample when its
    step comes, and keeps the checkpoints of the steps before; the data engine keeps its records."""


class Maker:
    """Draws cases and writes their inputs."""

    def __init__(self, good: GoodInputs, rng: random.Random, folder: Path) -> None:
        self.good, self.rng = good, rng
        self.given, self.work = folder / "given", folder / "work"
        for each in (self.given, self.work, folder / "tmp"):
            each.mkdir(parents=True)

    def copy(self, name: str) -> Path:
        """Returns a copy of a good file or folder which may be damaged."""
        source, target = self.good.path(name), self.given / Path(name).name
        shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
        return target

    def case(
        self, name: str, damage: str, more: Iterable[str] = (), codes: tuple[int, ...] = (0, 2), **replaced: Path
    ) -> Case:
        """Returns the case of a good command with damaged inputs and more options."""
        command = self.good.commands[name]
        self.good.set_up(command, self.work)
        argv = [*self.good.argv(command, **replaced), *more]
        return Case(name, damage, argv, codes, keeps_output=name.startswith("data-"))

    def media(self) -> Case:
        """Returns a case with a damaged picture, sound or film."""
        images = ("face.png", "face.jpg", "face.webp", "face.gif", "face.bmp", "face.tiff")
        sounds = ("drive.wav", "drive.flac", "drive.ogg", "drive.mp3", "drive.m4a", "film.mp4", "film.mkv")
        films = (
            "film.mp4",
            "film.mkv",
            "film.mov",
            "film.ts",
            "film.avi",
            "film.webm",
            "film.gif",
            "long.mp4",
            "drive.wav",
        )
        slots = (
            *[(name, "media/face.png", images) for name in ("generate", "generate", "animate")],
            *[("animate", "media/drive.wav", sounds), ("generate-voice", "media/voice.wav", sounds)],
            *[(name, "media/film.mp4", films) for name in ("dub", "continue", "info")],
        )
        name, slot, files = self.rng.choice(slots)
        file = self.rng.choice(files)
        path = self.copy(f"media/{file}")
        what = damaged_file(self.rng, path)
        suffix = ["--out", "out/a" + self.rng.choice((".mp4", ".mov", ".mkv"))] if name != "info" else []
        return self.case(name, f"{file}: {what}", suffix, **{variable(slot): path})

    def models(self) -> Case:
        """Returns a case with a damaged model folder."""
        name = self.rng.choice(
            ("generate", "generate", "dub", "animate", "plan", "plan-vram", "export", "prepare", "evaluate")
        )
        return self._tree(name, "model")

    def checkpoints(self) -> Case:
        """Returns a case with a damaged checkpoint, run or stored result of an earlier run."""
        again = (
            "train-resume",
            "train-resume",
            "train-resume-two",
            "prepare-again",
            "report-again",
            *(f"codec-{each}-again" for each in SMALL_CODECS),
        )
        name = self.rng.choice((*again, "train-init", "export", "export-two"))
        if name in ("train-init", "export", "export-two"):
            return self._tree(name, "run-two" if name == "export-two" else "run")
        return self._resumed(name)

    def corpora(self) -> Case:
        """Returns a case with damaged sources, rights, records, rules or packed clips of the data engine."""
        name = self.rng.choice(
            ("data-run", "data-run", "data-run-again", "data-pack", "data-pack-again", "data-forget")
        )
        if name == "data-run":
            return self._tree(name, "films")
        if name == "data-pack" and self.rng.random() < 0.4:
            path = self.copy("rules.yaml")
            return self.case(name, f"rules.yaml: {damaged_by_kind(self.rng, path)}", rules_yaml=path)
        if name == "data-pack" and self.rng.random() < 0.5:
            # What was a film when it was scored is none any more.
            case, films = self.case(name, ""), self.copy("films")
            index = self.work / "out" / "work" / "work.json"
            index.write_text(index.read_text().replace(str(self.good.path("films")), str(films)))
            return replace(case, damage=self._damage_below(films))
        return self._resumed(name)

    def speech_sets(self) -> Case:
        """Returns a case with a damaged speech set, as it is published or in tar files."""
        name = self.rng.choice(("ljspeech", "audiofolder", "librispeech", "libritts", "emilia"))
        return self._tree(f"prepare-{name}", name)

    def shards(self) -> Case:
        """Returns a case with damaged shards, features or recorded speech."""
        name, source = self.rng.choice(
            (
                *[("prepare", "shards"), ("prepare", "shards"), ("prompts", "shards"), ("codec-vocoder", "shards")],
                *[
                    ("codec-video-vae", "shards"),
                    ("train", "features"),
                    ("train", "features"),
                    ("train-init", "features"),
                ],
                *[("prepare-speech", "speech"), ("prepare-speech", "speech")],
            )
        )
        return replace(self._tree(name, source), keeps_output=name.startswith("train"))

    def adapters(self) -> Case:
        """Returns a case with a damaged adapter, of peft or of musubi."""
        name = self.rng.choice(("generate-lora", "fuse", "train-lora-init", "fuse-trained"))
        own = ("run-lora",) if name in ("train-lora-init", "fuse-trained") else ("adapter", "style")
        return self._tree(name, self.rng.choice(own))

    def releases(self) -> Case:
        """Returns a case with a damaged source of `convert`."""
        name = self.rng.choice(("convert", "convert", "convert-dry"))
        if self.rng.random() < 0.15:
            path = self.copy("release/vocab.txt")
            return self.case(name, f"vocab.txt: {damaged_by_kind(self.rng, path)}", release_vocab_txt=path)
        return self._tree(name, "release/source")

    def prompts(self) -> Case:
        """Returns a case with a damaged set of prompts or clip that is measured."""
        name = self.rng.choice(("report", "report", "evaluate", "report-again"))
        folder = self.copy("set")
        if self.rng.random() < 0.6:
            what = f"prompts.jsonl: {damaged_by_kind(self.rng, folder / 'prompts.jsonl')}"
        else:
            what = self._damage_below(folder)
        return self.case(name, what, set_prompts_jsonl=folder / "prompts.jsonl", set_truth=folder / "truth")

    def settings(self) -> Case:
        """Returns a case with damaged settings, in a file or on the command line."""
        codecs = (f"codec-{each}" for each in SMALL_CODECS)
        name = self.rng.choice(("train", "train-lora", *codecs, "export", "prepare", "train-resume", *CORPUS_SETTINGS))
        if name == "prepare" or (name == "train" and self.rng.random() < 0.3):
            path = self.copy("model.yaml")
            return self.case(name, f"model.yaml: {damaged_by_kind(self.rng, path)}", model_yaml=path)
        config, leaves = _config_of(name)
        if name != "export" and self.rng.random() < 0.4:
            path = self.given / "settings.yaml"
            what, data = damaged_yaml(self.rng, yaml.safe_dump(config).encode())
            path.write_bytes(data)
            if self.rng.random() < 0.1:
                what = special_file(self.rng, path)
            return self.case(name, f"settings.yaml: {what}", [CORPUS_SETTINGS.get(name, "-c"), str(path)])
        key, value = self._setting(leaves)
        setting = _as_argument(f"{key}={value}")
        words = [f"--set={setting}"] if name in CORPUS_SETTINGS else sets([setting])
        return self.case(name, f"{key[:40]}={value[:40]!r}", words)

    def _setting(self, leaves: dict[str, object]) -> tuple[str, str]:
        key = self.rng.choice([*leaves])
        draw = self.rng.random()
        if draw < 0.1:
            near = (f"{key}.x", key.rpartition(".")[0], f"{key}.", f".{key}", key.upper())
            return self.rng.choice((*near, "", ".", "__class__", "a" * 5000, "extends")), "1"
        if isinstance(leaves[key], int | float) and draw < 0.7:
            # Work that is only long is no hang, and processes are no inputs to try in thousands.
            long = key.rpartition(".")[2] in ("steps", "workers", "num_captions")
            return key, self.rng.choice(("-1", "0", ".nan", "0.5", "x", "") if long else NUMBERS)
        return key, self.rng.choice((*YAML_ODDITIES, *NUMBERS))

    def options(self) -> Case:
        """Returns a case with an option that no one would give."""
        import typer

        from uniavgen.apps.cli import app

        name = self.rng.choice([*self.good.commands])
        group = typer.main.get_command(app)
        command = group
        for word in self.good.commands[name].words[: 2 if name.startswith("data-") else 1]:
            command = command.get_command(typer.Context(command), word)
        option = self.rng.choice(
            [each for each in command.params if each.opts[0].startswith("-") and each.name not in SKIPPED]
        )
        flag = option.opts[0]
        if getattr(option, "is_flag", False):
            return self.case(name, f"{flag}", [flag])
        kind = option.type_descriptor.annotation
        if kind in (int, float):
            long = option.name in ("steps", "clips", "utterances", "voices", "limit", "held_out_clips")
            value = self.rng.choice(("-1", "0", "x", "", "1.5", "nan") if long else NUMBERS)
        elif kind is Path or self.rng.random() < 0.3:
            value = self._odd_path()
        else:
            value = self.rng.choice((*TEXTS, *NUMBERS, *WORDS))
        value = _as_argument(value)
        words = [f"{flag}={value}"] if value.startswith("-") else [flag, value]
        return self.case(name, f"{flag} {value[:60]!r}", words)

    def texts(self) -> Case:
        """Returns a case with an odd text to say or to show."""
        name = self.rng.choice(("generate", "dub", "generate-voice", "continue", "animate"))
        flag = self.rng.choice(
            ("--speech", "--speech", "--caption", *(["--voice-text"] if name == "generate-voice" else []))
        )
        pieces = self.rng.sample(TEXTS, self.rng.choice((1, 1, 2)))
        if self.rng.random() < 0.4:
            letters = "0123456789.,:/$\u20ac%-+ ()'\"aAeEmMkKgGhHtTsSnNdDrR\u2013\u2026"
            pieces = ["".join(self.rng.choices(letters, k=self.rng.choice((1, 5, 20, 200))))]
        text = _as_argument(" ".join(pieces))
        more = ["--verbatim"] if self.rng.random() < 0.3 else []
        return self.case(name, f"{flag} {text[:60]!r}", [f"{flag}={text}", *more])

    def _odd_path(self) -> str:
        path = self.given / self.rng.choice(FILE_NAMES)
        if self.rng.random() < 0.6:
            return self.rng.choice(PATHS)
        if self.rng.random() < 0.6:
            special_file(self.rng, path)
        return str(path)

    def _resumed(self, name: str) -> Case:
        """Returns a case of a command that goes on with damaged files of its own."""
        case = self.case(name, "")
        return replace(case, damage=self._damage_below(self.work / "out"))

    def _tree(self, name: str, source: str) -> Case:
        folder = self.copy(source)
        what = self._damage_below(folder)
        # A model whose values are no numbers makes no clip. Export takes the codecs of a model only.
        unused = ("speech_tok", "transformer/") if name == "export" else ("speech_tok",)
        broken = (
            " NaN values" in what
            and name in ("generate", "dub", "export")
            and source == "model"
            and not any(part in what for part in unused)
        )
        return self.case(name, what, codes=(2,) if broken else (0, 2), **{variable(source): folder})

    def _damage_below(self, folder: Path) -> str:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        draw = self.rng.random()
        if draw < 0.03:
            return f"{folder.name}: {special_file(self.rng, folder)}"
        if draw < 0.08:
            path = self.rng.choice(sorted(path for path in folder.rglob("*") if path.is_dir()) or [folder])
            return f"{path.relative_to(folder)}: {special_file(self.rng, path)}"
        kinds = {path.suffix for path in files}
        suffix = self.rng.choice(sorted(kinds & {*BY_ENDING}) or sorted(kinds)) if draw < 0.6 else None
        path = self.rng.choice([path for path in files if suffix in (None, path.suffix)])
        if draw > 0.9:
            return f"{path.relative_to(folder)}: {special_file(self.rng, path)}"
        return f"{path.relative_to(folder)}: {damaged_by_kind(self.rng, path)}"


CORPUS_SETTINGS = {"data-run": "-c", "data-pack": "--rules"}
"""Commands of the data engine with settings, and the option that takes a file of them."""
SKIPPED = ("help", "jobs", "device", "compile")
"""Options that are not tried: thousands of processes are no input, and compiling takes minutes."""
FAMILIES: dict[str, Callable[[Maker], Case]] = {
    "media": Maker.media,
    "models": Maker.models,
    "checkpoints": Maker.checkpoints,
    "shards": Maker.shards,
    "adapters": Maker.adapters,
    "settings": Maker.settings,
    "prompts": Maker.prompts,
    "releases": Maker.releases,
    "options": Maker.options,
    "texts": Maker.texts,
    "corpora": Maker.corpora,
    "speech_sets": Maker.speech_sets,
}


def _config_of(name: str) -> tuple[dict, dict[str, object]]:
    """Returns the settings that a command takes and their leaves by key path."""
    from uniavgen.config import dump, load
    from uniavgen.data_engine.rules import Rules
    from uniavgen.inference.sampling_config import SamplingConfig
    from uniavgen.training.codecs.caption import CaptionTrainConfig
    from uniavgen.training.codecs.video_vae import VideoVAETrainConfig
    from uniavgen.training.codecs.vocoder import VocoderTrainConfig
    from uniavgen.training.config import TrainConfig

    classes = {
        "codec-vocoder": (VocoderTrainConfig, "nano/vocoder"),
        "codec-video-vae": (VideoVAETrainConfig, "nano/video_vae"),
        "codec-caption": (CaptionTrainConfig, "nano/caption"),
        "export": (SamplingConfig, None),
        "data-pack": (Rules, "data/rules"),
    }
    if name == "data-run":
        config = {stage.name: dump(stage.settings_class()) for stage in STAGES}
        return config, dict(_leaves(config))
    cls, preset = classes.get(name, (TrainConfig, "nano/stage3"))
    config = dump(load(cls, [preset] if preset else []))
    return config, dict(_leaves(config))


def _leaves(tree: dict, path: str = "") -> Iterable[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _as_argument(text: str) -> str:
    """Returns a text as an operating system passes it: without zeros, and what is not Unicode as escaped bytes."""
    return os.fsdecode(text.replace("\0", "").encode("utf-8", "surrogatepass").replace(b"\xed\xb3\xbf", b"\xff"))
