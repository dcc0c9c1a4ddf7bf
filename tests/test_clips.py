"""CLIPs of open_clip and Hugging Face: equal to the libraries' own, or refused by reason."""

import json
import re
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors.torch import save_file
from test_backbone import error
from tiny_clip import TINY, images, named_tensor, vit_weights
from tiny_run import make_cfg, make_trainer

from dassl.config import config_hash
from dassl.engine import run_hash
from dassl.utils import UserError
from tools import layouts
from trainers import clips
from trainers.backbone import Backbone, _tokenizer, load_backbone

open_clip = pytest.importorskip("open_clip")
transformers = pytest.importorskip("transformers")

WORDS = ["a cat", "a photo of a golden retriever.", "red"]
IMAGE = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 3}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 3}
PLAIN = {"embed_dim": 32, "vision_cfg": IMAGE, "text_cfg": TEXT}
SIZES = TINY | {"text_width": 16}  # narrow, since a vocabulary is large


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """With noise on every parameter, so that none is trivial."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            value += named_tensor(name, tuple(value.shape), 0.05)
    return model.eval().requires_grad_(False)


def assert_equal(backbone: Backbone, model, encode_image, encode_text) -> None:
    """That both towers give the library's features, as they are and at 1e-5."""
    pictures = images(2, backbone.input_resolution)
    tokens = backbone.tokenize(WORDS)
    with torch.no_grad():
        theirs = encode_image(pictures), encode_text(tokens)
        ours = backbone.image(pictures), backbone.text.encode_tokens(tokens)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape and other.abs().max() > 0.01
        assert torch.allclose(mine, other, atol=1e-5)
    assert torch.allclose(backbone.scale, model.logit_scale.exp())


def written(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


# open_clip


@pytest.fixture
def architecture(monkeypatch):
    """A function that gives open_clip the architecture "tiny"."""

    def register(config: dict) -> None:
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)

    return register


OPEN_CLIPS = {
    "LAION and DataComp: gelu": PLAIN,
    "DFN and MetaCLIP: quick_gelu": PLAIN | {"quick_gelu": True},
    "ViT-H, g, bigG: wide heads, another MLP": PLAIN
    | {
        "vision_cfg": IMAGE | {"width": 160, "head_width": 80, "mlp_ratio": 2.35},
        "text_cfg": TEXT | {"heads": 4},
    },
    "larger pictures, shorter texts": PLAIN
    | {"vision_cfg": IMAGE | {"image_size": 56}, "text_cfg": TEXT | {"context_length": 30}},
    "other layer norms": PLAIN
    | {
        "vision_cfg": IMAGE | {"norm_kwargs": {"eps": 1e-2}},
        "text_cfg": TEXT | {"norm_kwargs": {"eps": 1e-3}},
    },
    "a text tower of its own class": PLAIN | {"custom_text": True},
    "a learned scale in a list": PLAIN | {"nonscalar_logit_scale": True},
    "ResNet": PLAIN | {"vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}},
}


@pytest.mark.parametrize("family", OPEN_CLIPS)
def test_an_open_clip_is_computed_as_open_clip_does(family, architecture, tmp_path):
    config = OPEN_CLIPS[family]
    architecture(config)
    torch.manual_seed(0)
    model = shaken(open_clip.create_model("tiny", pretrained=None))
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "weights.pt")
    backbone = load_backbone(f"open_clip:tiny/{tmp_path}/weights.pt")
    assert backbone.activation == ("quick_gelu" if config.get("quick_gelu") else "gelu")
    assert backbone.context_length == config["text_cfg"]["context_length"]
    assert backbone.input == {"SIZE": (config["vision_cfg"]["image_size"],) * 2}
    assert_equal(backbone, model, model.encode_image, model.encode_text)


def test_published_architectures_that_the_towers_compute():
    """By open_clip's own configurations, without their weights."""
    vocabulary = _tokenizer.encoder

    def facts(name: str) -> clips.Facts:
        return clips.open_clip_facts(open_clip.get_model_config(name), {}, name, vocabulary)

    assert (facts("ViT-H-14").image_heads, facts("ViT-bigG-14").image_heads) == (16, 16)
    assert facts("ViT-L-14-336").pixels == 336 and facts("ViT-B-16").activation == "gelu"
    assert facts("ViT-B-16-quickgelu").activation == "quick_gelu"
    assert facts("RN50x4").image_heads is None


