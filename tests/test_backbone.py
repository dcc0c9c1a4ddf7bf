"""Loading CLIP from names and files, sizes, precisions, and what is said about wrong ones."""

import copy
import hashlib
import shutil
import urllib.error

import clip.clip
import clip.model
import pytest
import torch
from published import nested
from tiny_clip import TINY, clip_model, images, vit_weights

from dassl.utils import UserError
from trainers import backbone as module
from trainers.backbone import Backbone, load_backbone, unit
from trainers.prompts import Context
from trainers.templates import SIXTY


@pytest.fixture(scope="module")
def weights():
    return vit_weights(**TINY)


@pytest.fixture
def file(tmp_path, weights):
    torch.save(weights, tmp_path / "clip.pt")
    return str(tmp_path / "clip.pt")


def test_sizes(file):
    backbone = load_backbone(file)
    assert (backbone.input_resolution, backbone.embed_dim, backbone.context_length) == (32, 32, 77)
    assert (
        backbone.text.width,
        backbone.text.layers,
        backbone.image.width,
        backbone.image.layers,
    ) == (64, 3, 64, 3)
    assert backbone.text.dtype == backbone.image.dtype == torch.float32
    assert backbone.scale.item() == pytest.approx(7.389056)


def test_every_kind_of_file_gives_the_same_features(file, tmp_path, weights):
    half = {name: value.half() for name, value in weights.items()}
    torch.save({"state_dict": half, "epoch": 3}, tmp_path / "half.pt")
    model = clip_model(weights)
    torch.jit.trace(model, (images(1, 32), clip.tokenize("cat")), check_trace=False).save(
        tmp_path / "archive.pt"
    )
    expected = load_backbone(file).encode_images(images(2, 32))
    assert torch.equal(
        load_backbone(str(tmp_path / "archive.pt")).encode_images(images(2, 32)), expected
    )
    from_half = load_backbone(str(tmp_path / "half.pt"))
    assert from_half.text.dtype == torch.float32
    assert torch.allclose(from_half.encode_images(images(2, 32)), expected, atol=1e-3)


def test_clip_itself_reads_the_same_file(file):
    """What this project loads stays loadable by clip.load, with the same features up to clip's
    rounding to half.
    """
    model, _ = clip.load(file, device="cpu")
    with torch.no_grad():
        theirs = unit(model.encode_image(images(2, 32)))
    assert torch.allclose(load_backbone(file).encode_images(images(2, 32)), theirs, atol=1e-3)


