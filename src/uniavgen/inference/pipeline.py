"""A request becomes a clip: prepare, encode, sample, decode.

Letters: b batch (always 1), c latent channels, f latent frames, h w latent grid, l audio tokens.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from einops import rearrange, reduce
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from uniavgen.batch import AVPair, TextInputs
from uniavgen.checkpoint.lora_file import LoraFile, open_lora
from uniavgen.checkpoint.lora_fusing import FittedLora, fit_lora, fuse_lora
from uniavgen.codecs import mel
from uniavgen.codecs.caption import CaptionEncoder
from uniavgen.codecs.frame_convolution import use_frame_convolutions
from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.codecs.tokenizer_file import CaptionTokenizer, TokenizerFile
from uniavgen.codecs.umt5 import UMT5Encoder
from uniavgen.codecs.video_vae import VideoCodec, to_frames, to_pixels
from uniavgen.codecs.vocoder import GriffinLimVocoder, NanoVocoder, as_vocoder
from uniavgen.config import dump, parse
from uniavgen.distributed import SINGLE_PROCESS, ParallelContext
from uniavgen.errors import CheckpointError, ConfigError
from uniavgen.flow.sampling import SamplingStep, sample
from uniavgen.flow.schedule import sigmas
from uniavgen.flow.solver import make_solver
from uniavgen.inference.cfg_parallel import cfg_parallel
from uniavgen.inference.clip import Clip, OnProgress, Phase, Progress
from uniavgen.inference.conditions import Conditions, SampledLatents
from uniavgen.inference.crossfade import crossfade_audio, crossfade_frames
from uniavgen.inference.inputs import ModelInputs
from uniavgen.inference.model_spec import ModelSpec
from uniavgen.inference.offload import OffloadConfig, OffloadStrategy, WeightStorage, apply_offload, on_device
from uniavgen.inference.prepared_request import PreparedRequest, prepare_request
from uniavgen.inference.request import Request
from uniavgen.inference.resize import ResizeRule, ResizeShortSide, parse_resize_rule, resize
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.inference.speed import SpeedConfig, apply_speed, first_block_cache
from uniavgen.inference.velocity import ClipVelocity
from uniavgen.models.diffusers_compat import register_saved_class
from uniavgen.models.sequence_parallel import apply_sequence_parallel
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.conditioning import ClipConditions, check, replace_given
from uniavgen.tasks.given_lengths import reference_silence_tokens
from uniavgen.tasks.speech_prompt import TimedText, encode_prompts, speech_prompt, spread_evenly, starting_at
from uniavgen.tasks.table import TASKS, ModalityRole

CODE_FILE, CODE = (
    "pipeline.py",
    '"""Where diffusers finds the class of this model."""\n\n'
    "from uniavgen import UniAVGenPipeline as UniAVGenPipeline\n",
)
"""A file of every saved model, by which diffusers' own `DiffusionPipeline.from_pretrained` finds the class: with
`custom_pipeline="pipeline"` and `trust_remote_code=True`, in a folder and on the hub."""


class UniAVGenPipeline(DiffusionPipeline):
    """All components of a model, saved and loaded with diffusers' `save_pretrained` and `from_pretrained`.

        clip = pipeline(Request(task=Task.JOINT, image=image, speech="It is late."))

    The same in steps, each of which may run on its own:

        prepared = pipeline.prepare(request)        # validated, inputs at the model's sizes and rates
        conditions = pipeline.encode(prepared)      # texts, latents, mel
        sampled = pipeline.sample(conditions)       # latents
        clip = pipeline.decode(sampled)             # frames, waveform
    """

    _optional_components: ClassVar = ["vocoder"]

    def __init__(
        self,
        transformer: UniAVGenTransformer,
        vae: AutoencoderKLWan,
        text_encoder: Any,
        tokenizer: Any,
        speech_tokenizer: SpeechSymbols,
        vocoder: Any = None,
        picture_config: dict[str, Any] | None = None,
        sampling_config: dict[str, Any] | None = None,
    ) -> None:
        """Raises CheckpointError where the components do not fit together.

        vae: its convolutions are exchanged in place for faster ones (`use_frame_convolutions`).
        vocoder: anything that `codecs.vocoder.as_vocoder` takes, Griffin-Lim if None.
        picture_config, sampling_config: plain data of a `ResizeRule` and of `SamplingConfig`, by the names under which
            saved pipelines hold them.
        """
        super().__init__()
        _check_components(transformer, vae, text_encoder, speech_tokenizer)
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
        use_frame_convolutions(vae)
        self.video_codec = VideoCodec(vae)
        self.offload = OffloadConfig()
        self.speed = SpeedConfig()
        self.parallel = SINGLE_PROCESS
        self.lora: tuple[LoraFile, ...] = ()

    def register_modules(self, **modules: Any) -> None:
        """Takes components and notes library and class of each, under which they are saved.

        As diffusers' own, which first imports peft and TorchDynamo to look inside of wrapped models.
        """
        for name, module in modules.items():
            kind = type(module)
            named = getattr(kind, "saved_as", (kind.__module__.partition(".")[0], kind.__name__))
            self.register_to_config(**{name: (None, None) if module is None else named})
            setattr(self, name, module)

    def save_pretrained(self, save_directory: str | Path, *arguments: Any, **options: Any) -> None:
        """Writes the model's folder as diffusers does, and the file by which diffusers finds this class."""
        # Before the rest, which may be uploaded at once.
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        (Path(save_directory) / CODE_FILE).write_text(CODE, encoding="utf-8")
        super().save_pretrained(save_directory, *arguments, **options)

    def configure(
        self,
        offload: OffloadConfig | None = None,
        speed: SpeedConfig | None = None,
        parallel: ParallelContext | None = None,
    ) -> "UniAVGenPipeline":
        """Changes how clips are computed, in place, and returns the pipeline; None leaves a setting as it is.

        Offloading comes before speed, each once per pipeline. Raises ConfigError for what cannot be combined.
        """
        if offload is not None:
            apply_offload(self.components, offload)
            self.offload = offload
        if speed is not None:
            apply_speed(self.transformer, speed, self.offload.mode)
            self.speed = speed
        if parallel is not None:
            apply_sequence_parallel(self.transformer, parallel)
            self.parallel = parallel
        return self

    def fuse_lora(self, *adapters: str | Path | FittedLora) -> "UniAVGenPipeline":
        """Adds adapters, FILE or FILE:scale, to the transformer's weights in place, and returns the pipeline.

            pipeline.fuse_lora("me.safetensors:0.8", "style.safetensors")

        Raises CheckpointError and ConfigError as `open_lora`, `fit_lora` and `fuse_lora` do, ConfigError also where
        weights are streamed or quantised already.
        """
        mode = self.offload.mode
        if mode.strategy is OffloadStrategy.GROUP_OFFLOAD or mode.weights is not WeightStorage.AS_LOADED:
            raise ConfigError(f"adapters come before the memory mode '{mode.name}'; load the model with lora=[...]")
        parameters = dict(self.transformer.named_parameters())
        shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
        fitted = [each if isinstance(each, FittedLora) else fit_lora(open_lora(each), shapes) for each in adapters]
        fuse_lora(parameters.items(), fitted)
        self.lora += tuple(each.file for each in fitted if each.file.scale)
        return self

    @property
    def resize_rule(self) -> ResizeRule:
        """How images and videos are brought to the model's size."""
        return parse_resize_rule(self.config["picture_config"])

    @property
    def sampling(self) -> SamplingConfig:
        """The model's own sampling settings, which a request overrides."""
        return parse(SamplingConfig, dict(self.config["sampling_config"]), origin="sampling_config")

    @property
    def spec(self) -> ModelSpec:
        """What requests are checked against."""
        settings = self.transformer.settings
        return ModelSpec(
            timebase=settings.timebase,
            num_layers=settings.num_layers,
            resize_rule=self.resize_rule,
            sampling=self.sampling,
            symbols=self.speech_tokenizer,
        )

    def prepare(self, request: Request) -> PreparedRequest:
        """Validates a request against this model and converts its inputs; computes nothing with the networks.

        Raises ConfigError or MediaError for what this model cannot serve.
        """
        self.speed.check(task=request.task)
        return prepare_request(request, self.spec)

    @torch.no_grad()
    def __call__(self, request: Request | PreparedRequest, on_progress: OnProgress | None = None) -> Clip:
        """Generates the clip. The same request gives the same frames and samples on the same machine.

        A PreparedRequest is used as it is. Raises ConfigError or MediaError for a request that this model cannot serve.
        """
        prepared = self.prepare(request) if isinstance(request, Request) else request
        conditions = self.encode(prepared, on_progress)
        return self.decode(self.sample(conditions, on_progress), on_progress)

    @torch.no_grad()
    def encode(self, prepared: PreparedRequest, on_progress: OnProgress | None = None) -> Conditions:
        """Encodes texts, frames and waveforms. Raises ConfigError for a task that the speed settings exclude."""
        progress = on_progress or _ignore
        self.speed.check(task=prepared.task)
        progress(Progress(phase=Phase.ENCODE_TEXT, step=0, total=1))
        texts = self.encode_texts(prepared)
        progress(Progress(phase=Phase.ENCODE_TEXT, step=1, total=1))
        progress(Progress(phase=Phase.ENCODE_FRAMES, step=0, total=1))
        clean = self.encode_inputs(prepared.inputs)
        progress(Progress(phase=Phase.ENCODE_FRAMES, step=1, total=1))
        timing = prepared.timing
        check(prepared.task, clean, timing.num_latent_frames, timing.num_audio_tokens)
        return Conditions(prepared=prepared, clean=clean, texts=texts)

    @torch.no_grad()
    def encode_texts(self, prepared: PreparedRequest) -> dict[bool, TextInputs]:
        """Returns caption embeddings and speech symbols of passes with text (True) and without (False)."""
        device = self._execution_device
        encoder = CaptionEncoder(self.tokenizer, self.text_encoder)
        with on_device(self.offload, text_encoder=self.text_encoder):
            captions = {
                has_text: encoder.encode([prepared.request.caption if has_text else ""]) for has_text in (True, False)
            }
        texts = {}
        for has_text, prompt in self._speech_prompts(prepared).items():
            symbols, length, times = encode_prompts([prompt], self.speech_tokenizer.ids)
            texts[has_text] = TextInputs(
                caption=captions[has_text].to(device),
                speech=symbols.to(device),
                speech_length=length,
                symbol_timestamps=None if prompt.times is None else times.to(device),
            )
        return texts

    @torch.no_grad()
    def encode_inputs(self, inputs: ModelInputs) -> ClipConditions:
        """Returns the latents of the frames and the mel of the waveforms that are given."""
        pixels = to_pixels(torch.from_numpy(inputs.frames)[None])
        with on_device(self.offload, vae=self.vae):
            video = self.video_codec.encode(pixels, self.offload.encode_tile_px).float()
        audio = None
        if inputs.audio is not None:
            # Peak normalisation would make the noise of a silent beginning as loud as speech.
            waveform = np.zeros_like(inputs.audio) if inputs.starts_silent else inputs.audio
            audio = self._encode_mel(waveform)
        voice = None if inputs.voice is None else self._encode_mel(inputs.voice)
        return ClipConditions.from_clip(video, audio, video.shape[2], inputs.given_tokens, voice)

    def initial_noise(self, conditions: Conditions, seed: int | None = None) -> AVPair:
        """Returns the noise that sampling starts from; `seed` is the request's if None.

        It is drawn on the CPU, so that a seed means the same on every device.
        """
        prepared, (batch, channels, _, height, width) = conditions.prepared, conditions.clean.reference_image.shape
        generator = torch.Generator().manual_seed(prepared.request.seed if seed is None else seed)
        timing, mel_bins = prepared.timing, self.transformer.settings.audio.mel_bins
        video = torch.randn(batch, channels, timing.num_latent_frames, height, width, generator=generator)
        audio = torch.randn(batch, timing.num_audio_tokens, mel_bins, generator=generator)
        return AVPair(video=video.to(self._execution_device), audio=audio.to(self._execution_device))

    @torch.no_grad()
    def sample(
        self, conditions: Conditions, on_progress: OnProgress | None = None, noise: AVPair | None = None
    ) -> SampledLatents:
        """Integrates from noise to latents under the request's guidance; `noise` is `initial_noise` if None."""
        prepared, progress = conditions.prepared, on_progress or _ignore
        sampling = prepared.sampling
        velocity = ClipVelocity(
            transformer=self.transformer,
            task=prepared.task,
            clean=conditions.clean,
            texts=conditions.texts,
            reference_time=sampling.reference_time,
            batch_passes=self.offload.batch_passes,
            cache_text_kv=self.offload.cache_text_kv,
        )
        times = sigmas(sampling.steps, sampling.schedule)
        solver = make_solver(sampling.solver, times)

        def on_step(step: SamplingStep) -> None:
            progress(Progress(phase=Phase.SAMPLE, step=step.index + 1, total=step.num_steps))

        noise = self.initial_noise(conditions) if noise is None else noise
        with (
            on_device(self.offload, transformer=self.transformer),
            first_block_cache(self.transformer, self.speed.block_cache),
        ):
            state = sample(cfg_parallel(velocity, self.parallel), noise, times, prepared.guidance, solver, on_step)
        return SampledLatents(
            prepared=prepared,
            latents=replace_given(state, conditions.clean),
            face_mask=self._face_mask(velocity, state.video.shape[3]),
        )

    @torch.no_grad()
    def decode(self, sampled: SampledLatents, on_progress: OnProgress | None = None) -> Clip:
        """Decodes what was generated, and puts what was given in its place."""
        prepared, inputs, latents = sampled.prepared, sampled.prepared.inputs, sampled.latents
        spec, base = TASKS[prepared.task], prepared.timing.base
        log_mel = mel.denormalise(latents.audio)
        frames = inputs.frames if spec.video is ModalityRole.GIVEN else self.decode_video(latents.video, on_progress)
        if spec.video is ModalityRole.PREFIX:
            frames = crossfade_frames(inputs.frames, frames)
        if inputs.audio is not None and spec.audio is ModalityRole.GIVEN:
            waveform = inputs.audio
        else:
            waveform = self.decode_audio(log_mel, on_progress)
        if inputs.audio is not None and spec.audio is ModalityRole.PREFIX:
            waveform = crossfade_audio(inputs.audio, waveform, inputs.given_tokens * base.hop)
        return Clip(
            frames=frames,
            fps=base.fps,
            waveform=waveform,
            sample_rate_hz=base.sample_rate_hz,
            mel=log_mel[0].cpu().numpy(),
            face_mask=sampled.face_mask,
            settings=_settings(prepared) | ({"lora": [each.settings for each in self.lora]} if self.lora else {}),
        )

    @torch.no_grad()
    def decode_video(
        self, latents: Float[Tensor, "b c f h w"], on_progress: OnProgress | None = None
    ) -> UInt8[np.ndarray, "F H W 3"]:
        """Returns the frames of normalised latents."""
        progress = on_progress or _ignore

        def on_frame(step: int, total: int) -> None:
            progress(Progress(phase=Phase.DECODE_VIDEO, step=step, total=total))

        with on_device(self.offload, vae=self.vae):
            decoded = self.video_codec.decode_frames(latents, on_frame, self.offload.decode_tile_px)
            # Frames leave the device as 8-bit images as soon as they are decoded.
            frames = [to_frames(pixels)[0].cpu() for pixels in decoded]
        return torch.cat(frames).numpy()

    @torch.no_grad()
    def decode_audio(
        self, log_mel: Float[Tensor, "b l mel"], on_progress: OnProgress | None = None
    ) -> Float32[np.ndarray, " samples"]:
        """Returns the waveform of a log-mel that is not normalised."""
        progress = on_progress or _ignore
        progress(Progress(phase=Phase.DECODE_AUDIO, step=0, total=1))
        vocoder = GriffinLimVocoder() if self.vocoder is None else as_vocoder(self.vocoder)
        with on_device(self.offload, vocoder=self.vocoder):
            waveform = vocoder.decode(log_mel)[0].float().cpu().numpy()
        progress(Progress(phase=Phase.DECODE_AUDIO, step=1, total=1))
        return waveform

    @torch.no_grad()
    def reconstruct(
        self, frames: UInt8[np.ndarray, "F H W 3"], waveform: Float32[np.ndarray, " samples"]
    ) -> tuple[UInt8[np.ndarray, "F2 H2 W2 3"], Float32[np.ndarray, " samples2"]]:
        """Returns a clip after the codecs, encoded and decoded: the ceiling of what the model can generate.

        Frames at the model's size, as many as whole latent frames hold; the waveform through mel and vocoder,
        peak-normalised, in whole hops.
        """
        stride = self.transformer.settings.timebase.temporal_stride
        num_frames = len(frames) - (len(frames) - 1) % stride
        pixels = to_pixels(torch.from_numpy(resize(frames[:num_frames], self.resize_rule))[None])
        with on_device(self.offload, vae=self.vae):
            latents = self.video_codec.encode(pixels, self.offload.encode_tile_px)
        return self.decode_video(latents), self.decode_audio(mel.denormalise(self._encode_mel(waveform)))

    @property
    def _execution_device(self) -> torch.device:
        return self.offload.device or self.device

    def _encode_mel(self, waveform: np.ndarray) -> Float[Tensor, "b l mel"]:
        """Returns the normalised log-mel of the peak-normalised waveform. [release]"""
        peak_normalised = mel.peak_normalise(torch.from_numpy(waveform)[None])
        return mel.normalise(mel.log_mel(peak_normalised)).to(self._execution_device)

    def _speech_prompts(self, prepared: PreparedRequest) -> dict[bool, TimedText]:
        """Returns the speech prompts of passes with text (True) and without (False)."""
        inputs, silence = prepared.inputs, self.transformer.settings.audio.speech.leading_silence
        spoken, transcript = (
            self.speech_tokenizer.split(text, prepared.language) for text in (prepared.speech, prepared.voice_text)
        )
        if inputs.voice is not None:
            tokens, base = prepared.timing.base.tokens(len(inputs.voice)), prepared.timing.base
            reference = spread_evenly(transcript, tokens - reference_silence_tokens(base))
        elif inputs.starts_silent:
            tokens, reference = inputs.given_tokens, None
        else:
            return {True: TimedText(spoken), False: TimedText([])}
        return {
            has_text: speech_prompt(starting_at(symbols, silence), reference, tokens)
            for has_text, symbols in {True: spoken, False: []}.items()
        }

    def _face_mask(self, velocity: ClipVelocity, latent_height: int) -> np.ndarray | None:
        if velocity.face_masks is None:
            return None
        rows = latent_height // self.transformer.settings.video.patch[1]
        mask = reduce(velocity.face_masks.float(), "b layers f n -> b f n", "mean")
        return rearrange(mask[0], "f (rows columns) -> f rows columns", rows=rows).cpu().numpy()