REFUSED = {
    "ViT-B-16-SigLIP": "its image tower is timm's vit_base_patch16_siglip_224",
    "EVA02-B-16": "its image tower is timm's eva02_base_patch16_clip_224",
    "convnext_base": "its image tower is timm's convnext_base",
    "coca_ViT-B-32": "it is a CoCa, which has a third tower",
    "ViT-L-14-CLIPA": "its tokenizer is bert-base-uncased, not CLIP's",
    "ViT-H-14-worldwide": "its tokenizer is facebook/xlm-v-base, not CLIP's",
    "roberta-ViT-B-32": "its text tower is roberta-base of transformers",
}
ODD = {
    "layer scale": ({"vision_cfg": IMAGE | {"ls_init_value": 0.1}}, "have layer scale"),
    "average": ({"vision_cfg": IMAGE | {"pool_type": "avg"}}, "takes the feature from the 'avg' t"),
    "tanh": (
        {"text_cfg": TEXT | {"act_kwargs": {"approximate": "tanh"}}},
        "it has act_kwargs {'ap",
    ),
    "end": ({"text_cfg": TEXT | {"pool_type": "eos"}}, "its texts end in token 2, not in CLIP's"),
    "sigmoid": ({"init_logit_bias": -10}, "it was trained with a sigmoid loss (SigLIP)"),
    "news": ({"vision_cfg": IMAGE | {"registers": 4}}, "(it has registers 4)"),
    "norm": ({"text_cfg": TEXT | {"norm_kwargs": {"bias": False}}}, "its layer norms have bias"),
    "heads": ({"text_cfg": TEXT | {"heads": 7}}, "7 heads do not divide a width of 16"),
    "oblong": ({"vision_cfg": IMAGE | {"image_size": [32, 64]}}, "pixels are no squares"),
    "part": ({"text_cfg": {}}, "its configuration is incomplete: KeyError('context_length')"),
    "none": ({"text_cfg": None}, "its configuration lacks vision_cfg or text_cfg"),
}


def test_other_architectures_are_refused_by_reason(architecture):
    for name, why in REFUSED.items():
        assert f"'open_clip:{name}/x' " not in (message := error(f"open_clip:{name}/x.pt"))
        assert message.startswith(
            f"MODEL.BACKBONE.NAME 'open_clip:{name}/x.pt' is not a CLIP of OpenAI's "
            f"architecture ({why}"
        )
        assert message.endswith(": give MODEL.BACKBONE.NAME another CLIP")
    for change, why in ODD.values():
        architecture(PLAIN | change)
        assert why in error("open_clip:tiny/x.pt")


def test_names_of_open_clip_that_do_not_exist(monkeypatch, tmp_path):
    for name in ("open_clip:", "open_clip:ViT-B-32", "open_clip:/x"):
        assert "name an architecture of open_clip and its weights, as in" in error(name)
    assert "the nearest ones are ViT-B-32" in error("open_clip:ViT-B-23/openai")
    message = error("open_clip:ViT-B-32/laion5b")
    assert "open_clip has no weights 'laion5b' of ViT-B-32; it has openai, laion400m_e31" in message
    assert f"there is no file '{tmp_path}/no.pt'" in error(f"open_clip:ViT-B-32/{tmp_path}/no.pt")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    message = error("open_clip:ViT-B-32/openai")
    assert "needs the package open_clip" in message and "pip install open-clip-torch" in message


def test_a_tag_brings_activation_pictures_and_weights(architecture, monkeypatch, tmp_path, capsys):
    architecture(PLAIN)
    weights = vit_weights(**SIZES)
    torch.save(weights, tmp_path / "weights.pt")
    tag = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "interpolation": "bilinear"}
    tag |= {"file": str(tmp_path / "weights.pt"), "resize_mode": "squash", "quick_gelu": True}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", {"dfn": tag})
    backbone = load_backbone("open_clip:tiny/dfn")
    assert backbone.activation == "quick_gelu" and backbone.squashed
    assert "open_clip itself does so under the name tiny-quickgelu only" in capsys.readouterr().out
    assert backbone.input == {
        "SIZE": (32, 32),
        "PIXEL_MEAN": [0.1, 0.2, 0.3],
        "PIXEL_STD": [0.4, 0.5, 0.6],
        "INTERPOLATION": "bilinear",
    }
    plain = Backbone(weights)
    assert torch.equal(backbone.encode_images(images(2, 32)), plain.encode_images(images(2, 32)))
    load_backbone("open_clip:tiny/dfn", activation="gelu")
    assert "ACTIVATION is gelu, but 'open_clip:tiny/dfn' was trained with quick_gelu" in (
        capsys.readouterr().out
    )

    def offline(*_, **__):
        raise OSError("no\nnetwork")

    monkeypatch.setattr(open_clip.pretrained, "download_pretrained", offline)
    monkeypatch.setattr(huggingface_hub.utils, "get_session", Session)
    message = error("open_clip:tiny/dfn")
    assert "'open_clip:tiny/dfn' could not be fetched (OSError: no network)" in message
    assert message.endswith("or give open_clip:tiny/FILE with the path of a file")
    # Without the hub, too: these weights come from another server, of which this is said.
    monkeypatch.setattr(Session, "head", offline)
    assert error("open_clip:tiny/dfn") == message


