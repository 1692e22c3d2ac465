"""What the joint transformer promises: independence, exact short cuts, round trips, the paper's size."""

import math
from dataclasses import replace

import pytest
import tiny
import torch
from diffusers import FirstBlockCacheConfig, WanTransformer3DModel

from uniavgen.batch import CLOSED, OPEN, Gate, Prediction, Stream, TokenTimesteps
from uniavgen.checkpoint.keymap import WAN_DIFFUSERS
from uniavgen.config import dump, load, parse
from uniavgen.errors import ConfigError
from uniavgen.models.block import SubLayer
from uniavgen.models.config import TransformerConfig
from uniavgen.models.interaction.config import InteractionConfig
from uniavgen.models.rotary import apply_rotary, rotary_1d
from uniavgen.models.speech_text import complete_symbol_times
from uniavgen.models.transformer import UniAVGenTransformer

CPU = torch.device("cpu")
A2V, V2A = Gate(v2a=False), Gate(a2v=False)


@torch.no_grad()
def run(model: UniAVGenTransformer, video: Stream, audio: Stream, gate: Gate = OPEN, **options) -> Prediction:
    return model(video, audio, tiny.text(), gate, **options)


def same(a: Prediction, b: Prediction, part: str) -> bool:
    return torch.equal(getattr(a.velocity, part), getattr(b.velocity, part))


def test_base_model_has_the_papers_size() -> None:
    with torch.device("meta"):
        model = UniAVGenTransformer.from_settings(load(TransformerConfig, ["base/model"]))
    count = {"video": 0, "audio": 0, "interaction": 0}
    for name, parameter in model.named_parameters():
        owner = next(owner for owner in ("interaction", "video", "audio") if owner in name)
        count[owner] += parameter.numel()
    assert round(count["video"] / 1e9, 2) == 5.00
    assert round(count["audio"] / 1e9, 2) == 1.42
    assert round(count["interaction"] / 1e9, 3) == 0.638
    assert round(sum(count.values()) / 1e9, 3) == 7.056


@pytest.mark.parametrize("preset", ["nano", "tiny", "base"])
def test_settings_round_trip(preset: str) -> None:
    settings = load(TransformerConfig, [f"{preset}/model"])
    assert parse(TransformerConfig, dump(settings)) == settings
    if preset == "base":
        assert settings == TransformerConfig()


def test_fresh_joint_model_is_its_two_branches() -> None:
    model = UniAVGenTransformer.from_settings(tiny.settings()).eval()
    torch.nn.init.normal_(model.video_stem.proj_out.weight)
    torch.nn.init.normal_(model.audio_stem.proj_out.weight)
    video, audio = tiny.video(), tiny.audio()
    joint, apart = run(model, video, audio), run(model, video, audio, CLOSED)
    assert same(joint, apart, "video")
    assert same(joint, apart, "audio")
    assert joint.face_masks.shape == (2, 2, 4, 6)
    assert apart.face_masks is None


def test_fresh_model_predicts_zero() -> None:
    prediction = run(UniAVGenTransformer.from_settings(tiny.settings()), tiny.video(), tiny.audio())
    assert not prediction.velocity.video.any()
    assert not prediction.velocity.audio.any()


@pytest.mark.parametrize(
    ("gate", "video_hears", "audio_sees"),
    [(OPEN, True, True), (CLOSED, False, False), (A2V, True, False), (V2A, False, True)],
)
def test_branches_see_each_other_through_open_gates_only(gate: Gate, video_hears: bool, audio_sees: bool) -> None:
    model, video, audio = tiny.model(), tiny.video(), tiny.audio()
    before = run(model, video, audio, gate)
    louder = run(model, video, tiny.changed(audio, (slice(None), 40)), gate)
    brighter = run(model, tiny.changed(video, (slice(None), slice(None), 3)), audio, gate)
    assert same(before, louder, "video") != video_hears
    assert same(before, brighter, "audio") != audio_sees


def test_reference_neither_sends_nor_receives() -> None:
    """Cut off from its own branch by a single interaction after the last block, it cannot change the other one."""
    model = tiny.model(InteractionConfig(layers=(2,)))
    video, audio = tiny.video(), tiny.audio(reference=9)
    before = run(model, video, audio)
    with torch.no_grad():
        for block in model.blocks:  # No self-attention: the reference stays by itself.
            for branch in (block.video, block.audio):
                branch.attn1.to_out[0].weight.zero_()
    before = run(model, video, audio)
    other_voice = run(model, video, tiny.changed(audio, (slice(None), slice(0, 9))))
    other_face = run(model, tiny.changed(video, (slice(None), slice(None), 0)), audio)
    for after in (other_voice, other_face):
        assert same(before, after, "video")
        assert same(before, after, "audio")


