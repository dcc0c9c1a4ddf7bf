"""An engine with the names, attributes and signatures of upstream Dassl and nothing else.

It takes the place of this project's `dassl`.

`python tests/upstream_stand_in.py FOLDER` trains every Craft trainer on it and prints what came of
it as JSON.
"""

import json
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from yacs.config import CfgNode

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

# What upstream Dassl exports (see docs/engine.md), as far as this project could use it.
UPSTREAM = {
    "dassl.config": {"get_cfg_default"},
    "dassl.data.data_manager": {"DataManager", "DatasetWrapper", "build_data_loader"},
    "dassl.data.datasets": {"DATASET_REGISTRY", "DatasetBase", "Datum", "build_dataset"},
    "dassl.data.transforms": {"build_transform"},
    "dassl.engine": {
        "TRAINER_REGISTRY",
        "SimpleNet",
        "SimpleTrainer",
        "TrainerBase",
        "TrainerX",
        "TrainerXU",
        "build_trainer",
    },
    "dassl.metrics": {"compute_accuracy"},
    "dassl.optim": {"build_lr_scheduler", "build_optimizer"},
    "dassl.utils": {
        "check_isfile",
        "count_num_param",
        "download_url",
        "listdir_nohidden",
        "load_checkpoint",
        "load_pretrained_weights",
        "mkdir_if_missing",
        "read_image",
        "read_json",
        "set_random_seed",
        "tolist_if_not",
        "write_json",
    },
}
# Keys of this project's that upstream's configuration lacks.
OWN_KEYS = (
    "EVAL_ONLY",
    "LOG",
    "INPUT.DRAFT",
    "INPUT.TRANSPARENCY",
    "INPUT.UPRIGHT",
    "DATALOADER.PERSISTENT_WORKERS",
    "DATALOADER.TRAIN_X.DROP_LAST",
    "DATALOADER.TRAIN_U.DROP_LAST",
    "TEST.SELECT_BY",
)
# Used by the tests, in both engines: no draw decides anything but the start of the prompts.
OPTIONS = (
    "INPUT.TRANSFORMS",
    ("normalize",),
    "DATALOADER.TRAIN_X.SAMPLER",
    "SequentialSampler",
    "OPTIM.MAX_EPOCH",
    1,
)


def plain_defaults(own: CfgNode) -> CfgNode:
    """Upstream's configuration: this project's defaults without its own keys."""

    def plain(node: dict) -> dict:
        return {key: plain(leaf) if isinstance(leaf, dict) else leaf for key, leaf in node.items()}

    tree = plain(own)
    for key in OWN_KEYS:
        *parents, leaf = key.split(".")
        node = tree
        for parent in parents:
            node = node[parent]
        node.pop(leaf, None)
    return CfgNode(tree)


class Datum:
    """Upstream's keeps what it is given in private attributes."""

    __module__ = "dassl.data.datasets.base_dataset"  # what a pickle calls it

    def __init__(self, impath="", label=0, domain=0, classname=""):
        self._impath, self._label, self._domain, self._classname = impath, label, domain, classname

    impath, label, domain, classname = (
        property(lambda self, name=name: getattr(self, name))
        for name in ("_impath", "_label", "_domain", "_classname")
    )


class DatasetWrapper(Dataset):
    """Without `classname`."""

    def __init__(self, cfg, data_source, transform=None, is_train=False):
        self.cfg, self.data_source, self.transform, self.is_train = (
            cfg,
            data_source,
            transform,
            is_train,
        )

    def __len__(self):
        return len(self.data_source)

    def __getitem__(self, index):
        item = self.data_source[index]
        return {
            "label": item.label,
            "domain": item.domain,
            "impath": item.impath,
            "index": index,
            "img": self.transform(Image.open(item.impath).convert("RGB")),
        }


def build_data_loader(
    cfg,
    sampler_type="SequentialSampler",
    data_source=None,
    batch_size=64,
    n_domain=0,
    n_ins=2,
    tfm=None,
    is_train=True,
    dataset_wrapper=None,
):
    """Drops the last batch in training."""
    dataset = (dataset_wrapper or DatasetWrapper)(
        cfg, data_source, transform=tfm, is_train=is_train
    )
    return DataLoader(
        dataset,
        batch_size,
        shuffle=sampler_type == "RandomSampler",
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        drop_last=is_train and len(data_source) >= batch_size,
    )


class DataManager:
    """No attribute but these."""

    __slots__ = (
        "dataset",
        "train_loader_x",
        "train_loader_u",
        "val_loader",
        "test_loader",
        "num_classes",
        "num_source_domains",
        "lab2cname",
    )

    def __init__(self, cfg):
        from dassl.data.datasets import build_dataset
        from dassl.data.transforms import build_transform

        train, test = (build_transform(cfg, is_train=is_train) for is_train in (True, False))
        self.dataset = build_dataset(cfg)
        spec = cfg.DATALOADER
        self.train_loader_x = build_data_loader(
            cfg, spec.TRAIN_X.SAMPLER, self.dataset.train_x, spec.TRAIN_X.BATCH_SIZE, tfm=train
        )
        self.train_loader_u = self.val_loader = None
        self.test_loader = build_data_loader(
            cfg,
            spec.TEST.SAMPLER,
            self.dataset.test,
            spec.TEST.BATCH_SIZE,
            tfm=test,
            is_train=False,
        )
        self.num_classes, self.lab2cname, self.num_source_domains = (
            self.dataset.num_classes,
            self.dataset.lab2cname,
            0,
        )