def test_weights_of_another_size_than_the_architecture(architecture, tmp_path):
    torch.save(vit_weights(**SIZES), tmp_path / "weights.pt")
    name = f"open_clip:tiny/{tmp_path}/weights.pt"
    architecture(PLAIN | {"vision_cfg": IMAGE | {"image_size": 64}})
    assert "weights.pt' is for pictures of 32 pixels, but the architecture of" in error(name)
    architecture(PLAIN | {"text_cfg": TEXT | {"context_length": 30}})
    assert "is for texts of 77 tokens, but" in error(name)


# Hugging Face


def hf_model(vision: dict | None = None, text: dict | None = None) -> torch.nn.Module:
    sizes = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3}
    both = sizes | {"num_attention_heads": 1, "projection_dim": 32}
    config = transformers.CLIPConfig(
        vision_config=both | {"image_size": 32, "patch_size": 8} | (vision or {}),
        text_config=both | {"vocab_size": 49408, "hidden_size": 16} | (text or {}),
        projection_dim=32,
    )
    torch.manual_seed(0)
    return shaken(transformers.CLIPModel(config))


HF_MODELS = {
    "OpenAI": ({}, {}),
    "LAION and DFN: gelu": ({"hidden_act": "gelu"}, {"hidden_act": "gelu"}),
    "wide heads, another MLP": (
        {"hidden_size": 160, "num_attention_heads": 2, "intermediate_size": 376},
        {"num_attention_heads": 4, "intermediate_size": 100},
    ),
    "larger pictures, shorter texts": ({"image_size": 56}, {"max_position_embeddings": 30}),
    "other layer norms": ({"layer_norm_eps": 1e-2}, {"layer_norm_eps": 1e-3}),
    "end of text by number": ({}, {"eos_token_id": 2}),
}


def pooled(output):
    return getattr(output, "pooler_output", output)


@pytest.mark.parametrize("family", HF_MODELS)
def test_a_hugging_face_clip_is_computed_as_transformers_does(family, tmp_path, capsys):
    model = hf_model(*HF_MODELS[family])
    model.save_pretrained(tmp_path)
    capsys.readouterr()
    backbone = load_backbone(str(tmp_path))
    assert capsys.readouterr().out == ""
    assert_equal(
        backbone,
        model,
        lambda pictures: pooled(model.get_image_features(pixel_values=pictures)),
        lambda tokens: pooled(model.get_text_features(input_ids=tokens)),
    )


