"""A request becomes a clip: encode what is given, sample, decode what was made.

Letters: b batch (always 1), c latent channels, f latent frames, h w latent grid, l audio tokens.
"""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import AutoencoderKLWan, DiffusionPipeline
from einops import rearrange, reduce
from jaxtyping import Float, Float32, UInt8
from torch import Tensor
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

from uniavgen.batch import AVPair, TextInputs
from uniavgen.codecs import mel
from uniavgen.codecs.caption import CaptionEncoder
from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.codecs.video_vae import VideoCodec, to_frames, to_pixels
from uniavgen.codecs.vocoder import GriffinLimVocoder, NanoVocoder, as_vocoder
from uniavgen.config import dump, parse
from uniavgen.distributed import SINGLE_PROCESS, ParallelContext
from uniavgen.errors import CheckpointError, ConfigError
from uniavgen.flow.sampling import SamplingStep, sample
from uniavgen.flow.schedule import sigmas
from uniavgen.flow.solver import make_solver
from uniavgen.inference.cfg_parallel import cfg_parallel
from uniavgen.inference.clip import Clip, OnProgress, Progress, Stage
from uniavgen.inference.crossfade import crossfade_audio, crossfade_frames
from uniavgen.inference.inputs import ModelInputs, prepare_inputs
from uniavgen.inference.offload import OffloadConfig, on_device
from uniavgen.inference.request import Request, SamplingConfig, check_symbols
from uniavgen.inference.resize import ResizeRule, ResizeShortSide, parse_resize_rule, resize, resize_rule_for
from uniavgen.inference.speed import first_block_cache
from uniavgen.inference.velocity import ClipVelocity
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.conditioning import ClipConditions, check, impose
from uniavgen.tasks.mixture import silence_tokens
from uniavgen.tasks.table import TASKS, Part, Task
from uniavgen.tasks.wording import pad_symbols, spoken, told_times, unspoken
from uniavgen.timebase import ClipTiming


