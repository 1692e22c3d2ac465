"""Persons who stay out of clips whatever video they are in, because somebody asked for it by `data forget --block`.

They can be known only by their voice and face, so one embedding of each is kept: `WORK/blocked.npz`, biometric data
that serves nothing else. Without `--block` nothing of this kind is kept.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from uniavgen.artifacts import atomic_file, check_regular_file, decode_npz, first_line, parse_json, path_exists
from uniavgen.data_engine.candidates import SEGMENTS, Candidate
from uniavgen.data_engine.corpus import EMBEDDING, FACE, VOICE
from uniavgen.data_engine.rights import Rights
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import StageOutput
from uniavgen.data_engine.work_folder import WorkFolder
from uniavgen.errors import DataError

_FILE: Final = "blocked.npz"
_FACTS: Final = "facts"


def block_person(work: WorkFolder, name: str, candidates: Sequence[Candidate]) -> None:
    """Keeps a person out of later clips. candidates: all of this person.

    Raises DataError where neither voice nor face of the person was measured.
    """
    known = {stage: _mean(stage, candidates) for stage in (VOICE, FACE)}
    known = {stage: mean for stage, mean in known.items() if mean is not None}
    if not known:
        raise DataError(f"{name} cannot be kept out: neither voice nor face was measured; run `{VOICE}` or `{FACE}`")
    people = {each["name"]: each for each in _people(work)}
    people[name] = {"name": name, "digests": {stage: work.digests[stage] for stage in known}, **known}
    facts = [{"name": each["name"], "digests": each["digests"]} for each in people.values()]
    arrays = {
        f"{number}.{stage}": each[stage] for number, each in enumerate(people.values()) for stage in each["digests"]
    }
    with atomic_file(work.folder / _FILE) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **{_FACTS: np.frombuffer(json.dumps({"people": facts}).encode(), np.uint8)}, **arrays)


def blocked_candidates(work: WorkFolder) -> list[Candidate]:
    """Returns a candidate for each blocked person, to be grouped with those of the sources.

    Raises DataError where voices or faces are measured otherwise than when a person was blocked, since nobody would be
    known again.
    """
    candidates = []
    for number, person in enumerate(_people(work)):
        for stage, digest in person["digests"].items():
            if work.digests.get(stage) != digest:
                raise DataError(
                    f"{work.folder / _FILE} knows {person['name']} by another stage '{stage}' than that of the last "
                    "run; run the stages as they were then, or delete the file to let the person in"
                )
        outputs = {stage: StageOutput(arrays={EMBEDDING: person[stage][None]}) for stage in person["digests"]}
        outputs[SEGMENTS] = StageOutput(values={SEGMENTS: [{"start_s": 0.0, "end_s": 0.0}]})
        source = SourceVideo(path=work.folder / _FILE, key=f"blocked-{number:05d}", rights=Rights())
        candidates.append(Candidate(source=source, index=0, start_s=0.0, end_s=0.0, outputs=outputs))
    return candidates


def _people(work: WorkFolder) -> list[Mapping[str, Any]]:
    path = work.folder / _FILE
    if not path_exists(path):
        return []
    check_regular_file(path)
    arrays = decode_npz(path.read_bytes(), str(path))
    try:
        people = parse_json(bytes(arrays[_FACTS]), str(path))["people"]
        return [
            each | {stage: arrays[f"{number}.{stage}"] for stage in each["digests"]}
            for number, each in enumerate(people)
        ]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({first_line(error)}); restore it, or people would be let in") from error


def _mean(stage: str, candidates: Sequence[Candidate]) -> np.ndarray | None:
    """Returns the unit vector in the middle of embeddings; None without any."""
    outputs = [(candidate.outputs.get(stage), candidate.index) for candidate in candidates]
    rows = [output.arrays[EMBEDDING][index] for output, index in outputs if output is not None and not output.reason]
    total = np.sum(rows, axis=0) if rows else np.zeros(1)
    length = float(np.linalg.norm(total))
    return (total / length).astype(np.float32) if length > 0 else None
