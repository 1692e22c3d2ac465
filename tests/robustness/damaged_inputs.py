"""Gives every command damaged inputs and checks how it ends. A thousand cases take minutes:

    python tests/robustness/damaged_inputs.py --count 1000 --seed 1
    python tests/robustness/damaged_inputs.py --seed 1 --case 17 --keep case17
    python tests/robustness/damaged_inputs.py --only media,shards

A case passes where the command succeeds or ends with exit code 2 and one sentence, without a traceback and in time;
where it refuses, nothing new is left, and the inputs are as before. Case n of a seed is always the same.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from byte_damage import damaged_file, special_file
from damage import BY_ENDING, damaged_by_kind, damaged_yaml
from forked import Outcome, files_below, run_forked, sentences
from good_inputs import SMALL_CODECS, GoodInputs, check_commands, main, make_good_inputs, sets, variable
from oddities import FILE_NAMES, NUMBERS, PATHS, TEXTS, WORDS, YAML_ODDITIES

MEMORY_BYTES = 3 * 2**30
"""That a command on inputs of a few kilobytes may take."""
MAX_SENTENCE = 3000
TEMPORARY = (".partial", ".lock", ".replaced", ".tmp")


@dataclass(frozen=True)
class Case:
    """A command line with damaged inputs, in a folder of its own: inputs in `given`, outputs below `work`."""

    name: str
    damage: str
    argv: list[str]
    codes: tuple[int, ...] = (0, 2)
    keeps_output: bool = False
    """Whether a refusal may leave complete files in `work`: training reads a sample when its step comes, and keeps the
    checkpoints of the steps before."""


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
        if command.setup is not None and not (self.work / "out").exists():
            shutil.copytree(self.good.path(command.setup), self.work / "out")
        return Case(name, damage, [*self.good.argv(command, **replaced), *more], codes)

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
            "prepare-again",
            "report-again",
            *(f"codec-{each}-again" for each in SMALL_CODECS),
        )
        name = self.rng.choice((*again, "train-init", "export"))
        if name in ("train-init", "export"):
            return self._tree(name, "run")
        case = self.case(name, "")
        return Case(name, self._damage_below(self.work / "out"), case.argv)

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
        return self._tree(self.rng.choice(("generate-lora", "fuse")), self.rng.choice(("adapter", "style")))

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
        name = self.rng.choice(("train", "train", *codecs, "export", "prepare", "train-resume"))
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
            return self.case(name, f"settings.yaml: {what}", ["-c", str(path)])
        key, value = self._setting(leaves)
        return self.case(name, f"{key[:40]}={value[:40]!r}", sets([f"{key}={value}"]))

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
        command = group.get_command(typer.Context(group), self.good.commands[name].words[0])
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
}


def _config_of(name: str) -> tuple[dict, dict[str, object]]:
    """Returns the settings that a command takes and their leaves by key path."""
    from uniavgen.config import dump, load
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
    }
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


def check(outcome: Outcome, case: Case, before: dict[str, str], after: dict[str, str], given: Path) -> list[str]:
    """Returns what is wrong with how a command ended."""
    wrong = []
    if outcome.code is None:
        return [f"it hung: {outcome.seconds:.0f} s"]
    if outcome.code not in case.codes:
        wrong.append(f"exit code {outcome.code}, expected {' or '.join(map(str, case.codes))}")
    if "Traceback" in outcome.output:
        wrong.append("a traceback")
    if outcome.code == 2:
        printed = sentences(outcome.output)
        if len(printed) != 1:
            wrong.append(f"{len(printed)} sentences")
        elif len(printed[0]) > MAX_SENTENCE:
            wrong.append(f"a sentence of {len(printed[0])} letters")
    if outcome.peak_bytes > MEMORY_BYTES:
        wrong.append(f"{outcome.peak_bytes / 2**30:.1f} GB of memory")
    new = sorted({*after} - {*before})
    left = (
        new
        if outcome.code == 2 and not case.keeps_output
        else [
            name
            for name in new
            if name.endswith(TEMPORARY) or "code_was_run" in name or name.startswith(f"{given.parent}/tmp/")
        ]
    )
    if left:
        wrong.append(f"left: {', '.join(Path(name).name for name in left[:4])}")
    changed = [
        name
        for name, content in before.items()
        if after.get(name) != content and (outcome.code == 2 or name.startswith(str(given)))
    ]
    if changed:
        wrong.append(f"changed: {', '.join(Path(name).name for name in changed[:4])}")
    return wrong


def run_case(
    good: GoodInputs, seed: int, number: int, families: list[str], folder: Path
) -> tuple[Case, Outcome, list[str]]:
    """Makes case `number` of a seed in `folder`, runs it and returns what is wrong."""
    rng = random.Random(f"{seed}/{number}")
    maker = Maker(good, rng, folder)
    case = FAMILIES[families[number % len(families)]](maker)
    before = files_below(folder)

    def work() -> int:
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
        return main(case.argv)

    outcome = run_forked(work, maker.work)
    return case, outcome, check(outcome, case, before, files_below(folder), maker.given)


def command_line() -> None:
    """Runs the cases that the command line asks for and exits with 1 where one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="only this one")
    parser.add_argument("--only", default=",".join(FAMILIES), help="kinds of inputs, by commas")
    parser.add_argument("--keep", type=Path, help="folder for the inputs of the cases that fail")
    chosen = parser.parse_args()
    families, failed, total = chosen.only.split(","), 0, Counter()
    with tempfile.TemporaryDirectory(prefix="damaged-") as temporary:
        good = make_good_inputs(Path(temporary) / "good")
        check_commands(good, Path(temporary))
        before = files_below(good.folder)
        for number in range(chosen.count) if chosen.case is None else [chosen.case]:
            folder = Path(temporary) / f"case{number}"
            case, outcome, wrong = run_case(good, chosen.seed, number, families, folder)
            total[families[number % len(families)], "failed" if wrong else str(outcome.code)] += 1
            if wrong or chosen.case is not None:
                failed += bool(wrong)
                report(number, case, outcome, wrong, temporary)
            if wrong and chosen.keep is not None:
                shutil.copytree(folder, chosen.keep / folder.name, symlinks=True, ignore=_special)
            _remove(folder)
        if files_below(good.folder) != before:
            raise SystemExit("inputs that several cases share have changed")
    for (family, end), count in sorted(total.items()):
        print(f"{family:12} {end:8} {count}")
    print(f"{failed} of {sum(total.values())} failed (seed {chosen.seed})")
    raise SystemExit(failed > 0)


def report(number: int, case: Case, outcome: Outcome, wrong: list[str], folder: str) -> None:
    """Prints a case."""
    last = [line for line in outcome.output.replace("\r", "\n").splitlines() if line.strip()][-1:]
    frames = [line.strip() for line in outcome.output.splitlines() if line.startswith('  File "')]
    frames = frames[-1:] if outcome.code is not None else frames
    print(
        f"#{number} {case.name} | {case.damage[:200]} | {'; '.join(wrong)} | {outcome.code} in {outcome.seconds:.1f} s"
    )
    print(f"    {' '.join(word.replace(folder, '') for word in case.argv)[:300]!r}")
    for line in (*frames, *last):
        print(f"    {line.replace(folder, '')[:400]}")
    sys.stdout.flush()


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _special(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not (Path(folder) / name).is_file() and not (Path(folder) / name).is_dir()]


if __name__ == "__main__":
    command_line()