class TrainerX:
    """The hooks in upstream's order, one epoch after the other; no files are written."""

    def __init__(self, cfg):
        self._models, self._optims, self._scheds = OrderedDict(), OrderedDict(), OrderedDict()
        self.check_cfg(cfg)
        self.cfg, self.device, self.output_dir = cfg, torch.device("cpu"), cfg.OUTPUT_DIR
        self.start_epoch, self.epoch, self.max_epoch = 0, 0, cfg.OPTIM.MAX_EPOCH
        self.build_data_loader()
        self.build_model()

    def check_cfg(self, cfg):
        pass

    def build_data_loader(self):
        self.dm = DataManager(self.cfg)
        for name in DataManager.__slots__[1:]:
            setattr(self, name, getattr(self.dm, name))

    def register_model(self, name="model", model=None, optim=None, sched=None):
        self._models[name], self._optims[name], self._scheds[name] = model, optim, sched

    def get_model_names(self, names=None):
        return list(self._models)

    def set_model_mode(self, mode="train", names=None):
        for model in self._models.values():
            model.train(mode == "train")

    def update_lr(self, names=None):
        for sched in self._scheds.values():
            sched.step()

    def model_backward_and_update(self, loss, names=None):
        for optim in self._optims.values():
            optim.zero_grad()
        loss.backward()
        for optim in self._optims.values():
            optim.step()

    def train(self):
        self.before_train()
        for self.epoch in range(self.start_epoch, self.max_epoch):
            self.set_model_mode("train")
            self.run_epoch()
            self.after_epoch()

    def before_train(self):
        pass

    def after_epoch(self):
        pass

    def run_epoch(self):
        self.num_batches = len(self.train_loader_x)
        for self.batch_idx, batch in enumerate(self.train_loader_x):
            self.forward_backward(batch)

    def parse_batch_train(self, batch):
        return (
            batch["img"].to(self.device),
            batch["label"].to(self.device),
            batch["domain"].to(self.device),
        )

    def parse_batch_test(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    @torch.no_grad()
    def test(self, split=None):
        correct = 0
        for batch in self.test_loader:
            images, labels = self.parse_batch_test(batch)
            correct += int((self.model_inference(images).argmax(1) == labels).sum())
        return 100 * correct / len(self.test_loader.dataset)


def install() -> None:
    """Put it into `sys.modules`, with this project's modules without names that upstream lacks."""
    import dassl.config
    import dassl.data.data_manager
    import dassl.data.datasets
    import dassl.data.transforms
    import dassl.engine
    import dassl.metrics
    import dassl.optim
    import dassl.utils

    own = dassl.config.get_cfg_default()
    dassl.config.get_cfg_default = lambda: plain_defaults(own)
    dassl.data.datasets.Datum = Datum
    dassl.engine.TrainerX = TrainerX
    dassl.engine.build_trainer = lambda cfg: dassl.engine.TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(
        cfg
    )
    for name, value in (
        ("DataManager", DataManager),
        ("DatasetWrapper", DatasetWrapper),
        ("build_data_loader", build_data_loader),
    ):
        setattr(dassl.data.data_manager, name, value)
    for module, names in UPSTREAM.items():
        known = sys.modules[module]
        for name in [
            name for name in vars(known) if not name.startswith("__") and name not in names
        ]:
            if not isinstance(vars(known)[name], type(sys)):  # modules stay, as folders do
                delattr(known, name)
    sys.modules["dassl.distributed"] = None


def losses(trainer) -> list[float]:
    """Of each step of its training."""
    found, step = [], trainer.forward_backward

    def recorded(*batches):
        summary = step(*batches)
        found.append(summary["loss"])
        return summary

    trainer.forward_backward = recorded
    trainer.train()
    return found


def main(folder: Path) -> None:
    install()
    from tiny_run import STRUCTURES, make_trainer

    torch.set_num_threads(1)
    found = {}
    for name in STRUCTURES:
        trainer = make_trainer(folder / name, f"Craft{name}", *OPTIONS)
        found[name] = {
            "losses": losses(trainer),
            "anchors": trainer.anchors.labels.tolist(),
            "accuracy": trainer.test(),
            "features": next(iter(trainer.train_loader_x))["img"].dim() == 2,
        }
    views = make_trainer(folder / "views", "CoOp", "TRAINER.CACHED_VIEWS", 2)
    found["views"] = {
        "losses": losses(views),
        "views": list(views.train_loader_x.dataset.views.shape),
    }
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