class UniAVGenPipeline(DiffusionPipeline):
    """All parts of a model. Saved and loaded with diffusers' `save_pretrained` and `from_pretrained`."""

    model_cpu_offload_seq = "text_encoder->transformer->vae->vocoder"
    _optional_components: ClassVar = ["vocoder"]
    offload = OffloadConfig()
    """Set by `placement.place`."""
    block_cache: float | None = None
    """Threshold of `speed.first_block_cache`."""
    parallel: ParallelContext = SINGLE_PROCESS
    """Those that share the work; each one makes the whole clip of it."""

    def __init__(
        self,
        transformer: UniAVGenTransformer,
        vae: AutoencoderKLWan,
        text_encoder: UMT5EncoderModel,
        tokenizer: PreTrainedTokenizerBase,
        speech_tokenizer: SpeechSymbols,
        vocoder: Any = None,
        picture_config: dict[str, Any] | None = None,
        sampling_config: dict[str, Any] | None = None,
    ) -> None:
        """`vocoder` is anything that `codecs.vocoder.as_vocoder` takes, Griffin-Lim if None. The two configs are plain
        data of `Cover` or `ShortSide` and of `SamplingConfig`. Raises CheckpointError where the parts do not fit."""
        super().__init__()
        _check_parts(transformer, vae, text_encoder, speech_tokenizer)
        self.register_modules(
            transformer=transformer,
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            speech_tokenizer=speech_tokenizer,
            vocoder=vocoder,
        )
        self.register_to_config(
            picture_config=picture_config or dump(ResizeShortSide()),
            sampling_config=sampling_config or dump(SamplingConfig()),
        )

    @property
    def resize_rule(self) -> ResizeRule:
        """How pictures are brought to the model's size."""
        return parse_resize_rule(self.config["picture_config"])

    @property
    def sampling(self) -> SamplingConfig:
        """What a request takes where it says nothing."""
        return parse(SamplingConfig, dict(self.config["sampling_config"]), origin="sampling_config")

    def check(self, request: Request) -> ModelInputs:
        """Everything that can be wrong with a request for this model, before anything is computed.

        Raises ConfigError or MediaError; returns the inputs at the model's rates and sizes.
        """
        check_symbols(request, self.speech_tokenizer)
        spec = TASKS[request.task]
        if self.block_cache is not None and Part.GIVEN in (spec.video, spec.audio):
            raise ConfigError(
                f"the task '{request.task}' runs one branch only once, which the cache cannot follow; leave it out"
            )
        sampling = request.sampling(self.sampling)
        layers = self.transformer.settings.num_layers
        for run in sampling.plan(request.task).passes(sampling.steps):
            if any(not 0 <= layer < layers for layer in run.skip_layers):
                raise ConfigError(
                    f"guidance '{sampling.guidance_name}' skips block {max(run.skip_layers)}, this model's are 0 to "
                    f"{layers - 1}; choose another guidance"
                )
        return prepare_inputs(request, self.transformer.settings.timebase, self.size_of(request))

    def size_of(self, request: Request) -> ResizeRule:
        """How this request's pictures become the clip's size; ConfigError for one that the model cannot draw."""
        return self.resize_rule if request.size is None else resize_rule_for(self.resize_rule, *request.size)

    @torch.no_grad()
    def __call__(self, request: Request, on_progress: OnProgress | None = None) -> Clip:
        """Make the clip. The same request gives the same frames and samples on the same machine.

        Raises ConfigError or MediaError where the request does not fit this model.
        """
        inputs = self.check(request)
        sampling = request.sampling(self.sampling)
        progress = on_progress or _ignore
        progress(Progress(stage=Stage.ENCODE, step=0, total=2))
        texts = self._texts(request)
        progress(Progress(stage=Stage.ENCODE, step=1, total=2))
        clean = self._conditions(inputs)
        if clean.reference_audio is not None:
            texts = self._timed(texts, request, inputs.timing, clean.reference_audio.shape[1])
        elif inputs.starts_silent:
            texts = self._timed(texts, request, inputs.timing, inputs.given_tokens)
        progress(Progress(stage=Stage.ENCODE, step=2, total=2))
        noise = self._noise(request.seed, inputs, clean)
        check(request.task, clean, noise.video.shape[2], noise.audio.shape[1])
        state, face_mask = self._sample(request.task, sampling, clean, texts, noise, progress)
        return self._decode(request, sampling, inputs, state, face_mask, progress)

    @property
    def _execution_device(self) -> torch.device:
        return self.offload.device or self.device

    def _sample(
        self,
        task: Task,
        sampling: SamplingConfig,
        clean: ClipConditions,
        texts: dict[bool, TextInputs],
        noise: AVPair,
        progress: OnProgress,
    ) -> tuple[AVPair, np.ndarray | None]:
        """The clip with its given parts in place, and the face mask of the last step."""
        velocity = ClipVelocity(
            transformer=self.transformer,
            task=task,
            clean=clean,
            texts=texts,
            reference_time=sampling.reference_time,
            batch_passes=self.offload.batch_passes,
            cache_text_kv=self.offload.cache_text_kv,
        )
        times = sigmas(sampling.steps, sampling.schedule)

        def on_step(step: SamplingStep) -> None:
            progress(Progress(stage=Stage.SAMPLE, step=step.index + 1, total=step.num_steps))

        shared = cfg_parallel(velocity, self.parallel)
        with on_device(self, "transformer"), first_block_cache(self.transformer, self.block_cache):
            state = sample(shared, noise, times, sampling.plan(task), make_solver(sampling.solver, times), on_step)
        return impose(state, clean), self._face_mask(velocity, state.video.shape[3])

    @torch.no_grad()
    def reconstruct(
        self, frames: UInt8[np.ndarray, "F H W 3"], waveform: Float32[np.ndarray, " samples"]
    ) -> tuple[UInt8[np.ndarray, "F2 H2 W2 3"], Float32[np.ndarray, " samples2"]]:
        """What the codecs give back of a clip, the ceiling of what the model can make.

        Frames at `picture_size`, as many as whole latent frames hold; the sound through mel and vocoder,
        peak-normalised, in whole hops.
        """
        stride = self.transformer.settings.timebase.temporal_stride
        whole = len(frames) - (len(frames) - 1) % stride
        pixels = to_pixels(torch.from_numpy(resize(frames[:whole], self.resize_rule))[None])
        with on_device(self, "vae"):
            latents = VideoCodec(self.vae, self.offload.encode_tile_px).encode(pixels)
        return self._frames(latents, _ignore), self._waveform(mel.denormalise(self._mel(waveform)), _ignore)

    def _conditions(self, inputs: ModelInputs) -> ClipConditions:
        pixels = to_pixels(torch.from_numpy(inputs.frames)[None])
        # The video autoencoder is causal, so the first latent frame is that of the first picture alone. [release]
        with on_device(self, "vae"):
            video = VideoCodec(self.vae, self.offload.encode_tile_px).encode(pixels).float()
        audio = None
        if inputs.audio is not None:
            # Normalised, the noise of a silent part would be as loud as speech.
            heard = np.zeros_like(inputs.audio) if inputs.starts_silent else inputs.audio
            audio = self._mel(heard)[:, : inputs.given_tokens]
        return ClipConditions(
            reference_image=video[:, :, :1],
            given_video=video,
            given_audio=audio,
            reference_audio=None if inputs.voice is None else self._mel(inputs.voice),
        )

    def _mel(self, waveform: np.ndarray) -> Float[Tensor, "b l mel"]:
        """Normalised log-mel of the peak-normalised sound. [release]"""
        sound = mel.peak_normalise(torch.from_numpy(waveform)[None])
        return mel.normalise(mel.log_mel(sound)).to(self._execution_device)

    def _texts(self, request: Request) -> dict[bool, TextInputs]:
        device = self._execution_device
        encoder = CaptionEncoder(self.tokenizer, self.text_encoder)
        with on_device(self, "text_encoder"):
            captions = {has_text: encoder.encode([request.caption if has_text else ""]) for has_text in (True, False)}
        transcript = _tidy(request.voice_text) or None
        said = {True: spoken(_tidy(request.speech), transcript), False: unspoken(transcript)}
        texts = {}
        for has_text, caption in captions.items():
            symbols, length = pad_symbols([self.speech_tokenizer.encode(said[has_text])])
            texts[has_text] = TextInputs(
                caption=caption.to(device),
                speech=symbols.to(device),
                speech_length=length.to(device),
            )
        return texts

    def _timed(
        self, texts: dict[bool, TextInputs], request: Request, timing: ClipTiming, reference_tokens: int
    ) -> dict[bool, TextInputs]:
        """The same texts with what is known of when they are said."""
        transcript = len(self.speech_tokenizer.encode(_tidy(request.voice_text)))
        onset, silence = self.transformer.settings.audio.speech.onset, silence_tokens(timing)

        def times(text: TextInputs) -> Tensor:
            known = told_times(text.speech.shape[1], transcript, reference_tokens, silence, onset)
            return known.to(text.speech.device)

        return {has_text: replace(text, times=times(text)) for has_text, text in texts.items()}

    def _noise(self, seed: int, inputs: ModelInputs, clean: ClipConditions) -> AVPair:
        """Drawn on the CPU, so that a seed means the same on every device."""
        generator = torch.Generator().manual_seed(seed)
        timing, (batch, channels, _, height, width) = inputs.timing, clean.reference_image.shape
        video = torch.randn(batch, channels, timing.num_latent_frames, height, width, generator=generator)
        bins = self.transformer.settings.audio.mel_bins
        audio = torch.randn(batch, timing.num_audio_tokens, bins, generator=generator)
        return AVPair(video=video.to(self._execution_device), audio=audio.to(self._execution_device))

    def _decode(
        self,
        request: Request,
        sampling: SamplingConfig,
        inputs: ModelInputs,
        state: AVPair,
        face_mask: np.ndarray | None,
        progress: OnProgress,
    ) -> Clip:
        spec, base = TASKS[request.task], inputs.timing.base
        log_mel = mel.denormalise(state.audio)
        frames = inputs.frames if spec.video is Part.GIVEN else self._frames(state.video, progress)
        if spec.video is Part.PREFIX:
            frames = crossfade_frames(inputs.frames, frames)
        waveform = (
            inputs.audio if inputs.audio is not None and spec.audio is Part.GIVEN else self._waveform(log_mel, progress)
        )
        if inputs.audio is not None and spec.audio is Part.PREFIX:
            waveform = crossfade_audio(inputs.audio, waveform, inputs.given_tokens * base.hop)
        return Clip(
            frames=frames,
            fps=base.fps,
            waveform=waveform,
            sample_rate_hz=base.sample_rate_hz,
            mel=log_mel[0].cpu().numpy(),
            face_mask=face_mask,
            settings=_settings(request, sampling, inputs),
        )

    def _frames(self, latents: Float[Tensor, "b c f h w"], progress: OnProgress) -> np.ndarray:
        """uint8 frames; they leave the device as they come."""

        def count(step: int, total: int) -> None:
            progress(Progress(stage=Stage.DECODE_VIDEO, step=step, total=total))

        codec = VideoCodec(self.vae, self.offload.decode_tile_px)
        with on_device(self, "vae"):
            frames = [to_frames(pixels)[0].cpu() for pixels in codec.decode_frames(latents, count)]
        return torch.cat(frames).numpy()

    def _waveform(self, log_mel: Float[Tensor, "b l mel"], progress: OnProgress) -> np.ndarray:
        progress(Progress(stage=Stage.DECODE_AUDIO, step=0, total=1))
        vocoder = GriffinLimVocoder() if self.vocoder is None else as_vocoder(self.vocoder)
        with on_device(self, "vocoder"):
            waveform = vocoder.decode(log_mel)[0].float().cpu().numpy()
        progress(Progress(stage=Stage.DECODE_AUDIO, step=1, total=1))
        return waveform

    def _face_mask(self, velocity: ClipVelocity, latent_height: int) -> np.ndarray | None:
        if velocity.face_masks is None:
            return None
        rows = latent_height // self.transformer.settings.video.patch[1]
        mask = reduce(velocity.face_masks.float(), "b layers f n -> b f n", "mean")
        return rearrange(mask[0], "f (rows columns) -> f rows columns", rows=rows).cpu().numpy()


