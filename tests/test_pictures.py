"""Pictures of all kinds: what becomes of them, and what is said."""

import errno
import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from tiny_run import make_cfg, make_trainer
from torchvision import transforms

from dassl.config import counted
from dassl.data import DataManager, DatasetWrapper
from dassl.data.data_manager import Loader, _said
from dassl.data.datasets import Datum, build_dataset
from dassl.data.transforms import build_transform
from dassl.data.transforms.transforms import NARROW
from dassl.engine import run_hash
from dassl.utils import UserError, read_image
from dassl.utils.tools import PICTURE_NOTES, _as_rgb
from tools.export import contents
from tools.predict import Pictures

RAMP = np.tile(np.arange(256), (3, 1))  # (3, 256), black to white
NOISE = np.random.RandomState(0).randint(0, 256, (24, 20, 4)).astype(np.uint8)


def grey(path, array):
    """The one channel of the picture that `array` becomes, and what was noticed."""
    Image.fromarray(array).save(path)
    seen = []
    found = np.asarray(read_image(str(path), notice=seen.append)).astype(int)
    assert found.shape == (*array.shape, 3) and (found == found[..., :1]).all()
    return found[..., 0], seen


# Modes


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"]
)
def test_a_picture_of_8_bits_has_the_colours_that_pil_gives_it(mode):
    """Also those that no file format here holds. By default alpha is dropped."""
    picture = Image.fromarray(NOISE[..., :3]).convert("P" if mode == "PA" else mode)
    picture = picture.convert(mode)
    if mode in ("LA", "PA", "RGBA"):
        picture.putalpha(Image.fromarray(NOISE[..., 3]))
    assert np.array_equal(_as_rgb(picture, "drop", print), picture.convert("RGB"))


@pytest.mark.parametrize(("mode", "plain"), [("La", "LA"), ("RGBa", "RGBA")])
def test_colours_multiplied_by_alpha_are_divided_again(mode, plain):
    picture = Image.fromarray(NOISE).convert(plain).convert(mode)
    assert np.array_equal(
        _as_rgb(picture, "drop", lambda kind: None), picture.convert(plain).convert("RGB")
    )


