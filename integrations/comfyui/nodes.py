"""The nodes: a model with adapters, and one node for each of the five tasks.

Each task's node writes a clip, marked and signed as by `uniavgen generate`, into ComfyUI's output folder.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import comfy.utils
import folder_paths
from comfy_api.latest import InputImpl

import uniavgen

from .values import read_frames, read_sound, write_picture, write_sound, write_video

CATEGORY = "UniAVGen"
MODEL, LORA = "UNIAVGEN_MODEL", "UNIAVGEN_LORA"
"""Types of our own: a loaded model, and adapters to be loaded with one."""
NUM_FRAMES = ("INT", {"default": 81, "min": 5, "max": 1025, "step": 4, "tooltip": "Length: 81 frames are 5 seconds."})
SPEECH = ("STRING", {"multiline": True, "default": "", "tooltip": "The words to be said."})
CAPTION = ("STRING", {"multiline": True, "default": "", "tooltip": "What the picture shows."})
VOICE_TEXT = ("STRING", {"multiline": True, "default": "", "tooltip": "What is said in the recording of the voice."})
LENGTH_CUT = ("BOOLEAN", {"default": False, "tooltip": "Cut inputs that are too long instead of refusing them."})


class LoraNode:
    """Chooses an adapter of ComfyUI's folder `loras`; several are chained."""

    CATEGORY, FUNCTION, RETURN_TYPES, RETURN_NAMES = CATEGORY, "choose", (LORA,), ("lora",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Returns the inputs."""
        return {
            "required": {
                "file": (folder_paths.get_filename_list("loras"),),
                "scale": ("FLOAT", {"default": 1.0, "min": -10.0, "max": 10.0, "step": 0.05}),
            },
            "optional": {"lora": (LORA,)},
        }

    def choose(self, file: str, scale: float, lora: tuple[str, ...] = ()) -> tuple[tuple[str, ...]]:
        """Returns the adapters so far and this one."""
        return ((*lora, f"{folder_paths.get_full_path_or_raise('loras', file)}:{scale:g}"),)


class LoadModelNode:
    """Loads a model so that clips of every task fit."""

    CATEGORY, FUNCTION, RETURN_TYPES, RETURN_NAMES = CATEGORY, "load", (MODEL,), ("model",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Returns the inputs."""
        return {
            "required": {
                "model": ("STRING", {"default": "nano", "tooltip": "nano, a folder, or a name on the hub."}),
                "device": ("STRING", {"default": "auto", "tooltip": "auto, cpu, cuda, cuda:N or mps."}),
                "vram": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 1000.0, "tooltip": "GB; 0 is all that is free."}),
                "max_frames": NUM_FRAMES,
            },
            "optional": {"lora": (LORA,)},
        }

    def load(
        self, model: str, device: str, vram: float, max_frames: int, lora: tuple[str, ...] = ()
    ) -> tuple[uniavgen.LoadedModel]:
        """Returns the model."""
        config = uniavgen.LoadConfig(model=model, device=device, vram=vram or None, lora=lora)
        return (uniavgen.LoadedModel.load(config, max_frames),)


class ClipNode(ABC):
    """What the nodes of the five tasks share: settings, and the way from inputs to a clip."""

    CATEGORY, FUNCTION, OUTPUT_NODE = CATEGORY, "generate", True
    RETURN_TYPES, RETURN_NAMES = ("VIDEO", "IMAGE", "AUDIO"), ("video", "frames", "audio")
    needed: ClassVar[dict[str, Any]]
    """Inputs of the task that must be given."""
    taken: ClassVar[dict[str, Any]] = {}
    """Inputs of the task that may be given."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Returns the inputs."""
        sampling = {
            "steps": ("INT", {"default": 0, "min": 0, "max": 1000, "tooltip": "Sampling steps; 0 is the model's own."}),
            "seed": ("INT", {"default": 0, "min": 0, "max": 2**63 - 1, "control_after_generate": True}),
            "filename_prefix": ("STRING", {"default": "video/uniavgen"}),
        }
        consent = ("STRING", {"default": "", "tooltip": "That the person shown or heard agrees; stored in the clip."})
        return {
            "required": {"model": (MODEL,), **cls.needed, **sampling},
            "optional": {**cls.taken, "trim": LENGTH_CUT, "consent": consent},
        }

    @abstractmethod
    def job(self, folder: Path, **inputs: Any) -> Any:
        """Writes the inputs as files into a folder and returns the job that reads them."""

    def generate(
        self,
        model: uniavgen.LoadedModel,
        steps: int,
        seed: int,
        filename_prefix: str,
        consent: str = "",
        **inputs: Any,
    ) -> dict[str, Any]:
        """Returns the clip as a file and as frames and sound, and what ComfyUI shows of it."""
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        out = Path(folder) / f"{name}_{counter:05}_.mp4"
        sampling = {"steps": steps} if steps else {}
        marking = uniavgen.MarkingConfig(consent=consent or None)
        with TemporaryDirectory() as given:
            job = self.job(Path(given), seed=seed, sampling=sampling, **inputs)
            file = model.generate(job, out, marking, on_progress=_show_progress())
        saved = {"filename": out.name, "subfolder": subfolder, "type": "output"}
        return {
            "ui": {"images": [saved], "animated": (True,)},
            "result": (InputImpl.VideoFromFile(str(out)), read_frames(file.clip), read_sound(file.clip)),
        }


