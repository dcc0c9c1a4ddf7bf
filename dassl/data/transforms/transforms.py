"""From a PIL image to a normalised tensor, as INPUT in the config says."""

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import (
    CenterCrop,
    ColorJitter,
    Compose,
    GaussianBlur,
    InterpolationMode,
    Normalize,
    RandAugment,
    RandomApply,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    ToTensor,
)
from torchvision.transforms.functional import resize

from dassl.utils import UserError, check_availability

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}
AVAI_CHOICES = [
    "random_resized_crop",
    "random_flip",
    "center_crop",
    "random_crop",
    "normalize",
    "instance_norm",
    "colorjitter",
    "randomgrayscale",
    "gaussian_blur",
    "randaugment",
    "cutout",
    "gaussian_noise",
]
NARROW = 256  # a picture is very narrow above this ratio of its long side to its short one


# These two keep torchvision's names: caches know a transform by its `repr`.
class Resize(transforms.Resize):
    """torchvision's, in bounded memory for pictures more than NARROW times as long as wide.

    A picture of 40,000 x 1 pixels resized to a short side of 224 would take 8 GB. Only its middle
    is resized, which holds all that CenterCrop takes. Where both sides are given, a tall picture
    is squeezed before it is widened.
    """

    def forward(self, image):
        if isinstance(image, Image.Image) and max(image.size) > NARROW * min(image.size):
            width, height = image.size
            if isinstance(self.size, int) or len(self.size) == 1:
                longest = NARROW * min(width, height)
                left, top = max(0, width - longest) // 2, max(0, height - longest) // 2
                image = image.crop((left, top, width - left, height - top))
            elif height > width:
                image = resize(image, [self.size[0], width], self.interpolation)
        return super().forward(image)


class RandomCrop(transforms.RandomCrop):
    """torchvision's. Raises UserError for a picture that is smaller than the crop."""

    def forward(self, image):
        try:
            return super().forward(image)
        except ValueError:
            width, height = image.size
            raise UserError(
                f"its {width} x {height} pixels are fewer than random_crop takes, which resizes "
                "nothing (as published): use random_resized_crop in INPUT.TRANSFORMS, or raise "
                "INPUT.CROP_PADDING"
            ) from None


class InstanceNormalization:
    """Zero mean and unit deviation per channel of an image (C, H, W)."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        mean, std = image.mean((1, 2), keepdim=True), image.std((1, 2), keepdim=True)
        return (image - mean) / (std + 1e-8)


class Cutout:
    """Sets `n_holes` squares of `length` pixels at random places of an image (C, H, W) to 0
    (DeVries and Taylor 2017).
    """

    def __init__(self, n_holes: int = 1, length: int = 16):
        self.n_holes, self.length = n_holes, length

    def __repr__(self) -> str:
        return f"Cutout({self.n_holes}, {self.length})"

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[1:]
        image = image.clone()
        for _ in range(self.n_holes):
            y, x = (int(torch.randint(size, (1,))) for size in (height, width))
            half = self.length // 2
            image[:, max(0, y - half) : y + half, max(0, x - half) : x + half] = 0
        return image


class GaussianNoise:
    """Adds noise to an image (C, H, W) with probability `p`."""

    def __init__(self, mean: float = 0.0, std: float = 0.15, p: float = 0.5):
        self.mean, self.std, self.p = mean, std, p

    def __repr__(self) -> str:
        return f"GaussianNoise({self.mean}, {self.std}, {self.p})"

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        if torch.rand(1) > self.p:
            return image
        return image + torch.randn_like(image) * self.std + self.mean


def build_transform(
    cfg, is_train: bool = True, choices: Sequence[str] | None = None
) -> Callable | None:
    """PIL image -> tensor (3, H, W) of INPUT.SIZE; None with NO_TRANSFORM.

    Training: the named transforms of INPUT.TRANSFORMS (or `choices`) in a fixed order, whatever
    theirs. Without a random crop the picture is squeezed to INPUT.SIZE first; center_crop is for
    tests. (Both as published.) Test: resize of the short side, centre crop, normalisation if named.
    Raises UserError for an unknown name.
    """
    spec = cfg.INPUT
    if spec.NO_TRANSFORM:
        return None
    choices = list(spec.TRANSFORMS if choices is None else choices)
    for choice in choices:
        check_availability(choice, AVAI_CHOICES, "transform in INPUT.TRANSFORMS")
    check_availability(spec.INTERPOLATION, list(INTERPOLATION_MODES), "INPUT.INTERPOLATION")
    mode, size = INTERPOLATION_MODES[spec.INTERPOLATION], tuple(spec.SIZE)
    normalise = [Normalize(spec.PIXEL_MEAN, spec.PIXEL_STD)] if "normalize" in choices else []
    standardise = [InstanceNormalization()] if "instance_norm" in choices else []
    if not is_train:
        start = [Resize(max(size), interpolation=mode), CenterCrop(size)]
        return Compose([*start, ToTensor(), *normalise, *standardise])
    start = []
    if "random_crop" in choices:
        start.append(RandomCrop(size, padding=spec.CROP_PADDING))
    if "random_resized_crop" in choices:
        start.append(RandomResizedCrop(size, scale=tuple(spec.RRCROP_SCALE), interpolation=mode))
    if not start:
        start.append(Resize(size, interpolation=mode))
    optional = {
        "random_flip": lambda: RandomHorizontalFlip(),
        "randaugment": lambda: RandAugment(spec.RANDAUGMENT_N, spec.RANDAUGMENT_M),
        "colorjitter": lambda: ColorJitter(
            spec.COLORJITTER_B, spec.COLORJITTER_C, spec.COLORJITTER_S, spec.COLORJITTER_H
        ),
        "randomgrayscale": lambda: RandomGrayscale(spec.RGS_P),
        "gaussian_blur": lambda: RandomApply([GaussianBlur(spec.GB_K)], p=spec.GB_P),
    }
    start += [make() for name, make in optional.items() if name in choices]
    cut = [Cutout(spec.CUTOUT_N, spec.CUTOUT_LEN)] if "cutout" in choices else []
    noise = [GaussianNoise(spec.GN_MEAN, spec.GN_STD)] if "gaussian_noise" in choices else []
    return Compose([*start, ToTensor(), *cut, *normalise, *noise, *standardise])