@pytest.mark.parametrize(("gate", "part"), [(A2V, "video"), (V2A, "audio")])
def test_face_masks_learn_from_the_velocity_that_they_weigh(gate: Gate, part: str) -> None:
    model = tiny.model()
    prediction = model(tiny.video(), tiny.audio(), tiny.text(), gate)
    getattr(prediction.velocity, part).square().sum().backward()
    heads = [weight for name, weight in model.named_parameters() if "face_mask" in name]
    assert heads
    assert all(weight.grad is not None and weight.grad.any() for weight in heads)


def test_given_parts_send_but_do_not_receive() -> None:
    model = tiny.model(InteractionConfig(layers=(2,)))
    with torch.no_grad():
        for block in model.blocks:
            for branch in (block.video, block.audio):
                branch.attn1.to_out[0].weight.zero_()
    video, audio = tiny.video(given=2), tiny.audio(given=30)
    joint, apart = run(model, video, audio), run(model, video, audio, CLOSED)
    assert torch.equal(joint.velocity.video[:, :, :2], apart.velocity.video[:, :, :2])
    assert torch.equal(joint.velocity.audio[:, :30], apart.velocity.audio[:, :30])
    assert not torch.equal(joint.velocity.video[:, :, 2:], apart.velocity.video[:, :, 2:])
    assert not torch.equal(joint.velocity.audio[:, 30:], apart.velocity.audio[:, 30:])
    louder = run(model, video, tiny.changed(audio, (slice(None), slice(20, 30))))
    assert not same(joint, louder, "video")


def test_dropped_interaction_equals_a_closed_gate() -> None:
    model, video, audio = tiny.model(), tiny.video(), tiny.audio()
    deaf = replace(video, update_mask=video.update_mask * torch.tensor([[0.0], [1.0]]))
    blind = replace(audio, update_mask=audio.update_mask * torch.tensor([[0.0], [1.0]]))
    mixed = run(model, deaf, blind)
    for chosen, gate in ((0, CLOSED), (1, OPEN)):
        expected = run(model, video, audio, gate)
        assert torch.allclose(mixed.velocity.video[chosen], expected.velocity.video[chosen], atol=1e-5)
        assert torch.allclose(mixed.velocity.audio[chosen], expected.velocity.audio[chosen], atol=1e-5)


def test_video_branch_equals_wan() -> None:
    settings = tiny.settings().video
    wan = WanTransformer3DModel(
        num_attention_heads=settings.num_heads,
        attention_head_dim=settings.head_dim,
        in_channels=settings.latent_channels,
        out_channels=settings.latent_channels,
        text_dim=settings.caption_width,
        freq_dim=settings.time_frequencies,
        ffn_dim=settings.ffn_width,
        num_layers=3,
    ).eval()
    tiny.randomise(wan, seed=5)
    model, video = tiny.model(), tiny.video()
    weights = {WAN_DIFFUSERS.to_target(name): value for name, value in wan.state_dict().items()}
    assert not model.load_state_dict(weights, strict=False).unexpected_keys
    caption = tiny.normal(2, settings.caption_tokens, settings.caption_width, seed=6)
    times = video.timesteps.unique.gather(1, video.timesteps.index).repeat_interleave(6, dim=1) * 1000
    with torch.no_grad():
        expected = wan(video.values, times, caption, return_dict=False)[0][:, :, 1:]
        text = replace(tiny.text(), caption=caption)
        alone = model(video, None, text)
        beside = model(video, tiny.audio(), text, CLOSED)
    # Modulation is one multiply-add here and two operations there, so the last bits differ.
    torch.testing.assert_close(alone.velocity.video, expected, rtol=0, atol=1e-5)
    assert torch.equal(beside.velocity.video, alone.velocity.video)
    assert alone.velocity.audio == 0.0


def test_audio_branch_runs_alone() -> None:
    model, audio = tiny.model(), tiny.audio(reference=4)
    with torch.no_grad():
        alone = model(None, audio, tiny.text())
    assert same(alone, run(model, tiny.video(), audio, CLOSED), "audio")


def test_timesteps_per_token_equal_one_time() -> None:
    model, video, audio = tiny.model(), tiny.video(), tiny.audio()
    one = TokenTimesteps(unique=torch.full((2, 1), 0.4), index=torch.zeros(2, 81, dtype=torch.long))
    two = TokenTimesteps(unique=torch.full((2, 2), 0.4), index=torch.arange(81).remainder(2).expand(2, 81))
    a, b = (run(model, video, replace(audio, timesteps=times)) for times in (one, two))
    assert torch.allclose(a.velocity.audio, b.velocity.audio, atol=1e-4)