def _check_components(
    transformer: UniAVGenTransformer,
    vae: AutoencoderKLWan,
    text_encoder: Any,
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
    for name, (got, expected) in pairs.items():
        if got != expected:
            raise CheckpointError(f"the {name} is {got}, the transformer expects {expected}; load parts of one model")


# Saved pipelines name the library of each component by the first part of its class's module path, and diffusers then
# looks the class up there. With the full path, moving a class to another file would break every saved pipeline.
for _component in (
    UniAVGenPipeline,
    UniAVGenTransformer,
    UMT5Encoder,
    CaptionTokenizer,
    SpeechSymbols,
    NanoVocoder,
    GriffinLimVocoder,
):
    _component.__module__ = "uniavgen"
register_saved_class("uniavgen", TokenizerFile)


def _settings(prepared: PreparedRequest) -> dict[str, Any]:
    request, sampling = prepared.request, prepared.sampling
    texts = {"caption": request.caption, "speech": request.speech, "voice_text": request.voice_text}
    numbers = {"seed": request.seed, "num_frames": prepared.timing.num_frames}
    sampled = {name: str(value) if isinstance(value, list) else value for name, value in sampling.recorded().items()}
    return {"task": str(request.task), **texts, **numbers, **sampled, "guidance": sampling.guidance_name}


def _ignore(_: Progress) -> None:
    pass
