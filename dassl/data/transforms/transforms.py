"""From a PIL image to a normalised tensor, as INPUT in the config says."""

from collections.abc import Callable, Sequence

import torch
from torchvision.transforms import (
    CenterCrop,
    ColorJitter,
    Compose,
    GaussianBlur,
    InterpolationMode,
    Normalize,
    RandAugment,
    RandomApply,
    RandomCrop,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToTensor,
)

from dassl.utils import check_availability

INTERPOLATION_MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC,
                       "nearest": InterpolationMode.NEAREST}
AVAI_CHOICES = ["random_resized_crop", "random_flip", "center_crop", "random_crop", "normalize", "instance_norm", "colorjitter",
                "randomgrayscale", "gaussian_blur", "randaugment", "cutout", "gaussian_noise"]


class InstanceNormalization:
    """Zero mean and unit deviation per channel of an image (C, H, W)."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        mean, std = image.mean((1, 2), keepdim=True), image.std((1, 2), keepdim=True)
        return (image - mean) / (std + 1e-8)


class Cutout:
    """Sets `n_holes` squares of `length` pixels at random places of an image (C, H, W) to 0 (DeVries and Taylor 2017)."""

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
            image[:, max(0, y - half):y + half, max(0, x - half):x + half] = 0
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


def build_transform(cfg, is_train: bool = True, choices: Sequence[str] | None = None) -> Callable | None:
    """PIL image -> tensor (3, H, W) of INPUT.SIZE; None with NO_TRANSFORM.

    Training: the named transforms of INPUT.TRANSFORMS (or `choices`) in a fixed order, whatever theirs. Test: resize of the
    short side, centre crop, normalisation if named. Raises UserError for an unknown name.
    """
    spec = cfg.INPUT
    if spec.NO_TRANSFORM:
        return None
    choices = list(spec.TRANSFORMS if choices is None else choices)
    for choice in choices:
        check_availability(choice, AVAI_CHOICES, "transform in INPUT.TRANSFORMS")
    check_availability(spec.INTERPOLATION, list(INTERPOLATION_MODES), "INPUT.INTERPOLATION")
    mode, size = INTERPOLATION_MODES[spec.INTERPOLATION], tuple(spec.SIZE)
    end = []
    if "normalize" in choices:
        end.append(Normalize(spec.PIXEL_MEAN, spec.PIXEL_STD))
    if "instance_norm" in choices:
        end.append(InstanceNormalization())
    if not is_train:
        return Compose([Resize(max(size), interpolation=mode), CenterCrop(size), ToTensor(), *end])
    start = []
    if "random_crop" in choices:
        start += [Resize(size, interpolation=mode), RandomCrop(size, padding=spec.CROP_PADDING)]
    elif "random_resized_crop" in choices:
        start.append(RandomResizedCrop(size, scale=tuple(spec.RRCROP_SCALE), interpolation=mode))
    elif "center_crop" in choices:
        start += [Resize(max(size), interpolation=mode), CenterCrop(size)]
    else:
        start.append(Resize(size, interpolation=mode))
    optional = {
        "random_flip": lambda: RandomHorizontalFlip(),
        "randaugment": lambda: RandAugment(spec.RANDAUGMENT_N, spec.RANDAUGMENT_M),
        "colorjitter": lambda: ColorJitter(spec.COLORJITTER_B, spec.COLORJITTER_C, spec.COLORJITTER_S, spec.COLORJITTER_H),
        "randomgrayscale": lambda: RandomGrayscale(spec.RGS_P),
        "gaussian_blur": lambda: RandomApply([GaussianBlur(spec.GB_K)], p=spec.GB_P),
    }
    start += [make() for name, make in optional.items() if name in choices]
    if "cutout" in choices:
        end.insert(0, Cutout(spec.CUTOUT_N, spec.CUTOUT_LEN))
    if "gaussian_noise" in choices:
        end.append(GaussianNoise(spec.GN_MEAN, spec.GN_STD))
    return Compose([*start, ToTensor(), *end])