def test_text_is_the_same_alone_and_in_a_batch() -> None:
    model, text = tiny.model(), tiny.text()
    with torch.no_grad():
        both = model.encode_text(text)
        alone = model.encode_text(
            replace(text, caption=text.caption[1:], speech=text.speech[1:, :6], speech_length=torch.tensor([6]))
        )
    assert torch.allclose(both.speech.features[1:, :6], alone.speech.features, atol=1e-6)
    assert alone.speech.mask is None
    video, audio = tiny.video(), tiny.audio()
    second = [
        replace(
            stream,
            values=stream.values[1:],
            timesteps=TokenTimesteps(unique=stream.timesteps.unique[1:], index=stream.timesteps.index[1:]),
            update_mask=stream.update_mask[1:],
        )
        for stream in (video, audio)
    ]
    with torch.no_grad():
        together, single = model(video, audio, both), model(*second, alone)
    assert torch.allclose(together.velocity.audio[1:], single.velocity.audio, atol=1e-5)
    assert torch.allclose(together.velocity.video[1:], single.velocity.video, atol=1e-5)


def paced(pace: float, onset: float) -> UniAVGenTransformer:
    settings = tiny.settings()
    speech = replace(settings.audio.speech, initial_symbol_duration=pace, leading_silence=onset)
    torch.manual_seed(0)
    return UniAVGenTransformer.from_settings(replace(settings, audio=replace(settings.audio, speech=speech))).eval()


def test_symbols_with_times_are_read_at_their_times() -> None:
    fresh, text = paced(6.0, 9.0), replace(tiny.text(), speech_length=torch.tensor([11, 11]))
    at = torch.rand(tiny.BATCH, 11).cumsum(dim=1) * 7
    context = fresh.encode_text(replace(text, symbol_timestamps=at)).speech
    attention = fresh.blocks[1].audio.attn2
    # Fresh queries are almost alike, so what a token reads most is what stands near.
    asking = attention.norm_q(attention.to_q(torch.zeros(1, 40, fresh.settings.audio.width)))
    query = apply_rotary(asking.unflatten(2, (attention.heads, -1)), rotary_1d(40, fresh.settings.audio.head_dim, CPU))
    key = fresh.blocks[1].audio.project_text(context).key
    read = torch.einsum("slhc,bmhc->blm", query, key).argmax(dim=2)
    distance = (torch.arange(40)[None, :, None] - at[:, None]).abs()
    inside = (torch.arange(40) > at[:, :1]) & (torch.arange(40) < at[:, -1:])
    assert distance.gather(2, read[..., None])[inside].mean() < 0.25 * distance[inside].mean()


def test_symbols_without_times_follow_at_the_predicted_pace() -> None:
    pace = torch.tensor([[3.0, 2.0, 4.0, 5.0, 6.0]])
    nan = math.nan
    assert complete_symbol_times(pace, None, 9.0).tolist() == [[9, 11, 15, 20, 26]]
    assert complete_symbol_times(pace, torch.tensor([[nan, nan, nan, nan, nan]]), 9.0).tolist() == [[9, 11, 15, 20, 26]]
    assert complete_symbol_times(pace, torch.tensor([[nan, 1.0, nan, 7.0, nan]]), 9.0).tolist() == [[9, 1, 5, 7, 13]]


def test_duration_predictor_starts_even_and_is_the_same_in_a_batch() -> None:
    model, text = paced(6.0, 9.0), tiny.text()
    assert torch.equal(model.encode_text(text).speech.symbol_durations, torch.full((tiny.BATCH, 11), 6.0))
    torch.nn.init.normal_(model.audio_stem.speech_encoder.pace_head.weight, std=0.1)
    alone = replace(text, caption=text.caption[1:], speech=text.speech[1:, :6], speech_length=text.speech_length[1:])
    together = model.encode_text(text).speech.symbol_durations[1:, :6]
    assert torch.allclose(together, model.encode_text(alone).speech.symbol_durations, atol=1e-5)
    assert together.std() > 0.1


def test_speech_order_and_places_count() -> None:
    model, text = tiny.model(), tiny.text()
    turned = replace(text, speech=text.speech.flip(1), speech_length=torch.tensor([11, 11]))
    straight = replace(text, speech_length=torch.tensor([11, 11]))
    with torch.no_grad():
        a, b = (model(None, tiny.audio(), text).velocity.audio for text in (straight, turned))
    assert not torch.allclose(a, b, atol=1e-3)