class JointNode(ClipNode):
    """Makes a picture speak a sentence, in a voice that is generated too."""

    needed: ClassVar = {"image": ("IMAGE",), "speech": SPEECH, "caption": CAPTION, "num_frames": NUM_FRAMES}

    def job(self, folder: Path, **inputs: Any) -> uniavgen.GenerateJob:
        """Returns the job."""
        return uniavgen.GenerateJob(image=write_picture(inputs.pop("image"), folder / "image.png"), **inputs)


class VoiceNode(ClipNode):
    """Makes a picture speak a sentence in the voice of a recording."""

    needed: ClassVar = {**JointNode.needed, "voice": ("AUDIO",), "voice_text": VOICE_TEXT}

    def job(self, folder: Path, **inputs: Any) -> uniavgen.GenerateJob:
        """Returns the job."""
        image = write_picture(inputs.pop("image"), folder / "image.png")
        voice = write_sound(inputs.pop("voice"), folder / "voice.wav")
        return uniavgen.GenerateJob(image=image, voice=voice, **inputs)


class ContinueNode(ClipNode):
    """Continues the end of a video with what is said next."""

    needed: ClassVar = {
        "video": ("VIDEO",),
        "speech": ("STRING", {**SPEECH[1], "tooltip": "The words of the part that is kept, then the new ones."}),
        "caption": CAPTION,
        "num_frames": NUM_FRAMES,
        "keep_seconds": ("FLOAT", {"default": 2.5, "min": 0.0625, "max": 60.0, "step": 0.0625}),
        "append": ("BOOLEAN", {"default": True, "tooltip": "Write all of the video before the new part."}),
    }

    def job(self, folder: Path, **inputs: Any) -> uniavgen.ContinueJob:
        """Returns the job."""
        clip = write_video(inputs.pop("video"), folder / "video.mp4")
        return uniavgen.ContinueJob(clip=clip, keep_s=inputs.pop("keep_seconds"), **inputs)


class DubNode(ClipNode):
    """Gives a video a voice; its picture track stays as it is."""

    needed: ClassVar = {"video": ("VIDEO",), "speech": SPEECH, "caption": CAPTION, "num_frames": NUM_FRAMES}
    taken: ClassVar = {"voice": ("AUDIO",), "voice_text": VOICE_TEXT}

    def job(self, folder: Path, **inputs: Any) -> uniavgen.DubJob:
        """Returns the job."""
        video, voice = write_video(inputs.pop("video"), folder / "video.mp4"), inputs.pop("voice", None)
        recording = None if voice is None else write_sound(voice, folder / "voice.wav")
        return uniavgen.DubJob(video=video, voice=recording, **inputs)


class AnimateNode(ClipNode):
    """Makes a picture speak a recording; the clip is as long as the recording."""

    needed: ClassVar = {"image": ("IMAGE",), "audio": ("AUDIO",), "caption": CAPTION}
    taken: ClassVar = {"speech": ("STRING", {**SPEECH[1], "tooltip": "What is said in the recording, if known."})}

    def job(self, folder: Path, **inputs: Any) -> uniavgen.AnimateJob:
        """Returns the job."""
        image = write_picture(inputs.pop("image"), folder / "image.png")
        return uniavgen.AnimateJob(image=image, audio=write_sound(inputs.pop("audio"), folder / "audio.wav"), **inputs)


def _show_progress() -> Any:
    """Returns what moves ComfyUI's bar through the steps, and so lets its user interrupt them."""
    bar = comfy.utils.ProgressBar(1)

    def on_progress(progress: Any) -> None:
        bar.update_absolute(progress.step, progress.total)

    return on_progress


NODES = {
    "UniAVGenLoadModel": (LoadModelNode, "Load model (UniAVGen)"),
    "UniAVGenLora": (LoraNode, "LoRA (UniAVGen)"),
    "UniAVGenJoint": (JointNode, "Picture and sentence to clip (UniAVGen)"),
    "UniAVGenVoice": (VoiceNode, "Picture, sentence and voice to clip (UniAVGen)"),
    "UniAVGenContinue": (ContinueNode, "Continue a clip (UniAVGen)"),
    "UniAVGenDub": (DubNode, "Dub a video (UniAVGen)"),
    "UniAVGenAnimate": (AnimateNode, "Animate a picture by a recording (UniAVGen)"),
}
NODE_CLASS_MAPPINGS = {name: node for name, (node, _) in NODES.items()}
NODE_DISPLAY_NAME_MAPPINGS = {name: shown for name, (_, shown) in NODES.items()}
