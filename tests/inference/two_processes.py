"""What each of two processes runs for `test_parallel.py`: alone first, then together, which must give the same."""

import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
import tiny

from uniavgen.batch import CLOSED, OPEN, AVPair, Gate, TokenTimesteps
from uniavgen.distributed import ParallelContext, process_group
from uniavgen.flow.guidance import CONDITIONAL, NO_TEXT_NO_INTERACTION
from uniavgen.inference.cfg_parallel import cfg_parallel
from uniavgen.inference.velocity import ClipVelocity
from uniavgen.models.sequence_parallel import apply_sequence_parallel
from uniavgen.tasks.conditioning import ClipConditions
from uniavgen.tasks.table import Task

GATES = {"open": OPEN, "a2v": Gate(v2a=False), "v2a": Gate(a2v=False), "closed": CLOSED}


def same(name: str, ours, expected) -> None:
    for part, a, b in (
        ("video", ours.velocity.video, expected.velocity.video),
        ("audio", ours.velocity.audio, expected.velocity.audio),
        ("masks", ours.face_masks, expected.face_masks),
    ):
        assert (a is None) == (b is None), f"{name}: {part}"
        assert a is None or torch.allclose(a, b, atol=1e-4), f"{name}: {part} differs by {(a - b).abs().max()}"


def videos() -> dict:
    """Six tokens a frame, three for each process; and five, which do not share evenly."""
    even = tiny.video(given=2)
    return {"even": even, "uneven": replace(even, values=tiny.normal(2, 5, 1 + tiny.FRAMES, 2, 10, seed=4))}


def check_shared_frames() -> None:
    alone, together = tiny.model(), tiny.model()
    apply_sequence_parallel(together, ParallelContext.for_sampling("cpu", cfg_size=1))
    audio, text = tiny.audio(given=9, reference=4), tiny.text()
    for shape, video in videos().items():
        for gate_name, gate in GATES.items():
            runs = [model(video, audio, text, gate, (2,)) for model in (together, alone)]
            same(f"{shape}, {gate_name}", *runs)
    video = videos()["uneven"]
    cached = together.encode_text(text, cache_kv=("video", "audio"))
    same("cached text", together(video, audio, cached), alone(video, audio, text))
    same("batch", *(model(video, audio, text, num_interacting=1) for model in (together, alone)))
    clean = TokenTimesteps(unique=torch.zeros(2, 1), index=torch.zeros(2, 5, dtype=torch.long))
    given = replace(video, timesteps=clean, update_mask=torch.zeros(2, tiny.FRAMES))
    v2a = GATES["v2a"]
    same(
        "dubbing",
        *(m(given, audio, text, v2a, branch_cache=m.precompute_branch(given, None, text)) for m in (together, alone)),
    )


def check_shared_passes() -> None:
    model, video, audio = tiny.model(), tiny.video(), tiny.audio()
    texts = {True: tiny.text(), False: replace(tiny.text(), caption=torch.zeros(2, 3, 11))}
    clean = ClipConditions(reference_image=video.values[:, :, :1])
    state = AVPair(video=video.values[:, :, 1:], audio=audio.values)
    ran = []

    class RecordingVelocity(ClipVelocity):
        def __call__(self, state, sigma, runs):
            ran.extend(runs)
            return super().__call__(state, sigma, runs)

    velocity = RecordingVelocity(transformer=model, task=Task.JOINT, clean=clean, texts=texts)
    shared = cfg_parallel(velocity, ParallelContext.for_sampling("cpu"))
    for runs in ((CONDITIONAL, NO_TEXT_NO_INTERACTION), (CONDITIONAL,)):
        ran.clear()
        velocities = shared(state, torch.full((2,), 0.6), runs)
        assert ran == list(runs[dist.get_rank() :: 2]), ran
        for ours, expected in zip(velocities, velocity(state, torch.full((2,), 0.6), runs), strict=True):
            assert torch.equal(ours.video, expected.video)
            assert torch.equal(ours.audio, expected.audio)


if __name__ == "__main__":
    with process_group() as device, torch.no_grad():
        assert device == "cpu"
        check_shared_frames()
        check_shared_passes()
    print("same")