@pytest.mark.parametrize("skip", [(), (2,)])
def test_branch_cache_equals_the_full_forward(skip: tuple[int, ...]) -> None:
    model, text = tiny.model(), tiny.text()
    silent = TokenTimesteps(unique=torch.zeros(2, 1), index=torch.zeros(2, 81, dtype=torch.long))
    driving = replace(tiny.audio(), timesteps=silent, update_mask=torch.zeros(2, 81))
    video = tiny.video()
    with torch.no_grad():
        full = model(video, driving, text, A2V, skip)
        cached = model(video, driving, text, A2V, skip, branch_cache=model.precompute_branch(None, driving, text, skip))
    assert same(full, cached, "video")
    assert torch.equal(full.face_masks, cached.face_masks)
    assert not cached.velocity.audio.any()

    filmed, audio = tiny.video(given=4), tiny.audio(reference=3)
    with torch.no_grad():
        full = model(filmed, audio, text, V2A, skip)
        cache = model.precompute_branch(filmed, None, text, skip)
        cached = model(filmed, audio, text, V2A, skip, branch_cache=cache)
        apart = model(filmed, audio, text, CLOSED, skip, branch_cache=cache)
    assert same(full, cached, "audio")
    assert torch.equal(full.face_masks, cached.face_masks)
    assert cached.velocity.video.shape == full.velocity.video.shape
    assert same(apart, run(model, filmed, audio, CLOSED, skip_layers=skip), "audio")


@pytest.mark.parametrize("gate", [OPEN, CLOSED])
@pytest.mark.parametrize("keep", [("video", "audio"), ("audio",)])
@torch.no_grad()
def test_cached_keys_and_values_of_texts_change_nothing(gate: Gate, keep: tuple[str, ...]) -> None:
    model, video, audio, text = tiny.model(), tiny.video(), tiny.audio(reference=3), tiny.text()
    cached, projected = model.encode_text(text, keep), []
    for block in model.blocks:
        for name in keep:
            getattr(block, name).attn2.to_k.register_forward_hook(lambda *_: projected.append(1))
    passes = [model(video, audio, cached, gate, skip) for skip in ((), (2,))]
    assert not projected
    for ours, skip in zip(passes, ((), (2,)), strict=True):
        expected = model(video, audio, text, gate, skip)
        assert same(ours, expected, "video")
        assert same(ours, expected, "audio")
    assert projected


def test_branch_cache_is_refused_where_it_does_not_apply() -> None:
    model, text, video, audio = tiny.model(), tiny.text(), tiny.video(), tiny.audio()
    cache = model.precompute_branch(None, audio, text)
    with pytest.raises(ConfigError, match="gate must be closed"):
        model(video, audio, text, OPEN, branch_cache=cache)
    with pytest.raises(ConfigError, match="without layers"):
        model(video, audio, text, A2V, (1,), branch_cache=cache)
    with pytest.raises(ConfigError, match="one branch is precomputed"):
        model.precompute_branch(video, audio, text)


def test_skipped_layer_is_an_identity_in_both_branches() -> None:
    model, video, audio = tiny.model(), tiny.video(), tiny.audio()
    skipped = run(model, video, audio, skip_layers=(2,))
    assert skipped.face_masks.shape[1] == 1
    del model.blocks[2]
    cut = run(model, video, audio)
    assert same(skipped, cut, "video")
    assert same(skipped, cut, "audio")


@pytest.mark.parametrize("position", ["before_self_attention", "before_cross_attention", "before_ffn"])
@torch.no_grad()
def test_interaction_stands_at_its_position_in_a_block(position: str) -> None:
    model = tiny.model(InteractionConfig(position=position, layers=(0,)))
    inputs = model._block_inputs(tiny.video(), tiny.audio(), model.encode_text(tiny.text()), OPEN)
    block, interaction = model.blocks[0], inputs.interaction
    video, audio = inputs.video.hidden, inputs.audio.hidden
    expected = block(video, audio, inputs.video.context, inputs.audio.context, interaction)
    after = {"before_cross_attention": 1, "before_ffn": 2, "before_self_attention": 3}[position]
    for count, sublayer in enumerate(SubLayer, start=1):
        video = block.video.run_sublayer(sublayer, video, inputs.video.context)
        audio = block.audio.run_sublayer(sublayer, audio, inputs.audio.context)
        if count == after:
            video, audio, *_ = block.interaction(video, audio, interaction)
    assert torch.equal(video, expected.video)
    assert torch.equal(audio, expected.audio)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("interleaved", (0, 2, 4)),
        ("all", (0, 1, 2, 3, 4, 5)),
        ("first_half", (0, 1, 2)),
        ("last_half", (3, 4, 5)),
        ((5, 1), (1, 5)),
        ((), ()),
    ],
)
def test_interaction_layers_are_those_of_their_name(layers: str | tuple[int, ...], expected: tuple[int, ...]) -> None:
    settings = replace(tiny.settings(), num_layers=6, interaction=InteractionConfig(layers=layers))
    with torch.device("meta"):
        model = UniAVGenTransformer.from_settings(settings)
    assert tuple(block.layer for block in model.blocks if block.interaction is not None) == expected