@pytest.mark.parametrize(
    ("array", "expected", "said"),
    [
        ((RAMP * 257).astype(np.uint16), RAMP, False),
        ((RAMP * 257).astype(">u2"), RAMP, False),  # big-endian
        ((RAMP * 16).astype(np.uint16), RAMP, True),  # 12 bits in 16
        (RAMP.astype(np.uint16), RAMP, True),  # 8 bits in 16
        ((RAMP * 64).astype(np.uint16), RAMP // 4, True),  # 14 bits in 16: dark, hence the word
        (RAMP.astype(np.int32), RAMP, True),
        ((RAMP * 257).astype(np.int32), RAMP, False),
        ((RAMP / 255).astype(np.float32), RAMP, True),
        (RAMP.astype(np.float32), RAMP, True),
        ((RAMP * 257).astype(np.float32), RAMP, True),
        ((RAMP * 257 - 32768).astype(np.int32), RAMP, True),  # signed
        ((RAMP * 8_000_000).astype(np.int32), RAMP, True),  # 31 bits
        ((RAMP * 4 - 1024.0).astype(np.float32), RAMP, True),
        (np.full((3, 5), -7, np.int32), np.zeros((3, 5)), True),
    ],
)
def test_deep_grey_pictures_keep_their_ramp(tmp_path, array, expected, said):
    found, seen = grey(tmp_path / "x.tif", array)
    assert np.array_equal(found, expected) and seen == ["depth"] * said


def test_values_that_are_no_numbers_are_refused_by_name(tmp_path):
    array = np.ones((4, 4), np.float32)
    for value in (np.nan, np.inf):
        array[1, 1] = value
        Image.fromarray(array).save(tmp_path / "x.tif")
        with pytest.raises(
            UserError,
            match=r"image '.*x.tif' cannot be read \(some of its values are not finite\)",
        ):
            read_image(str(tmp_path / "x.tif"))


def test_the_first_picture_of_an_animation_is_read(tmp_path):
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    red.save(tmp_path / "x.gif", save_all=True, append_images=[blue])
    assert read_image(str(tmp_path / "x.gif")).getpixel((3, 3)) == (255, 0, 0)


# Transparency


def transparent(path):
    """Black, opaque in the left half only."""
    picture = np.zeros((10, 10, 4), np.uint8)
    picture[:, :5, 3] = 255
    Image.fromarray(picture).save(path)
    return str(path)


def test_transparent_pictures_are_put_on_white_if_asked(tmp_path):
    path, seen = transparent(tmp_path / "x.png"), []
    assert np.asarray(read_image(path, notice=seen.append)).max() == 0 and seen == ["transparency"]
    white = np.asarray(read_image(path, transparency="white", notice=seen.append))
    assert white[:, :5].max() == 0 and white[:, 5:].min() == 255 and len(seen) == 1
    Image.fromarray(NOISE).save(path)
    alpha = NOISE[..., 3:] / 255
    expected = NOISE[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(np.asarray(read_image(path, transparency="white")) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_a_colour_that_stands_for_transparent_counts_too(tmp_path, mode):
    """PNG's tRNS."""
    picture = Image.new("RGB", (8, 8), "white")
    picture.paste("black", (0, 0, 4, 8))
    clear = (0, 0, 0) if mode == "RGB" else 0
    picture = picture.convert(mode) if mode != "P" else picture.quantize(2)
    if mode == "P":
        clear = picture.getpixel((0, 0))
    picture.save(tmp_path / "x.png", transparency=clear)
    path, seen = str(tmp_path / "x.png"), []
    assert read_image(path, notice=seen.append).getpixel((0, 0)) == (0, 0, 0) and seen == [
        "transparency"
    ]
    assert read_image(path, transparency="white").getpixel((0, 0)) == (255, 255, 255)


def test_an_alpha_channel_without_transparent_pixels_is_not_worth_a_word(tmp_path):
    Image.fromarray(NOISE[..., :3]).convert("RGBA").save(tmp_path / "x.png")
    for transparency in ("drop", "white"):
        found = read_image(str(tmp_path / "x.png"), transparency=transparency, notice=pytest.fail)
        assert np.array_equal(found, NOISE[..., :3])


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_photos_are_turned_if_asked(tmp_path, orientation, suffix):
    picture, seen = Image.fromarray(NOISE[..., :3]), []
    exif = picture.getexif()
    exif[274] = orientation
    path = str(tmp_path / f"x.{suffix}")
    picture.save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    stored = Image.open(path).convert("RGB")
    assert np.array_equal(read_image(path, notice=seen.append), stored) and seen == [
        "orientation"
    ] * (orientation > 1)
    turned = read_image(path, upright=True, notice=pytest.fail)
    assert np.array_equal(turned, ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    assert turned.size == ((24, 20) if orientation > 4 else (20, 24)) and turned.mode == "RGB"


def test_damaged_exif_data_does_not_spoil_a_good_picture(tmp_path):
    Image.fromarray(NOISE[..., :3]).save(
        tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01"
    )
    for upright in (False, True):
        assert read_image(str(tmp_path / "x.jpg"), upright=upright).size == (20, 24)


# What is said, and what it changes


@pytest.mark.parametrize("workers", [0, 2])
def test_each_kind_is_said_once_in_a_run_with_its_first_file(tmp_path, workers, capfd):
    cfg = make_cfg(
        tmp_path, "CoOp", "DATALOADER.NUM_WORKERS", workers, "INPUT.TRANSFORMS", ("normalize",)
    )
    data = build_dataset(cfg)
    for item in (*data.train_x[3:], *data.test):
        transparent(item.impath)
    for run in range(2):
        loaders = DataManager(cfg)
        for _ in range(2):
            list(loaders.test_loader), list(loaders.train_loader_x)
        out = capfd.readouterr().out
        assert out.count("has transparent pixels") == 1 and "INPUT.TRANSPARENCY drop" in out, run
        assert "depth" not in out and out.count("Note:") == 1
        assert any(f"Note: '{item.impath}' has" in out for item in data.test[:6])
    list(DataManager(make_cfg(tmp_path, "CoOp", "INPUT.TRANSPARENCY", "white")).test_loader)
    assert "transparent" not in capfd.readouterr().out


def test_predict_says_it_beside_its_results(tmp_path, capfd):
    path = transparent(tmp_path / "x.png")
    _said.clear()
    pictures = Pictures(make_cfg(tmp_path, "CoOp"), [Datum(path)], None)
    list(Loader(pictures, collate_fn=list))
    found = capfd.readouterr()
    assert f"Note: '{path}' has transparent pixels" in found.err and "Note" not in found.out


def test_an_export_tells_how_pictures_were_read(tmp_path):
    plain, other = (
        json.loads(contents(make_trainer(tmp_path, "ZeroshotCLIP", *options))[1]["preprocess"])
        for options in ((), ("INPUT.TRANSPARENCY", "white", "INPUT.UPRIGHT", True))
    )
    assert other == plain | {"transparency": "white", "upright": True}


def test_every_kind_names_its_key_or_page():
    assert all(text.count("{}") == 1 for text in PICTURE_NOTES.values())
    assert (
        "INPUT.UPRIGHT" in PICTURE_NOTES["orientation"]
        and "docs/datasets.md" in PICTURE_NOTES["depth"]
    )


@pytest.mark.parametrize(
    ("key", "value"), [("INPUT.TRANSPARENCY", "white"), ("INPUT.UPRIGHT", True)]
)
def test_the_keys_make_another_run_and_other_caches_and_their_defaults_do_not(tmp_path, key, value):
    plain, other = make_trainer(tmp_path, "CoOp"), make_trainer(tmp_path, "CoOp", key, value)
    assert key not in counted(plain.cfg) and counted(other.cfg)[key] == value
    assert run_hash(plain.cfg) != run_hash(other.cfg)
    described = [
        trainer.describe_images(trainer.dm.dataset.train_x, None) for trainer in (plain, other)
    ]
    assert described[0] != described[1] and not {"transparency", "upright"} & described[0].keys()


def test_an_unknown_way_with_transparency_is_refused(tmp_path):
    with pytest.raises(UserError, match="unknown INPUT.TRANSPARENCY 'whit': did you mean 'white'"):
        DataManager(make_cfg(tmp_path, "CoOp", "INPUT.TRANSPARENCY", "whit"))


# Sizes and transforms


@pytest.mark.parametrize("size", [(40_000, 1), (1, 40_000), (3_000_000, 2), (2, 3_000_000)])
def test_very_narrow_pictures_are_resized_in_bounded_memory(tmp_path, size, monkeypatch):
    cfg = make_cfg(tmp_path, "CoOp", "INPUT.SIZE", (224, 224))
    made, plain = [], Image.Image.resize

    def recorded(self, size, *args, **kwargs):
        # PIL first makes all rows of the new width.
        made.append(max(size[0] * size[1], size[0] * self.size[1] * (size[0] != self.size[0])))
        return plain(self, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", recorded)
    picture = Image.new("RGB", size, (120, 30, 60))
    tests = [build_transform(cfg, is_train=False)]
    tests += [
        build_transform(cfg, choices=[name])
        for name in ("random_resized_crop", "center_crop", "random_flip")
    ]
    tests.append(DatasetWrapper(cfg, [], None).to_tensor)
    for transform in tests:
        found = transform(picture)
        assert found.shape == (3, 224, 224) and found.std((1, 2)).max() < 1e-3
    assert 0 < max(made) <= NARROW * 224 * 224


@pytest.mark.parametrize(
    "size",
    [
        (40, 36),
        (36, 40),
        (50, 50),
        (7, 300),
        (NARROW * 2, 2),
        (3, NARROW * 3),
        (1, NARROW),
        (500, 375),
    ],
)
def test_ordinary_pictures_are_resized_to_the_bit_as_by_torchvision(tmp_path, size):
    cfg = make_cfg(tmp_path, "CoOp", "INPUT.INTERPOLATION", "bicubic")
    picture = Image.fromarray(
        np.random.RandomState(1).randint(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    )
    mode = transforms.InterpolationMode.BICUBIC
    expected = transforms.Compose(
        [transforms.Resize(32, mode), transforms.CenterCrop(32), transforms.ToTensor()]
    )
    plain = build_transform(cfg, is_train=False, choices=[])
    assert torch.equal(plain(picture), expected(picture)) and repr(plain) == repr(expected)
    squeezed = transforms.Compose([transforms.Resize((32, 32), mode), transforms.ToTensor()])
    assert torch.equal(build_transform(cfg, choices=[])(picture), squeezed(picture))


@pytest.mark.parametrize("size", [(1201, 4), (4, 1202), (2000, 3)])
def test_the_middle_of_a_narrow_picture_is_that_of_the_whole(tmp_path, size):
    cfg = make_cfg(tmp_path, "CoOp", "INPUT.INTERPOLATION", "bicubic")
    picture = Image.fromarray(
        np.random.RandomState(1).randint(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    )
    whole = transforms.Compose(
        [
            transforms.Resize(32, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
        ]
    )
    found = build_transform(cfg, is_train=False, choices=[])(picture)
    assert (found - whole(picture)).abs().mean() < 0.03


def test_a_random_crop_resizes_nothing_and_a_smaller_picture_is_named(tmp_path):
    """As upstream."""
    cfg = make_cfg(tmp_path, "CoOp", "INPUT.CROP_PADDING", 0)
    picture = Image.fromarray(
        np.random.RandomState(1).randint(0, 256, (60, 50, 3)).astype(np.uint8)
    )
    pixels = transforms.ToTensor()(picture)
    torch.manual_seed(0)
    found = build_transform(cfg, choices=["random_crop"])(picture)
    windows = pixels.unfold(1, 32, 1).unfold(2, 32, 1)  # (3, 29, 19, 32, 32)
    assert (windows == found[:, None, None]).flatten(3).all(-1).all(0).any()
    picture.resize((20, 60)).save(tmp_path / "small.png")
    wrapper = DatasetWrapper(
        cfg,
        [Datum(str(tmp_path / "small.png"))],
        build_transform(cfg, choices=["random_crop"]),
        is_train=True,
    )
    with pytest.raises(
        UserError,
        match=r"image '.*small.png' does not fit: its 20 x 60 pixels are fewer than random_crop "
        "takes",
    ):
        wrapper[0]
    both = [
        type(step).__name__
        for step in build_transform(cfg, choices=["random_resized_crop", "random_crop"]).transforms
    ]
    assert both == ["RandomCrop", "RandomResizedCrop", "ToTensor"]


def test_center_crop_is_for_tests_only(tmp_path):
    cfg = make_cfg(tmp_path, "CoOp")
    assert repr(build_transform(cfg, choices=["center_crop", "normalize"])) == repr(
        build_transform(cfg, choices=["normalize"])
    )


def test_noise_comes_before_the_normalisation_of_each_image(tmp_path):
    """As upstream: the result is normalised whatever the noise."""
    cfg = make_cfg(tmp_path, "CoOp", "INPUT.GN_MEAN", 5.0)
    found = build_transform(cfg, choices=["instance_norm", "gaussian_noise"])(
        Image.fromarray(NOISE[..., :3])
    )
    assert found.mean((1, 2)).abs().max() < 1e-4


# What the system refuses


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied"),
            r"cannot be read \(Permission denied\): correct its rights",
        ),
        (
            OSError(errno.EMFILE, "Too many open files"),
            r"cannot be read \(Too many open files\): allow a process more open files",
        ),
        (MemoryError(), "does not fit into memory: free some, or make it smaller"),
    ],
)
def test_a_good_picture_that_cannot_be_read_is_not_called_damaged(
    tmp_path, error, message, monkeypatch
):
    def refuse(path):
        raise error

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(UserError, match=f"image 'x.png' {message}"):
        read_image("x.png")


def test_a_picture_of_too_many_pixels_is_named(tmp_path, monkeypatch):
    Image.new("RGB", (50, 50)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(
        UserError,
        match=(
            "image '.*x.png' has more than the 2,000 pixels that are read: make it smaller or take "
            "it out"
        ),
    ):
        read_image(str(tmp_path / "x.png"))
