"""UCF101 (Soomro et al., 2012): the middle frame of each video, first partition."""

import os.path as osp
import re

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import CoOpDataset, Rows, UserError, split_off_val
from datasets.download import Source
from datasets.files import read_lines
from datasets.sources import copy_of, split_list


@DATASET_REGISTRY.register()
class UCF101(CoOpDataset):
    folder = "ucf101"
    image_folder = "UCF-101-midframes"
    split_file = "split_zhou_UCF101.json"
    split_md5 = "3a70ae2e43036a21111f3692a43fc839"
    templates = ("a photo of a person doing {}.",)
    lists = tuple(
        f"ucfTrainTestlist/{name}.txt" for name in ("classInd", "trainlist01", "testlist01")
    )
    classes, images = 101, (7639, 1898, 3783)
    test_halves = (1934, 1849)
    sources = (
        Source(
            "UCF-101-midframes.zip",
            ("gdrive:10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O",),
            unpack={"UCF-101-midframes": "UCF-101-midframes"},
        ),
        split_list(split_file, "1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y", split_md5),
    )
    mirror = copy_of("ucf101")

    def partition(self):
        lists = osp.join(self.dataset_dir, "ucfTrainTestlist")
        path, labels = osp.join(lists, "classInd.txt"), {}
        for line in read_lines(path):
            number, _, name = line.partition(" ")
            if not number.isdecimal() or not name:
                raise UserError(
                    f"'{path}' has the line '{line}': a line is a number and an action; prepare "
                    "the data set again"
                )
            labels[name] = int(number) - 1
        return split_off_val(
            self._listed(osp.join(lists, "trainlist01.txt"), labels),
            self._listed(osp.join(lists, "testlist01.txt"), labels),
        )

    @staticmethod
    def _listed(path: str, labels: dict[str, int]) -> Rows:
        """Lines are ApplyEyeMakeup/v_x.avi, in the training list with a label behind; folders of
        frames are Apply_Eye_Makeup.
        """
        rows = []
        for line in read_lines(path):
            action, _, video = line.split()[0].partition("/")
            if action not in labels:
                raise UserError(
                    f"'{path}' has the line '{line}', whose action is not in classInd.txt: prepare "
                    "the data set again"
                )
            name = "_".join(re.findall("[A-Z][^A-Z]*", action))
            rows.append([f"{name}/{video.removesuffix('.avi')}.jpg", labels[action], name])
        return rows
