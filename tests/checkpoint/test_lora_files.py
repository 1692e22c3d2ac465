"""Adapters of every layout add scale * alpha / rank * B A to the weights that their names mean; others are refused."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

from uniavgen.checkpoint.lora import ADAPTER_FILE, save_adapter
from uniavgen.checkpoint.lora_file import open_lora, parse_lora
from uniavgen.checkpoint.lora_fusing import fit_lora, fuse_lora
from uniavgen.config import load
from uniavgen.errors import CheckpointError, ConfigError
from uniavgen.models.config import TransformerConfig
from uniavgen.models.transformer import UniAVGenTransformer

RANK, ALPHA, SCALE = 2, 3.0, 0.7
# Ours, in the original layout of Wan, in diffusers'.
MODULES = {
    "blocks.1.video.attn1.to_q": ("blocks.1.self_attn.q", "blocks.1.attn1.to_q"),
    "blocks.0.video.attn2.to_out.0": ("blocks.0.cross_attn.o", "blocks.0.attn2.to_out.0"),
    "blocks.2.video.ffn.net.0.proj": ("blocks.2.ffn.0", "blocks.2.ffn.net.0.proj"),
    "video_stem.condition_embedder.time_proj": ("time_projection.1", "condition_embedder.time_proj"),
    "video_stem.condition_embedder.text_embedder.linear_2": (
        "text_embedding.2",
        "condition_embedder.text_embedder.linear_2",
    ),
    "video_stem.proj_out": ("head.head", "proj_out"),
    "video_stem.patch_embedding": ("patch_embedding", "patch_embedding"),
}
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def transformer() -> UniAVGenTransformer:
    return UniAVGenTransformer.from_settings(load(TransformerConfig, ["tiny/model"])).eval()


@pytest.fixture(scope="module")
def weights(transformer) -> State:
    return {name: value.detach() for name, value in transformer.named_parameters()}


@pytest.fixture(scope="module")
def matrices(weights) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B of every adapted module."""
    generator = torch.Generator().manual_seed(0)
    pairs = {}
    for module in MODULES:
        out, *rest = weights[f"{module}.weight"].shape
        a = torch.randn(RANK, *rest, generator=generator)
        pairs[module] = (a, torch.randn(out, RANK, *(1 for _ in rest[1:]), generator=generator))
    return pairs


@pytest.fixture(scope="module")
def expected(weights, matrices) -> State:
    """The weights with the adapter, by hand."""
    changed = dict(weights)
    for module, (a, b) in matrices.items():
        product = torch.einsum("or,r...->o...", b.reshape(len(b), RANK), a)
        changed[f"{module}.weight"] = changed[f"{module}.weight"] + SCALE * ALPHA / RANK * product
    return changed


def fused(weights: State, *adapters: Path | str) -> State:
    copies = {name: value.clone() for name, value in weights.items()}
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    fuse_lora(copies.items(), [fit_lora(open_lora(each), shapes) for each in adapters])
    return copies


