"""Pictures as programs hold them: paths, PIL images, tensors, and lists of these."""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, MappingView, Sequence, Set
from typing import Any, NoReturn

import torch
from PIL import Image
from torch import Tensor
from yacs.config import CfgNode

from dassl.data.datasets import Datum, Picture
from dassl.errors import UserError
from tools.predict import Pictures, find_images

# How far from 0 the numbers of a tensor may be: in multiples of the furthest normalised pixel, and
# at least. Nobody's interpolation gets there, nor torch.randn, with which programs are tried.
FAR, NORMAL = 3, 8.0
BLUR = 0.1  # by which interpolation leaves 0..1
KINDS = "a path, a PIL image, a tensor (3, R, R), or several of these"


def is_single(images: object) -> bool:
    """Whether `images` is one picture, not several: a file, a PIL image, a tensor (3, R, R)."""
    if isinstance(images, (str, os.PathLike)):
        return not os.path.isdir(os.path.expanduser(images))
    return isinstance(images, Image.Image) or isinstance(images, Tensor) and images.dim() == 3


def check_order(given: object, what: str, instead: str) -> None:
    """Raise UserError for a dict or a set: no place in it tells what an entry belongs to.

    `what` begins the sentence, and `instead` is what to give. The views of a dict are taken: who
    asks for its keys knows that only these count, in their order.
    """
    if isinstance(given, Mapping | Set) and not isinstance(given, MappingView):
        raise UserError(
            f"{what} a {type(given).__name__}, whose order says nothing: give {instead}"
        )


def items_of(images: Any, size: int, folders: bool = True, unread: bool = True) -> list[Datum]:
    """The pictures as items of a data set, in order; `impath` names each.

    images: KINDS, or a tensor (B, 3, R, R). Tensors are transformed already, R is `size`. A folder
    stands for the pictures in it and its subfolders, if `folders` may be given; unread: as of
    `find_images`. Raises UserError for anything else, for a dict or a set, for paths where there is
    no picture, and if there is no picture at all.
    """
    check_order(images, "the pictures are", "a list of pictures (labels go into another one)")
    given = [images] if is_single(images) or isinstance(images, (str, os.PathLike)) else images
    if not isinstance(given, Iterable):
        raise UserError(f"a picture is {type(given).__name__}: give {KINDS}")
    items: list[Datum] = []
    for number, image in enumerate(given):
        name = f"picture {number}"
        if isinstance(image, (str, os.PathLike)):
            items += _of_path(os.path.expanduser(os.fspath(image)), folders, unread)
        elif isinstance(image, Image.Image):
            items.append(Picture(impath=name, picture=image))
        elif isinstance(image, Tensor):
            _check_tensor(image, name, size)
            items.append(Picture(impath=name, picture=image.detach().float().cpu()))
        else:
            raise UserError(
                f"{name} is {type(image).__name__}: give {KINDS} (Image.fromarray makes a PIL "
                "image of an array)"
            )
    if not items:
        raise UserError(f"there is no picture: give {KINDS}")
    return items


class Transform:
    """From a path or a PIL image to a tensor (3, R, R), float32, as the run's test images.

    The picture is read as `classify` reads it, so that INPUT.UPRIGHT and INPUT.TRANSPARENCY count
    and pictures of every mode are taken. Raises UserError for anything else than one picture, and
    for a picture that cannot be read. An object of its own, since the workers of a DataLoader may
    get a copy: it holds no model.
    """

    def __init__(self, cfg: CfgNode, steps: Callable | None):
        self._cfg, self._steps = cfg, steps

    def __repr__(self) -> str:
        return repr(self._steps)

    def __call__(self, image: Any) -> Tensor:
        if isinstance(image, Tensor) or not is_single(image):
            path = isinstance(image, (str, os.PathLike))
            given = f"the folder '{image}'" if path else type(image).__name__
            raise UserError(
                f"transform takes one path or PIL image, not {given}: call it for each picture "
                "(Image.fromarray makes a PIL image of an array)"
            )
        pictures = Pictures(self._cfg, items_of(image, self._cfg.INPUT.SIZE[0]), self._steps)
        found = pictures[0]
        pictures.say_notes()
        return refuse(found) if isinstance(found, str) else found


def refuse(reason: str, more: str = "") -> NoReturn:
    """Raise UserError with the reason why a picture cannot be read; `more` is another remedy."""
    has_remedy = "cannot be read: " in reason  # that of its kind, as HEIC
    raise UserError(f"{reason}{'' if has_remedy else ': restore it, or leave it out'}{more}")


def _of_path(path: str, folders: bool, unread: bool) -> list[Datum]:
    if os.path.isdir(path) and not folders:
        raise UserError(f"'{path}' is a folder: give the paths of its pictures, one for each label")
    return [Datum(impath=found) for found in find_images([path], unread)]


def _check_tensor(image: Tensor, name: str, size: int) -> None:
    """Raise UserError unless a tensor can be an image that the transform of a run gave."""
    shape = (3, size, size)
    if tuple(image.shape) != shape or not image.is_floating_point():
        raise UserError(
            f"{name} is a tensor {tuple(image.shape)} of {image.dtype}, but the model reads "
            f"{shape} of floats: transform it with model.transform, or give a PIL image"
        )
    if not torch.isfinite(image).all():
        raise UserError(f"{name} holds NaN or infinite numbers: correct or leave out that tensor")


def check_normalised(items: Sequence[Datum], cfg: CfgNode, stacklevel: int) -> None:
    """Raise UserError for a tensor with numbers far from all that normalised pixels can be.

    Warns if all tensors hold numbers of about 0..1, as pictures before they are normalised:
    afterwards what is darker than the mean is below 0. Nothing is known where the run's INPUT, in
    `cfg`, normalises otherwise. stacklevel: of the warning, seen from here.
    """
    spec, held = cfg.INPUT, ((one.impath, one.picture) for one in items if isinstance(one, Picture))
    tensors = [(name, picture) for name, picture in held if isinstance(picture, Tensor)]
    named = "normalize" in spec.TRANSFORMS and "instance_norm" not in spec.TRANSFORMS
    if not tensors or not named:
        return
    mean, std = torch.tensor(spec.PIXEL_MEAN), torch.tensor(spec.PIXEL_STD)
    low, high = (0 - mean) / std, (1 - mean) / std
    far = max(NORMAL, FAR * float(torch.maximum(-low, high).max()))
    could = f"normalised pixels are {low.min():.2f} to {high.max():.2f}"
    least, most = torch.inf, -torch.inf
    for name, tensor in tensors:
        begin, end = tensor.min().item(), tensor.max().item()
        if begin < -far or end > far:
            raise UserError(
                f"{name} holds numbers of {begin:.4g} to {end:.4g}, but {could}: transform it with "
                "model.transform, or give a PIL image"
            )
        least, most = min(least, begin), max(most, end)
    if -BLUR < least and most < 1 + BLUR and low.max() < -2 * BLUR:
        warnings.warn(
            f"the tensors hold numbers of {least:.2f} to {most:.2f}, as pictures do that were "
            f"never normalised ({could}): transform them with model.transform, or give PIL images",
            stacklevel=stacklevel,
        )