def test_a_relative_path_is_also_looked_up_from_the_repository(file, monkeypatch, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    assert load_backbone("clip.pt").embed_dim == 32


def test_loading_draws_no_random_numbers(file):
    before = torch.get_rng_state()
    load_backbone(file)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_fingerprint_follows_the_image_tower(weights):
    same, other = dict(weights), dict(weights)
    other["visual.proj"] = other["visual.proj"] + 1e-3
    assert (
        Backbone(weights).fingerprint == Backbone(same).fingerprint != Backbone(other).fingerprint
    )
    assert Backbone(weights, "fp16").fingerprint != Backbone(weights).fingerprint


def test_images_in_pieces_give_the_same_features(weights, monkeypatch):
    backbone = Backbone(weights)
    whole = backbone.encode_images(images(5, 32))
    prompts = torch.randn(3, backbone.image.width, requires_grad=True)
    prompted = backbone.encode_images(images(5, 32), prompts, [prompts])
    seen = []
    backbone.image.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", 2 * (17 + 3))
    assert torch.allclose(backbone.encode_images(images(5, 32)), whole, atol=1e-6)
    with torch.no_grad():
        pieces = backbone.encode_images(images(5, 32), prompts, [prompts])
    assert torch.allclose(pieces, prompted, atol=1e-6) and not pieces.requires_grad
    assert seen == [2, 2, 1, 2, 2, 1]
    # What is learned from is one piece: the sum of a gradient does not depend on the cache.
    assert torch.equal(backbone.encode_images(images(5, 32), prompts, [prompts]), prompted)
    assert seen[6:] == [5]


# Names of training codes, activations, numbers that are none


def test_names_and_wrappers_of_training_codes(file, tmp_path, weights):
    expected = load_backbone(file).encode_images(images(2, 32))
    parallel = {f"module.{name}": value for name, value in weights.items()}
    for content in (
        parallel,
        {"epoch": 3, "name": "run", "state_dict": parallel},
        {"epoch": 3, "model": weights},
        {
            "model": {
                "state_dict": {f"module._orig_mod.{name}": value for name, value in weights.items()}
            }
        },
    ):
        torch.save(content, tmp_path / "wrapped.pt")
        assert torch.equal(
            load_backbone(str(tmp_path / "wrapped.pt")).encode_images(images(2, 32)), expected
        )


def with_gelu(model: torch.nn.Module) -> torch.nn.Module:
    """clip's own model as open_clip's plain configurations compute it."""
    for part in list(model.modules()):
        for name, child in part.named_children():
            if isinstance(child, clip.model.QuickGELU):
                setattr(part, name, torch.nn.GELU())
    return model


def test_both_activations_are_exact(file, weights):
    model = clip_model(weights)
    texts, found = ["a cat", "a photo of a dog"], {}
    with torch.no_grad():
        for activation in ("quick_gelu", "gelu"):
            model = with_gelu(model) if activation == "gelu" else model
            backbone = load_backbone(file, activation=activation)
            assert backbone.activation == activation
            found[activation] = backbone.encode_images(images(2, 32)), backbone.encode_texts(texts)
            assert torch.allclose(
                found[activation][0], unit(model.encode_image(images(2, 32))), atol=1e-6
            )
            assert torch.allclose(
                found[activation][1], unit(model.encode_text(backbone.tokenize(texts))), atol=1e-6
            )
    for one, other in zip(*found.values(), strict=True):
        assert (one - other).abs().max() > 1e-5


def test_the_text_tower_beside_a_resnet_has_an_activation_too(resnet):
    model = with_gelu(copy.deepcopy(resnet))
    backbone = Backbone(resnet.state_dict(), activation="gelu")
    texts = ["a cat", "a photo of a dog"]
    assert torch.allclose(
        backbone.encode_texts(texts), unit(model.encode_text(backbone.tokenize(texts))), atol=1e-6
    )
    assert torch.allclose(
        backbone.image(images(3, 32)), resnet.encode_image(images(3, 32)), atol=1e-5
    )


def test_caches_know_the_activation_and_stay_valid_for_quick_gelu(weights):
    digest = hashlib.sha256(b"fp32")  # as before there was a choice
    for name in sorted(name for name in weights if name.startswith("visual.")):
        digest.update(name.removeprefix("visual.").encode())
        digest.update(weights[name].numpy().tobytes())
    assert (
        Backbone(weights).fingerprint
        == digest.hexdigest()
        != Backbone(weights, activation="gelu").fingerprint
    )


def test_auto_knows_openais_names_files_and_archives_and_the_bundled_file(
    file, weights, tmp_path, monkeypatch, capsys
):
    def auto(path: str = file) -> str:
        return load_backbone(path).activation

    monkeypatch.setattr(module, "NARROWEST", 1)
    message = error(file)
    assert (
        "clip.pt' is none of OpenAI's CLIPs, and its weights do not tell the activation" in message
    )
    assert "set MODEL.BACKBONE.ACTIVATION to gelu" in message
    assert (
        load_backbone(file, activation="gelu").activation == "gelu"
        and capsys.readouterr().out == ""
    )
    torch.save(
        {
            **weights,
            "input_resolution": torch.tensor(32),
            "context_length": torch.tensor(77),
            "vocab_size": torch.tensor(49408),
        },
        tmp_path / "kept.pt",
    )
    assert auto(str(tmp_path / "kept.pt")) == "quick_gelu"
    with monkeypatch.context() as patch:
        patch.setattr(clip.clip, "_download", lambda url, folder: file)
        assert auto("ViT-B/16") == "quick_gelu"
    with monkeypatch.context() as patch:
        archive = tmp_path / "archive.pt"
        torch.jit.script(nested({}, weights)).save(archive)
        assert "none of OpenAI's CLIPs" in error(str(archive))
        url = f"https://example.org/{hashlib.sha256(archive.read_bytes()).hexdigest()}/x.pt"
        patch.setitem(clip.clip._MODELS, "x", url)
        assert auto(str(archive)) == "quick_gelu"
        assert load_backbone(str(archive), activation="gelu").activation == "gelu"
        assert "MODEL.BACKBONE.ACTIVATION is gelu, but" in capsys.readouterr().out
    (tmp_path / "repository/assets").mkdir(parents=True)
    shutil.copy(file, tmp_path / "repository/assets/bundled.pt")
    monkeypatch.setattr(module, "ROOT", tmp_path / "repository")
    assert auto() == "quick_gelu" and capsys.readouterr().out == ""


def test_auto_says_what_it_takes_a_small_file_for(file, capsys):
    assert load_backbone(file).activation == "quick_gelu"
    (line,) = capsys.readouterr().out.splitlines()
    assert "clip.pt' is none of OpenAI's CLIPs and smaller than any published one" in line
    assert "it is computed with quick_gelu" in line and "set MODEL.BACKBONE.ACTIVATION" in line
    load_backbone(file, activation="quick_gelu")
    load_backbone(str(module.ROOT / "assets/drawings_clip.pt"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("text_projection", torch.tensor(1.0), r"'text_projection' is \(\) of torch.float32"),
        ("visual.conv1.weight", torch.ones(3), r"'visual.conv1.weight' is \(3,\)"),
        ("text_projection", torch.ones(64, 32, dtype=torch.complex64), "of torch.complex64"),
        (
            "token_embedding.weight",
            torch.ones(100, 64),
            "it has 100 tokens, and CLIP's tokenizer 49408",
        ),
    ],
)
def test_weights_of_another_shape_are_no_clip(tmp_path, weights, key, value, words):
    torch.save(weights | {key: value}, tmp_path / "odd.pt")
    with pytest.raises(
        UserError, match=rf"odd.pt' is not a CLIP of OpenAI's architecture \(.*{words}"
    ):
        load_backbone(str(tmp_path / "odd.pt"))


def test_weights_that_are_no_numbers(tmp_path, weights):
    masked = weights | {"attn_mask": torch.full((2, 2), -torch.inf).triu(1)}
    torch.save(masked, tmp_path / "mask.pt")
    load_backbone(str(tmp_path / "mask.pt"))
    for value in (torch.nan, torch.inf):
        wrong = weights["visual.proj"].clone()
        wrong[3, 4] = value
        torch.save(weights | {"visual.proj": wrong}, tmp_path / "wrong.pt")
        assert "wrong.pt' holds NaN or infinite numbers in 'visual.proj'" in error(
            str(tmp_path / "wrong.pt")
        )


# Words without an embedding


@pytest.fixture
def forgetful(weights):
    """A CLIP that has never learned "dog", the second half of "tabby", "!" and "x"; and what it
    says.
    """
    embedding = weights["token_embedding.weight"].clone()
    encode = module.SimpleTokenizer().encode
    for word in ("dog", "!", "x"):
        embedding[encode(word)] = 0
    embedding[encode("retrievers")[-1]] = 0
    backbone = Backbone(weights | {"token_embedding.weight": embedding})
    said: list[str] = []
    backbone.say = said.append
    return backbone, said


def test_words_that_were_never_learned_are_named_once(forgetful):
    backbone, said = forgetful
    backbone.encode_texts(["a photo of a cat.", "a red one"])  # "!" is padding, too
    assert said == []
    backbone.encode_texts(["a photo of a Dog.", "a cat", "my retrievers", "the dog"])
    assert said == [
        "Warning: this CLIP has never learned 'dog', 'retrievers' (the embeddings of their tokens "
        "are all zeros), so that 3 of 4 texts say less than they seem to: 'a photo of a Dog.', 'my "
        "retrievers', 'the dog'; choose other words, or another CLIP"
    ]
    backbone.tokenize(["dogs and a dog", "retrievers"])
    assert len(said) == 1
    backbone.tokenize(["a dog!"])
    assert len(said) == 2 and "never learned '!' (" in said[1]


def test_placeholders_of_a_context_are_no_words(forgetful):
    backbone, said = forgetful
    Context(backbone, ["cat", "red"], 4)
    assert said == []
    Context(backbone, ["cat", "big dog"], 4)
    assert len(said) == 1 and "1 of 2 texts say less than they seem to: 'big dog';" in said[0]
    Context(backbone, ["cat", "red"], 2, "x of")
    assert (
        len(said) == 2
        and "never learned 'x'" in said[1]
        and "1 of 1 texts say less than they seem to: 'x of';" in said[1]
    )


def test_many_words_are_counted(weights):
    backbone = Backbone(
        weights | {"token_embedding.weight": torch.zeros_like(weights["token_embedding.weight"])}
    )
    said: list[str] = []
    backbone.say = said.append
    backbone.tokenize([f"{letter}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"])
    assert said[0].count(" and 6 more") == 2


def test_a_warning_names_templates(forgetful):
    backbone, said = forgetful
    names = ["a {} dog", "a {}"]
    backbone.tokenize([name.format("") for name in names], names=names)
    assert "1 of 2 texts say less than they seem to: 'a {} dog';" in said[0]


def test_the_bundled_clip_knows_every_word_of_promptsrcs_templates(capsys):
    backbone = load_backbone(str(module.ROOT / "assets/drawings_clip.pt"))
    backbone.tokenize([template.format("") for template in SIXTY])
    assert capsys.readouterr().out == ""


def test_too_long_text_is_named(weights):
    with pytest.raises(
        UserError,
        match=r"the text 'cat cat .*' is longer than the 77 tokens CLIP reads: shorten the class "
        "name",
    ):
        Backbone(weights).tokenize(["cat " * 80])


def error(name: str) -> str:
    with pytest.raises(UserError) as caught:
        load_backbone(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unknown_name(tmp_path):
    message = error("ViT-B/17")
    assert (
        message.startswith("MODEL.BACKBONE.NAME 'ViT-B/17' is neither a file nor one of RN50")
        and "ViT-B/16" in message
    )
    assert "neither a file" in error("") and "has neither config.json" in error(str(tmp_path))


def test_wrong_files(tmp_path, weights, file):
    path = tmp_path / "wrong.pt"
    path.write_bytes(b"not weights")
    assert "wrong.pt' is neither a file of CLIP weights nor a TorchScript archive" in error(
        str(path)
    )
    path.write_bytes(b"")
    assert "neither a file of CLIP weights" in error(str(path))
    whole = (tmp_path / "clip.pt").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "or is damaged" in error(str(path))
    for content in ([1, 2], {"a": torch.zeros(2)}, {"state_dict": 3}, {}):
        torch.save(content, path)
        assert (
            "is not a CLIP of OpenAI's architecture (it lacks 'token_embedding.weight')"
            in error(str(path))
        )
    for missing in ("visual.proj", "visual.transformer.resblocks.1.ln_1.weight", "text_projection"):
        torch.save({name: value for name, value in weights.items() if name != missing}, path)
        assert "is not a CLIP of OpenAI's architecture" in error(str(path))


def test_offline_download(monkeypatch):
    def refuse(url, folder):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(clip.clip, "_download", refuse)
    message = error("ViT-B/16")
    assert (
        "CLIP ViT-B/16 could not be downloaded" in message
        and "ViT-B-16.pt" in message
        and "put it into" in message
    )

    def spoilt(url, folder):
        raise RuntimeError("Model has been downloaded but the SHA256 checksum does not not match")

    monkeypatch.setattr(clip.clip, "_download", spoilt)
    assert "checksum" in error("ViT-B/16")


def test_a_name_goes_through_clips_download(file, monkeypatch):
    monkeypatch.setattr(clip.clip, "_download", lambda url, folder: file)
    assert load_backbone("ViT-B/16").embed_dim == 32


# ResNets


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    model = clip.model.CLIP(32, 32, (1, 2, 1, 1), 16, None, 77, 49408, 64, 1, 2)
    for module_ in model.modules():
        if isinstance(
            module_, torch.nn.BatchNorm2d
        ):  # clip starts some at zero, and running statistics are trivial
            torch.nn.init.uniform_(module_.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module_.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module_.running_var, 0.5, 1.5)
    return model.eval().requires_grad_(False)


def test_resnet_towers_run_as_they_are(resnet, tmp_path):
    torch.save(resnet.state_dict(), tmp_path / "rn.pt")
    before = torch.get_rng_state()
    backbone = load_backbone(str(tmp_path / "rn.pt"))
    assert torch.equal(torch.get_rng_state(), before)
    assert backbone.input_resolution == 32
    statistics = {name: value.clone() for name, value in backbone.state_dict().items()}
    backbone.train()  # must not wake batch norm
    assert torch.allclose(
        backbone.image(images(3, 32)), resnet.encode_image(images(3, 32)), atol=1e-5
    )
    assert all(
        torch.equal(value, statistics[name]) for name, value in backbone.state_dict().items()
    )
    texts = ["a cat", "a photo of a dog"]
    assert torch.allclose(
        backbone.encode_texts(texts), unit(resnet.encode_text(backbone.tokenize(texts))), atol=1e-5
    )


def test_resnets_refuse_visual_prompts(resnet):
    with pytest.raises(
        UserError,
        match="visual prompts need a vision transformer, but MODEL.BACKBONE.NAME is a ResNet",
    ):
        Backbone(resnet.state_dict()).image(images(1, 32), torch.zeros(2, 64))


def test_resnet_in_half_precision_keeps_batch_norm(resnet):
    tower = Backbone(resnet.state_dict(), "fp16").image
    assert tower.dtype == torch.float16 and tower.tower.bn1.weight.dtype == torch.float32