def hf_weights(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """OpenAI's weights of these SIZES by Hugging Face's names, written out here by hand."""
    theirs = {
        "logit_scale": weights["logit_scale"],
        "text_projection.weight": weights["text_projection"].T.contiguous(),
        "visual_projection.weight": weights["visual.proj"].T.contiguous(),
        "text_model.embeddings.token_embedding.weight": weights["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": weights["positional_embedding"],
        "text_model.embeddings.position_ids": torch.arange(77)[None],
        "vision_model.embeddings.class_embedding": weights["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": weights["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": weights["visual.positional_embedding"],
    }
    for kind in ("weight", "bias"):
        theirs[f"text_model.final_layer_norm.{kind}"] = weights[f"ln_final.{kind}"]
        theirs[f"vision_model.pre_layrnorm.{kind}"] = weights[f"visual.ln_pre.{kind}"]
        theirs[f"vision_model.post_layernorm.{kind}"] = weights[f"visual.ln_post.{kind}"]
        for ours, tower in (("", "text"), ("visual.", "vision")):
            for i in range(3):
                block = f"{ours}transformer.resblocks.{i}."
                place = f"{tower}_model.encoder.layers.{i}."
                q, k, v = weights[f"{block}attn.in_proj_{kind}"].chunk(3)
                for name, value in (("q", q), ("k", k), ("v", v)):
                    theirs[f"{place}self_attn.{name}_proj.{kind}"] = value.clone()
                theirs[f"{place}self_attn.out_proj.{kind}"] = weights[
                    f"{block}attn.out_proj.{kind}"
                ]
                theirs[f"{place}layer_norm1.{kind}"] = weights[f"{block}ln_1.{kind}"]
                theirs[f"{place}layer_norm2.{kind}"] = weights[f"{block}ln_2.{kind}"]
                theirs[f"{place}mlp.fc1.{kind}"] = weights[f"{block}mlp.c_fc.{kind}"]
                theirs[f"{place}mlp.fc2.{kind}"] = weights[f"{block}mlp.c_proj.{kind}"]
    return theirs


HF_CONFIG = {
    "model_type": "clip",
    "text_config": {"hidden_size": 16, "num_attention_heads": 1},
    "vision_config": {
        "hidden_size": 64,
        "num_attention_heads": 1,
        "image_size": 32,
        "patch_size": 8,
    },
}
PICTURES = {
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
    "resample": 3,
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 32, "width": 32},
}


def write(folder: Path, name: str, content: object) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text(json.dumps(content))


@pytest.fixture(scope="module")
def tiny_weights():
    return vit_weights(**SIZES)


@pytest.fixture
def folder(tmp_path, tiny_weights):
    """A model's folder as Hugging Face's hub has it, with the weights `tiny_weights`."""
    home = tmp_path / "hf"
    write(home, "config.json", HF_CONFIG)
    write(home, "preprocessor_config.json", PICTURES)
    write(home, "vocab.json", _tokenizer.encoder)
    save_file(hf_weights(tiny_weights), home / "model.safetensors")
    return home


@pytest.mark.parametrize(
    ("family", "refused"),
    [
        (
            "wide heads, another MLP",
            {"clip": "has 4 heads of attention in blocks of 16 numbers, and clip.load computes 0"},
        ),
        (
            "other layer norms",
            {
                name: r"adds 0.0\d* to the variance .*: choose --format hf"
                for name in ("clip", "open_clip")
            },
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_such_a_clip_is_exported_exactly_or_refused(family, refused, tmp_path):
    """As HF_MODELS are computed; the layouts themselves: tests/test_layouts.py."""
    hf_model(*HF_MODELS[family]).save_pretrained(tmp_path / "given")
    backbone, cfg = load_backbone(str(tmp_path / "given")), make_cfg(tmp_path, "CoOp")
    for layout, message in refused.items():
        with pytest.raises(UserError, match=message):
            layouts.LAYOUTS[layout](backbone, cfg)
    folder = written(layouts.for_hf(backbone, cfg), tmp_path / "hf")
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    assert_equal(
        backbone,
        model,
        lambda pictures: pooled(model.get_image_features(pixel_values=pictures)),
        lambda tokens: pooled(model.get_text_features(input_ids=tokens)),
    )
    if "open_clip" not in refused:
        folder = written(layouts.for_open_clip(backbone, cfg), tmp_path / "open_clip")
        model = open_clip.create_model(f"local-dir:{folder}").eval()
        assert_equal(backbone, model, model.encode_image, model.encode_text)


def test_prompts_give_the_same_in_every_layout(folder, tiny_weights, tmp_path):
    save_file(tiny_weights, tmp_path / "openai.safetensors")
    same = [load_backbone(str(tmp_path / "openai.safetensors")), load_backbone(str(folder))]
    write(tmp_path / "oc", "open_clip_config.json", {"model_cfg": PLAIN | {"quick_gelu": True}})
    torch.save(tiny_weights, tmp_path / "oc/open_clip_pytorch_model.bin")
    same.append(load_backbone(str(tmp_path / "oc")))
    found = []
    for backbone in same:
        tokens = backbone.tokenize(WORDS)
        embedded, end = backbone.text.embed(tokens), tokens.argmax(1)
        deep = [named_tensor(f"text-{i}", (2, 16), 0.1) for i in range(2)]
        prefix = torch.cat([embedded[0, :1], named_tensor("context", (3, 16), 0.1)])
        visual = [named_tensor(f"image-{i}", (2, 64), 0.1) for i in range(3)]
        found.append(
            (
                backbone.text(embedded[:, 1:], end + 3, prefix, deep),
                backbone.text.encode_tokens(tokens[1:2], deep),
                backbone.image(images(2, 32), visual[0], visual[1:]),
            )
        )
        assert backbone.fingerprint == same[0].fingerprint
    for other in found[1:]:
        assert all(torch.equal(mine, first) for mine, first in zip(other, found[0], strict=True))


def test_weights_in_parts_or_as_a_pickle(folder, tiny_weights):
    expected = load_backbone(str(folder))
    weights = hf_weights(tiny_weights)
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    one = load_backbone(str(folder))
    (folder / "pytorch_model.bin").unlink()
    parts = {name: f"model-{1 + (i > 9)}.safetensors" for i, name in enumerate(weights)}
    for part in set(parts.values()):
        held = {name: weights[name] for name in weights if parts[name] == part}
        save_file(held, folder / part)
    write(folder, "model.safetensors.index.json", {"weight_map": parts})
    for other in (one, load_backbone(str(folder))):
        pair = zip(other.state_dict().values(), expected.state_dict().values(), strict=True)
        assert all(torch.equal(mine, same) for mine, same in pair)
        assert other.sha256 != expected.sha256
    (folder / "model-2.safetensors").unlink()
    message = error(str(folder))
    assert "index.json' names 'model-2.safetensors', which is missing: fetch that file" in message
    write(folder, "model.safetensors.index.json", {})
    assert "index.json' names no files" in error(str(folder))


def test_what_config_json_leaves_out_is_as_in_transformers(tmp_path):
    config = transformers.CLIPConfig()
    facts = clips.hf_facts({"model_type": "clip"}, {}, "x", _tokenizer.encoder)
    text, image = config.text_config, config.vision_config
    assert (facts.text_heads, facts.image_heads) == (
        text.num_attention_heads,
        image.num_attention_heads,
    )
    assert facts.activation == text.hidden_act == image.hidden_act
    assert (facts.pixels, facts.context_length) == (image.image_size, text.max_position_embeddings)
    assert (facts.text_eps, facts.image_eps) == (text.layer_norm_eps, image.layer_norm_eps)
    assert len(_tokenizer.encoder) == text.vocab_size
    assert _tokenizer.encoder[clips.END_OF_TEXT] == text.eos_token_id


HF_ODD = {
    "a SigLIP": ({"model_type": "siglip"}, "its config.json is of the model type 'siglip', not"),
    "tanh": (
        {"text_config": {"hidden_act": "gelu_new"}, "vision_config": {"hidden_act": "gelu_new"}},
        "(its activation is gelu_new)",
    ),
    "two": ({"text_config": {"hidden_act": "gelu"}}, "its towers have two activations, gelu and"),
    "words": ({"text_config": {"vocab_size": 32000}}, "it has 32000 tokens, and CLIP's tokenizer"),
    "end": ({"text_config": {"eos_token_id": 102}}, "its texts end in token 102, not in CLIP's"),
    "heads": ({"vision_config": {"num_attention_heads": 7}}, "7 heads do not divide a width"),
    "depth": ({"vision_config": {"num_channels": 4}}, "its pictures have 4 channels"),
    "list": ({"text_config": [1]}, "its config.json is damaged: TypeError"),
}


def test_other_models_of_hugging_face_are_refused_by_reason(folder):
    for change, why in HF_ODD.values():
        write(folder, "config.json", HF_CONFIG | change)
        message = error(str(folder))
        assert why in message and message.endswith(": give MODEL.BACKBONE.NAME another CLIP")
    (folder / "config.json").write_text("{")
    assert "config.json' is not valid JSON" in error(str(folder))
    (folder / "config.json").write_text("[]")
    assert "config.json' holds no keys: fetch it again" in error(str(folder))
    (folder / "config.json").unlink()
    message = error(str(folder))
    assert "has neither config.json (Hugging Face's layout) nor open_clip_config.json" in message
    write(folder, "config.json", HF_CONFIG | {"vision_config": {"num_attention_heads": 1}})
    assert "it reads 224 pixels, but its preprocessor makes 32" in error(str(folder))
    (folder / "preprocessor_config.json").unlink()
    assert "is for pictures of 32 pixels, but the architecture of" in error(str(folder))
    (folder / "model.safetensors").unlink()
    assert "has no weights beside its configuration: put model.safetensors or" in error(str(folder))


def test_another_tokenizer_is_refused(folder):
    vocabulary = _tokenizer.encoder
    swapped = vocabulary | {"cat</w>": vocabulary["dog</w>"], "dog</w>": vocabulary["cat</w>"]}
    write(folder, "vocab.json", swapped)
    assert "its vocab.json is of another tokenizer than CLIP's: '" in error(str(folder))
    (folder / "vocab.json").unlink()
    load_backbone(str(folder))  # its size and its end of text are CLIP's
    write(folder, "tokenizer.json", {"model": {"vocab": [["a", -1.0]]}})
    assert "its tokenizer.json is of another tokenizer than CLIP's" in error(str(folder))
    special = [token for token in vocabulary if token.endswith("text|>")]
    plain = {token: number for token, number in vocabulary.items() if token not in special}
    added = [{"content": token, "id": vocabulary[token]} for token in special]
    write(folder, "tokenizer.json", {"model": {"vocab": plain}, "added_tokens": added})
    load_backbone(str(folder))
    write(folder, "tokenizer.json", {"model": {"vocab": plain}})
    assert "text|>' is None there, not 4940" in error(str(folder))


def test_weights_that_do_not_belong_there(folder, tiny_weights, tmp_path):
    weights = hf_weights(tiny_weights)
    save_file(weights | {"vision_model.head.probe": torch.ones(1)}, folder / "model.safetensors")
    assert "'vision_model.head.probe' is no weight of CLIPModel" in error(str(folder))
    name = "text_model.encoder.layers.1.self_attn.k_proj.bias"
    lacking = {key: value for key, value in weights.items() if key != name}
    save_file(lacking, folder / "model.safetensors")
    assert "is not a CLIP of OpenAI's architecture ('transformer.resblocks.1" in error(str(folder))
    message = error(str(folder / "model.safetensors"))
    assert "is a file of Hugging Face's layout" in message and "give MODEL.BACKBONE.NAME" in message
    scaled = tiny_weights | {"visual.transformer.resblocks.0.ls_1.gamma": torch.ones(64)}
    torch.save(scaled, tmp_path / "scaled.pt")
    assert "scaled.pt' is not a CLIP of OpenAI's architecture (its blocks have 'ls_1.gamma')" in (
        error(str(tmp_path / "scaled.pt"))
    )


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_file_that_is_cut_off(folder, tiny_weights, name, share):
    (folder / "model.safetensors").unlink()
    if name.endswith("bin"):
        torch.save(hf_weights(tiny_weights), folder / name)
    else:
        save_file(hf_weights(tiny_weights), folder / name)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(share * len(whole))])
    assert f"{name}' is neither a file of CLIP weights" in (message := error(str(folder)))
    assert "or is damaged: fetch it again" in message


def test_a_wide_file_needs_its_architecture(tmp_path, monkeypatch, architecture):
    """Weights alone would be computed with the wrong attention heads."""
    monkeypatch.setattr("trainers.backbone.WIDEST", 64)
    weights = vit_weights(**SIZES | {"vision_width": 160})
    torch.save(weights, tmp_path / "wide.pt")
    message = error(str(tmp_path / "wide.pt"))
    assert "wide.pt' has an image tower of width 160, and weights do not tell how many" in message
    assert "give MODEL.BACKBONE.NAME open_clip:ARCH/FILE" in message
    architecture(PLAIN | {"vision_cfg": IMAGE | {"width": 160, "head_width": 80}})
    assert load_backbone(f"open_clip:tiny/{tmp_path}/wide.pt").image.blocks[0].heads == 2


# The hub


class Session:
    """Stands for the session of Hugging Face's library, on a machine with a network."""

    def head(self, address: str, timeout: float) -> None:
        assert address == huggingface_hub.constants.ENDPOINT and timeout == clips.REACH_S


@pytest.fixture
def hub(folder, monkeypatch):
    """Stands for Hugging Face's hub, with the one model ORG/tiny; a list of what was asked for."""
    asked: list[tuple] = []
    monkeypatch.setattr(huggingface_hub.utils, "get_session", Session)

    def download(repository: str, file: str, revision: str | None = None) -> str:
        asked.append((repository, file, revision))
        if repository != "ORG/tiny":
            raise OSError("404: no such model")
        if not (folder / file).is_file():
            raise EntryNotFoundError(f"404: {file}")
        return str(folder / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


def test_a_model_of_the_hub(hub, folder):
    assert load_backbone("hf:ORG/tiny").sha256 == load_backbone(str(folder)).sha256
    assert {revision for _, _, revision in hub} == {None}
    files = [file for _, file, _ in hub]
    assert files[:2] == ["config.json", "model.safetensors"] and "pytorch_model.bin" not in files
    hub.clear()
    load_backbone("hf:ORG/tiny@abc123")
    assert {revision for _, _, revision in hub} == {"abc123"}


def test_a_model_of_the_hub_in_parts_and_one_of_open_clip(hub, folder, tiny_weights, monkeypatch):
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    parts = dict.fromkeys(hf_weights(tiny_weights), "model-1.safetensors")
    write(folder, "model.safetensors.index.json", {"weight_map": parts})
    load_backbone("hf:ORG/tiny")
    assert ("ORG/tiny", "model-1.safetensors", None) in hub
    for name in ("config.json", "model.safetensors.index.json"):
        (folder / name).unlink()
    write(
        folder, "open_clip_config.json", {"model_cfg": PLAIN, "preprocess_cfg": {"mean": [0] * 3}}
    )
    save_file(tiny_weights, folder / "open_clip_model.safetensors")
    backbone = load_backbone("hf:ORG/tiny")
    assert backbone.activation == "gelu" and backbone.input["PIXEL_MEAN"] == [0, 0, 0]


def test_what_the_hub_does_not_give(hub, folder, monkeypatch):
    for name in ("hf:", "hf:tiny", "hf:ORG/", "hf:a/b/c"):
        assert "name a model of Hugging Face's hub, as in hf:openai/" in error(name)
    message = error("hf:ORG/none")
    assert "'hf:ORG/none' could not be fetched (OSError: 404: no such model" in message
    assert message.endswith("or give the path of the model's folder")
    write(folder, "config.json", {"model_type": "siglip"})
    assert "its config.json is of the model type 'siglip'" in error("hf:ORG/tiny")
    (folder / "config.json").unlink()
    assert "'hf:ORG/tiny' has no config.json: give" in error("hf:ORG/tiny")

    def offline(*_, **__):
        raise LocalEntryNotFoundError("not in the cache, and no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    message = error("hf:ORG/tiny")
    assert "could not be fetched (LocalEntryNotFoundError: not in the cache, and no" in message


def test_without_network_the_hub_is_asked_once(monkeypatch, capfd):
    """Its library alone asks six times for each of two files, which takes 48 s."""
    asked = []

    class Unplugged(Session):
        def head(self, address: str, timeout: float) -> None:
            super().head(address, timeout)
            asked.append(address)
            raise RuntimeError("name or service not known")

    monkeypatch.setattr(huggingface_hub.utils, "get_session", Unplugged)
    message = error("hf:ORG/never-fetched")
    why = "https://.* is not reached, name or service not known, and it is not on this machine"
    assert re.search(rf"could not be fetched \(LocalEntryNotFoundError: {why}\): look", message)
    assert len(asked) == 1 and "Retrying" not in capfd.readouterr().err
    assert not huggingface_hub.constants.HF_HUB_OFFLINE
    message = error("open_clip:ViT-B-32/laion2b_s34b_b79k")
    assert re.search(rf"could not be fetched \(FileNotFoundError: {why}\): look", message)
    assert len(asked) == 2


def test_without_network_a_cached_model_is_read_at_once(hub, folder, monkeypatch):
    def unplugged(*_, **__):
        raise RuntimeError("no network")

    monkeypatch.setattr(Session, "head", unplugged)
    assert load_backbone("hf:ORG/tiny").sha256 == load_backbone(str(folder)).sha256
    # What is wrong with a file is told, and not that the network is away.
    write(folder, "model.safetensors.index.json", {})
    (folder / "model.safetensors").unlink()
    message = error("hf:ORG/tiny")
    assert "could not be fetched (KeyError: 'weight_map')" in message


# Runs


def trained_run(home: Path, trainer: str, *options):
    run = make_trainer(home, trainer, "OPTIM.MAX_EPOCH", 1, *options)
    run.train()
    return run


def test_a_run_reads_pictures_as_its_clip_was_trained(folder, tiny_weights, tmp_path, capsys):
    from tools import trained

    torch.save(tiny_weights, tmp_path / "clip.pt")
    name = ("MODEL.BACKBONE.NAME", str(folder), "INPUT.SIZE", (64, 64))
    run = trained_run(tmp_path, "VPT", *name)
    note = next(
        line for line in capsys.readouterr().out.splitlines() if "pictures are read" in line
    )
    assert note.endswith(
        "INPUT has SIZE (32, 32), PIXEL_MEAN [0.5, 0.4, 0.3], PIXEL_STD [0.2, 0.3, 0.4], "
        "INTERPOLATION bicubic instead of SIZE (64, 64), PIXEL_MEAN [0.485, 0.456, 0.406], "
        "PIXEL_STD [0.229, 0.224, 0.225], INTERPOLATION bilinear"
    )
    picture = run.test_loader.dataset[0]["img"]
    assert picture.shape == (3, 32, 32)
    record = json.loads((tmp_path / "output/results.json").read_text())
    assert record["config"]["INPUT"]["SIZE"] == [64, 64]  # as given, so that it is the same run
    assert record["config_hash"] == run_hash(make_cfg(tmp_path, "VPT", "OPTIM.MAX_EPOCH", 1, *name))
    assert record["pretrained"] == {
        "sha256": run.backbone.sha256,
        "activation": "quick_gelu",
        "input": {
            "SIZE": [32, 32],
            "PIXEL_MEAN": PICTURES["image_mean"],
            "PIXEL_STD": PICTURES["image_std"],
            "INTERPOLATION": "bicubic",
        },
    }
    used = trained.load(str(tmp_path / "output"))
    assert "seems to be another CLIP" not in capsys.readouterr().err
    assert repr(used.transform) == repr(run.test_loader.dataset.transform)
    with torch.no_grad():
        assert torch.equal(used.clip(picture[None]), run.clip.logits(picture[None]))
    with_file = trained.load(str(tmp_path / "output"), weights=str(tmp_path / "clip.pt"))
    assert repr(with_file.transform) == repr(used.transform)
    with torch.no_grad():
        assert torch.equal(with_file.clip(picture[None]), used.clip(picture[None]))


def test_a_configuration_can_keep_its_input(folder, tmp_path, capsys):
    name = ("MODEL.BACKBONE.NAME", str(folder), "MODEL.BACKBONE.INPUT", "config")
    run = make_trainer(tmp_path, "CoOp", *name)
    assert "pictures are read" not in capsys.readouterr().out
    assert run.test_loader.dataset.transform.transforms[-1].mean == [0.485, 0.456, 0.406]
    with pytest.raises(Exception, match=r"INPUT.SIZE is \(64, 64\) but .* reads 32 x 32 pixels"):
        make_trainer(tmp_path, "CoOp", *name, "INPUT.SIZE", (64, 64))


def test_a_gelu_model_is_used_again_with_its_activation(tmp_path, architecture, tiny_weights):
    from tools import trained

    architecture(PLAIN)
    torch.save(tiny_weights, tmp_path / "weights.pt")
    name = f"open_clip:tiny/{tmp_path}/weights.pt"
    run = trained_run(tmp_path, "MaPLe", "MODEL.BACKBONE.NAME", name)
    again = trained.load(str(tmp_path / "output"), weights=str(tmp_path / "weights.pt"))
    assert again.clip.backbone.activation == run.backbone.activation == "gelu"


def test_openais_names_tell_their_input(tmp_path, monkeypatch, capsys):
    import clip.clip

    make_cfg(tmp_path, "CoOp")  # writes clip.pt
    monkeypatch.setattr(clip.clip, "_download", lambda url, folder: str(tmp_path / "clip.pt"))
    run = make_trainer(
        tmp_path, "ZeroshotCLIP", "MODEL.BACKBONE.NAME", "ViT-L/14@336px", "INPUT.SIZE", (96, 96)
    )
    assert "pictures are read as ViT-L/14@336px was trained" in capsys.readouterr().out
    normalise = run.test_loader.dataset.transform.transforms[-1]
    _, preprocess = clip.load(str(tmp_path / "clip.pt"), device="cpu")
    theirs = preprocess.transforms[-1]
    assert tuple(normalise.mean) == tuple(theirs.mean) and tuple(normalise.std) == tuple(theirs.std)
    assert run.test_loader.dataset[0]["img"].shape == (3, 32, 32)


def test_the_hash_of_a_run_follows_the_content_of_a_model(folder, tmp_path, tiny_weights):
    torch.save(tiny_weights, tmp_path / "weights.pt")
    named = f"open_clip:ViT-B-32/{tmp_path}/weights.pt"
    names = [str(folder), named, named.replace("B-32", "B-16"), "open_clip:ViT-B-32/openai"]

    def hashes() -> list[str]:
        return [config_hash(make_cfg(tmp_path, "CoOp", "MODEL.BACKBONE.NAME", n)) for n in names]

    before = hashes()
    assert len(set(before)) == 4
    torch.save(tiny_weights | {"logit_scale": torch.tensor(3.0)}, tmp_path / "weights.pt")
    write(folder, "config.json", HF_CONFIG | {"comment": "changed"})
    after = hashes()
    assert [one == other for one, other in zip(before, after, strict=True)] == [False] * 3 + [True]


# bfloat16


def test_fingerprints_tell_what_determines_features(tiny_weights):
    facts = clips.Facts("quick_gelu", 32, 77, 1, 1)
    kinds = [
        Backbone(tiny_weights),
        Backbone(tiny_weights, "bf16"),
        Backbone(tiny_weights, "fp16"),
        Backbone(tiny_weights, activation="gelu"),
        Backbone(tiny_weights, facts=clips.Facts("quick_gelu", 32, 77, 2, 1)),
        Backbone(tiny_weights, facts=clips.Facts("quick_gelu", 32, 77, 1, 1, image_eps=1e-3)),
        Backbone(tiny_weights | {"visual.proj": tiny_weights["visual.proj"] + 1e-3}),
    ]
    assert len({backbone.fingerprint for backbone in kinds}) == len(kinds)
    assert {value.dtype for value in tiny_weights.values()} == {torch.float32}  # as they were
    assert Backbone(tiny_weights, facts=facts).fingerprint == kinds[0].fingerprint


def test_bfloat16_features_are_close(tiny_weights):
    exact, low = Backbone(tiny_weights), Backbone(tiny_weights, "bf16")
    assert low.text.dtype == low.image.dtype == torch.bfloat16
    norms = [buffer for name, buffer in low.named_buffers() if "ln_" in name]
    assert len(norms) > 20 and {norm.dtype for norm in norms} == {torch.float32}
    for ours, theirs in (
        (low.encode_images(images(4, 32)), exact.encode_images(images(4, 32))),
        (low.encode_texts(WORDS), exact.encode_texts(WORDS)),
    ):
        assert ours.dtype == torch.float32 and not torch.equal(ours, theirs)
        assert (ours * theirs).sum(1).min() > 0.999


@pytest.mark.parametrize("trainer", ["CoOp", "MaPLe", "CraftVPT"])
def test_methods_learn_in_bfloat16(trainer, tmp_path):
    node = trainer.removeprefix("Craft").upper()
    run = make_trainer(tmp_path, trainer, "OPTIM.MAX_EPOCH", 1, f"TRAINER.{node}.PREC", "bf16")
    start = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.train()
    for name, learned in run.model.named_parameters():
        assert learned.dtype == torch.float32 and learned.isfinite().all(), name
    changed = [name for name in start if not torch.equal(run.model.state_dict()[name], start[name])]
    assert changed
    with torch.no_grad():
        assert run.clip.logits(run.test_loader.dataset[0]["img"][None]).dtype == torch.float32


def test_a_resnet_in_bfloat16_keeps_batch_norm(architecture, tmp_path):
    architecture(OPEN_CLIPS["ResNet"])
    torch.manual_seed(0)
    model = shaken(open_clip.create_model("tiny", pretrained=None))
    exact, low = (Backbone(model.state_dict(), precision, "gelu") for precision in ("fp32", "bf16"))
    assert low.image.tower.bn1.weight.dtype == torch.float32
    pair = low.encode_images(images(4, 32)), exact.encode_images(images(4, 32))
    assert (pair[0] * pair[1]).sum(1).min() > 0.99