def _check_parts(
    transformer: UniAVGenTransformer,
    vae: AutoencoderKLWan,
    text_encoder: UMT5EncoderModel,
    speech_tokenizer: SpeechSymbols,
) -> None:
    settings = transformer.settings
    pairs = {
        "latent channels of the video autoencoder": (vae.config["z_dim"], settings.video.latent_channels),
        "width of the caption encoder": (text_encoder.config.d_model, settings.video.caption_width),
        "number of mel bins": (mel.MEL.num_mel, settings.audio.mel_bins),
        "number of speech symbols": (len(speech_tokenizer.symbols()), settings.audio.speech.num_symbols),
        "temporal stride of the video autoencoder": (
            vae.config["scale_factor_temporal"],
            settings.timebase.temporal_stride,
        ),
    }
    for what, (got, expected) in pairs.items():
        if got != expected:
            raise CheckpointError(f"the {what} is {got}, the transformer expects {expected}; load parts of one model")


# Saved pipelines name the library of each part: in which file of this one a class stands is no part of their format.
for _part in (UniAVGenPipeline, UniAVGenTransformer, SpeechSymbols, NanoVocoder, GriffinLimVocoder):
    _part.__module__ = "uniavgen"


def _settings(request: Request, sampling: SamplingConfig, inputs: ModelInputs) -> dict[str, str | int | float]:
    texts = {"caption": request.caption, "speech": request.speech, "voice_text": request.voice_text}
    numbers = {"seed": request.seed, "num_frames": inputs.timing.num_frames}
    sampled = {name: str(value) if isinstance(value, list) else value for name, value in dump(sampling).items()}
    return {"task": str(request.task), **texts, **numbers, **sampled, "guidance": sampling.guidance_name}


def _tidy(text: str) -> str:
    """Line breaks and runs of blanks as one blank."""
    return " ".join(text.split())


def _ignore(_: Progress) -> None:
    pass