def assert_same(got: State, expected: State) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(
            got[name], value, rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


def ours(pairs, folder: Path) -> Path:
    state = {f"{name}.lora_{m}.weight": t for name, p in pairs.items() for m, t in zip("AB", p, strict=True)}
    config = {"r": RANK, "lora_alpha": ALPHA, "use_rslora": False}
    save_file(state, folder / ADAPTER_FILE, metadata={"lora_adapter_metadata": json.dumps(config)})
    return folder


def training_run(pairs, folder: Path) -> Path:
    (folder / "transformer").mkdir()
    ours(pairs, folder / "transformer")
    return folder


def diffusers(pairs, folder: Path) -> Path:
    state = {
        f"transformer.{MODULES[name][1]}.lora_{m}.weight": t
        for name, p in pairs.items()
        for m, t in zip("AB", p, strict=True)
    }
    config = {"transformer.r": RANK, "transformer.lora_alpha": ALPHA}
    save_file(state, folder / ADAPTER_FILE, metadata={"lora_adapter_metadata": json.dumps(config)})
    return folder


def peft(pairs, folder: Path) -> Path:
    state = {
        f"base_model.model.{MODULES[name][1]}.lora_{m}.weight": t
        for name, p in pairs.items()
        for m, t in zip("AB", p, strict=True)
    }
    save_file(state, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 1, "alpha_pattern": {".*": ALPHA}}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def _file(named: Callable[[str], str], a_name: str, b_name: str, alpha: float = ALPHA) -> Callable[..., Path]:
    """Returns a writer of a file with alphas; `named` takes the original name of a module to that in the file."""

    def write(pairs, folder: Path) -> Path:
        state = {}
        for name, (a, b) in pairs.items():
            stem = named(MODULES[name][0])
            state |= {f"{stem}.{a_name}.weight": a, f"{stem}.{b_name}.weight": b, f"{stem}.alpha": torch.tensor(alpha)}
        save_file(state, folder / "me.safetensors")
        return folder / "me.safetensors"

    return write


kohya = _file(lambda name: "lora_unet_" + name.replace(".", "_"), "lora_down", "lora_up", int(ALPHA))
comfyui = _file(lambda name: f"diffusion_model.{name}", "lora_A", "lora_B")


LAYOUTS = {
    "ours": ours,
    "training run": training_run,
    "diffusers": diffusers,
    "peft": peft,
    "kohya": kohya,
    "ComfyUI": comfyui,
    "ComfyUI, down and up": _file(lambda name: f"model.diffusion_model.{name}", "lora_down", "lora_up"),
    "Wan, named adapter": _file(str, "lora_A.default", "lora_B.default"),
    "VideoX-Fun": _file(lambda name: "lora_unet__" + name.replace(".", "_"), "lora_down", "lora_up"),
    "kohya, half renamed": _file(lambda name: "lora_unet_" + name.replace(".", "_", 1), "lora_down", "lora_up"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_adapter_of_every_layout_gives_the_weights_computed_by_hand(layout, weights, matrices, expected, tmp_path):
    path = LAYOUTS[layout](matrices, tmp_path)
    got = fused(weights, f"{path}:{SCALE}")
    assert_same(got, expected)
    assert {name for name in got if not torch.equal(got[name], weights[name])} == {f"{m}.weight" for m in MODULES}


def test_two_adapters_add_up_in_float32_and_are_rounded_once(weights, matrices, tmp_path):
    name = "blocks.1.video.attn1.to_q.weight"
    one = kohya(matrices, tmp_path)
    half = {key: value.bfloat16() for key, value in weights.items()}
    got = fused(half, f"{one}:0.5", f"{one}:-0.2", f"{one}:0")
    a, b = (matrix.double() for matrix in matrices["blocks.1.video.attn1.to_q"])
    exact = half[name].double() + (0.5 - 0.2) * ALPHA / RANK * (b @ a)
    assert got[name].dtype == torch.bfloat16
    half_unit = 2.0 ** (torch.frexp(exact).exponent.double() - 9)
    assert ((got[name] - exact).abs() <= 1.001 * half_unit).all()


def test_adapter_of_scale_zero_changes_no_bit(weights, matrices, tmp_path):
    got = fused(weights, f"{kohya(matrices, tmp_path)}:0")
    assert all(torch.equal(got[name], value) for name, value in weights.items())


def test_adapter_without_alpha_has_the_scale_one(weights, matrices, tmp_path):
    module = "blocks.1.video.attn1.to_q"
    a, b = matrices[module]
    stem = f"diffusion_model.{MODULES[module][0]}"
    save_file({f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": b}, tmp_path / "a.safetensors")
    got = fused(weights, tmp_path / "a.safetensors")[f"{module}.weight"]
    torch.testing.assert_close(got, weights[f"{module}.weight"] + b @ a)


@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_saved_adapter_gives_what_peft_computes_unfused(rank_stabilised, transformer, weights, tmp_path):
    adapted = UniAVGenTransformer.from_settings(transformer.settings).eval()
    adapted.load_state_dict(transformer.state_dict())
    config = LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=["to_q", "to_v", "linear_1"],
        alpha_pattern={"to_v": 2},
        rank_pattern={"to_q": 4},
        use_rslora=rank_stabilised,
        init_lora_weights=False,
    )
    adapted.add_adapter(config)
    save_adapter(adapted, tmp_path, adapted.state_dict())
    adapted.fuse_lora()
    merged = {
        name.replace(".base_layer", ""): value for name, value in adapted.state_dict().items() if ".lora_" not in name
    }
    got = fused(weights, tmp_path)
    assert sum(not torch.equal(got[name], value) for name, value in weights.items()) > 20
    assert_same(got, merged)


def test_differences_are_added_to_weights_biases_and_modulation(weights, tmp_path):
    names = {
        "diffusion_model.blocks.0.self_attn.norm_q.diff": "blocks.0.video.attn1.norm_q.weight",
        "diffusion_model.blocks.0.norm3.diff_b": "blocks.0.video.norm2.bias",
        "diffusion_model.blocks.1.ffn.2.diff_b": "blocks.1.video.ffn.net.2.bias",
        "diffusion_model.blocks.1.modulation.diff": "blocks.1.video.scale_shift_table",
        "diffusion_model.blocks.2.diff_m": "blocks.2.video.scale_shift_table",
        "diffusion_model.head.diff_m": "video_stem.scale_shift_table",
        "diffusion_model.patch_embedding.diff": "video_stem.patch_embedding.weight",
    }
    state = {name: torch.randn(weights[target].shape) for name, target in names.items()}
    save_file(state, tmp_path / "a.safetensors")
    got = fused(weights, f"{tmp_path / 'a.safetensors'}:0.5")
    assert_same(got, weights | {target: weights[target] + 0.5 * state[name] for name, target in names.items()})


def test_tensors_without_a_place_are_listed_and_left_out(weights, matrices, expected, tmp_path, caplog):
    file = comfyui(matrices, tmp_path)
    more = {
        "diffusion_model.blocks.0.cross_attn.k_img.lora_A.weight": torch.ones(2, 5),
        "diffusion_model.blocks.0.cross_attn.k_img.lora_B.weight": torch.ones(5, 2),
        "diffusion_model.img_emb.proj.1.diff_b": torch.ones(3),
        "lora_te1_text_model.q": torch.ones(3),
    }
    save_file(load_file(file) | more, file)
    assert_same(fused(weights, f"{file}:{SCALE}"), expected)
    assert "4 tensors of the adapter" in caplog.text
    assert all(name in caplog.text for name in more)


def damaged(change: Callable[[State], object]) -> Callable[..., Path]:
    def write(pairs, folder: Path) -> Path:
        file = comfyui(pairs, folder)
        state = load_file(file)
        change(state)
        save_file(state, file)
        return file

    return write


def wider(state: State) -> None:
    for name in [name for name in state if "lora_" in name]:
        state[name] = torch.ones([2 * size if size > RANK else size for size in state[name].shape])


Q = "diffusion_model.blocks.1.self_attn.q."
REFUSED = {
    "another width": (wider, "is for another model: its .* changes weights of"),
    "nothing known": (lambda s: [s.update({f"unet.{n}": s.pop(n)}) for n in [*s]], "none of its 7 layers has a place"),
    "no matrices": (lambda s: (s.clear(), s.update(a=torch.ones(2))), "is no adapter: none of its 1 tensors"),
    "no number": (lambda s: s[f"{Q}lora_A.weight"].fill_(math.nan), "values that are no numbers"),
    "no finite alpha": (lambda s: s[f"{Q}alpha"].fill_(math.inf), "alpha in .* is inf"),
    "two alphas": (lambda s: s.update({f"{Q}alpha": torch.ones(2)}), "has 2 numbers, not one"),
    "one matrix": (lambda s: s.pop(f"{Q}lora_B.weight"), "without the matrices of blocks.1.self_attn.q"),
    "two ranks": (lambda s: s.update({f"{Q}lora_A.weight": torch.ones(5, 12)}), "have no common rank"),
    "DoRA": (lambda s: s.update({f"{Q}dora_scale": torch.ones(2)}), "is DoRA, and only LoRA"),
    "LoHa": (lambda s: s.update({f"{Q}hada_w1_a": torch.ones(2)}), "is LoHa, and only LoRA"),
    "fp8": (lambda s: s.update({f"{Q}lora_A.weight": s[f"{Q}lora_A.weight"].to(torch.float8_e4m3fn)}), "stored as F8"),
    "two adapters": (lambda s: s.update({f"{Q}lora_A.b.weight": torch.ones(2, 12)}), "leave one adapter in it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_adapter_that_is_damaged_or_of_another_model_is_refused(case, weights, matrices, tmp_path):
    change, sentence = REFUSED[case]
    file = damaged(change)(matrices, tmp_path)
    with pytest.raises(CheckpointError, match=sentence):
        fused(weights, file)


def test_truncated_adapter_is_refused(matrices, tmp_path):
    file = kohya(matrices, tmp_path)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cut short or damaged"):
        open_lora(file)


def test_peft_folder_needs_its_settings(matrices, tmp_path):
    folder = peft(matrices, tmp_path)
    for text, sentence in (("{", "not JSON"), ('{"lora_alpha": "x"}', "its alpha is no number"), (None, "lacks the")):
        (folder / "adapter_config.json").unlink()
        if text is not None:
            (folder / "adapter_config.json").write_text(text)
        with pytest.raises(CheckpointError, match=sentence):
            open_lora(folder)
        (folder / "adapter_config.json").touch()


def test_folder_without_or_with_several_adapters_is_refused(matrices, tmp_path):
    with pytest.raises(CheckpointError, match="holds no adapter"):
        open_lora(tmp_path)
    kohya(matrices, tmp_path).rename(tmp_path / "one.safetensors")
    assert open_lora(tmp_path).file.name == "one.safetensors"
    kohya(matrices, tmp_path)
    with pytest.raises(CheckpointError, match=r"2 files that could be the adapter: me\.safetensors, one\.safetensors"):
        open_lora(tmp_path)
    with pytest.raises(CheckpointError, match="there is no adapter"):
        open_lora(tmp_path / "none")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").touch()
    with pytest.raises(CheckpointError, match="is a model and no adapter; give it as --model"):
        open_lora(tmp_path / "model")
    (tmp_path / "a.pt").touch()
    with pytest.raises(CheckpointError, match=r"is no \.safetensors file"):
        open_lora(tmp_path / "a.pt")


@pytest.mark.parametrize("scale", ["1e300", "1.7e308", "-3e38"])
def test_scale_that_leaves_the_range_of_weights_is_refused(scale, weights, matrices, tmp_path):
    with pytest.raises(ConfigError, match="use smaller scales"):
        fused(weights, f"{kohya(matrices, tmp_path)}:{scale}")


def test_scale_stands_behind_the_last_colon_unless_the_whole_path_exists(tmp_path):
    plain, colon = tmp_path / "a", tmp_path / "a:0.5"
    for file in (plain, colon):
        file.touch()
    assert parse_lora(str(plain)) == (plain, 1.0)
    assert parse_lora(str(colon)) == (colon, 1.0)
    assert parse_lora(f"{colon}:2") == (colon, 2.0)
    assert parse_lora(f"{plain}:-0.25") == (plain, -0.25)
    assert parse_lora(colon) == (colon, 1.0)
    assert parse_lora(r"C:\me.safetensors") == (Path(r"C:\me.safetensors"), 1.0)
    assert parse_lora(r"C:\me.safetensors:0.5") == (Path(r"C:\me.safetensors"), 0.5)
    for nothing in ("", ":1", ":"):
        with pytest.raises(ConfigError, match=r"is FILE or FILE:0\.8"):
            parse_lora(nothing)
    for ending in ("nan", "inf", "-inf", "1e999", "much"):
        with pytest.raises(ConfigError, match=rf"number, got '?{ending}"):
            parse_lora(f"{plain}:{ending}")