def test_settings_that_are_wrong_are_named() -> None:
    with pytest.raises(ConfigError, match="interaction layers are different numbers from 0 to 2"):
        tiny.settings(InteractionConfig(layers=(1, 3)))
    with pytest.raises(ConfigError, match="bogus"):
        parse(TransformerConfig, {"video": {"bogus": 1}})
    with pytest.raises(ConfigError, match="head_dim"):
        parse(TransformerConfig, {"audio": {"head_dim": 7}})


def test_transformer_is_the_same_after_saving_and_loading(tmp_path) -> None:
    model, video, audio = tiny.model(InteractionConfig(layers=(1, 2), inner_residual=True)), tiny.video(), tiny.audio()
    model.save_pretrained(tmp_path)
    loaded = UniAVGenTransformer.from_pretrained(tmp_path)
    assert loaded.settings == model.settings
    before, after = run(model, video, audio), run(loaded, video, audio)
    assert same(before, after, "video")
    assert same(before, after, "audio")


def test_half_precision_leaves_time_and_masks_in_float32(tmp_path) -> None:
    model, video, audio = tiny.model(), tiny.video(), tiny.audio()
    model.save_pretrained(tmp_path)
    half = UniAVGenTransformer.from_pretrained(tmp_path, dtype=torch.bfloat16)
    in_float32 = {name for name, parameter in half.named_parameters() if parameter.dtype == torch.float32}
    assert "video_stem.condition_embedder.time_proj.weight" in in_float32
    assert "blocks.0.interaction.face_mask.proj.weight" in in_float32
    assert "blocks.0.video.attn1.to_q.weight" not in in_float32
    full, rounded = run(model, video, audio), run(half, video, audio)
    assert rounded.velocity.video.dtype == rounded.face_masks.dtype == torch.float32
    scale = full.velocity.video.abs().max()
    assert (full.velocity.video - rounded.velocity.video).abs().max() < 0.1 * scale


@pytest.mark.parametrize(("every", "block_passes"), [(1, 6), (2, 5)])
def test_activation_checkpointing_computes_chosen_blocks_twice_and_changes_nothing(
    every: int, block_passes: int
) -> None:
    gradients, passes = [], 0

    def count(*_) -> None:
        nonlocal passes
        passes += 1

    for checkpoint_every in (0, every):
        model = tiny.model().train()
        model.checkpoint_activations(checkpoint_every)
        passes = 0
        for block in model.blocks:
            block.register_forward_pre_hook(count)
        prediction = model(tiny.video(), tiny.audio(), tiny.text())
        loss = prediction.velocity.video.square().mean() + prediction.velocity.audio.square().mean()
        (loss + prediction.face_masks.mean()).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        assert passes == (block_passes if checkpoint_every else len(model.blocks))
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])
    assert {name for name, _ in model.named_parameters()} - gradients[0].keys() == {"audio_stem.padding"}


def test_first_block_cache_skips_the_rest_of_an_unchanged_pass() -> None:
    model, video, audio = tiny.model(), tiny.video(), tiny.audio()
    expected = run(model, video, audio)
    model.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    with model.cache_context("cond"):
        first, second = run(model, video, audio), run(model, video, audio)
    assert same(first, expected, "video")
    assert torch.allclose(second.velocity.video, expected.velocity.video, atol=1e-4)
    assert torch.allclose(second.velocity.audio, expected.velocity.audio, atol=1e-4)


def test_inputs_that_do_not_fit_are_named() -> None:
    model, video, audio = tiny.model(), tiny.video(), tiny.audio()
    with pytest.raises(ConfigError, match="multiple of 2 x 2"):
        model(replace(video, values=video.values[..., :5]), audio, tiny.text())
    with pytest.raises(ConfigError, match="at most 13 tokens, got 14"):
        model(video, audio, replace(tiny.text(), caption=torch.zeros(2, 14, 11)))
