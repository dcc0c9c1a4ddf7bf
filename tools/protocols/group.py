"""Group robustness: train on all images of a data set with groups; the worst group counts."""

import functools

from dassl.record import Description, flat
from tools import configs
from tools.protocols.base import CELL, Protocol, percent

METRICS = {
    "mean": "accuracy",
    "adjusted": "adjusted_accuracy",
    "worst group": "worst_group_accuracy",
    "gap": "gap",
}


def cells(run: Description, metrics: dict) -> dict[str, float]:
    """Those metrics of groups that the run has."""
    return {column: percent(metrics, key) for column, key in METRICS.items() if key in metrics}


NO_GROUPS, TRAINING, VALIDATION = "none", "training", "validation"
OF_GROUPS = ("worst_group_accuracy", "gap", "adjusted_accuracy")  # metrics of models chosen by them


def groups_seen(results: dict) -> str:
    """The parts whose group labels a run used, by its configuration."""
    config = flat(results["config"])
    trainer, craft = config.get("TRAINER.NAME", ""), config.get("TRAINER.CRAFT.LAMBDA_MMD", 0)
    dfr = trainer == "DFR"
    compared = config.get("TRAINER.CRAFT.MMD.DOMAINS") == "group"
    seen = {
        TRAINING: config.get("DATALOADER.TRAIN_X.SAMPLER") == "BalancedGroupSampler"
        or "GroupDRO" in config.get("TRAINER.TERMS", ())
        or (configs.has_craft(trainer) and craft > 0 and compared)
        or (dfr and config.get("TRAINER.DFR.PART") == "train"),
        # DFR chooses its penalty by the worst group of the validation part, whatever it trains on.
        VALIDATION: dfr
        or config.get("SELECTION.RULE") == "worst_group"
        or (
            config.get("TEST.FINAL_MODEL") == "best_val"
            and config.get("TEST.SELECT_BY") in OF_GROUPS
        ),
    }
    return " and ".join(part for part, used in seen.items() if used) or NO_GROUPS


def words(results: dict) -> str:
    """What the class texts say, or where a learned context starts; and a template of the run's."""
    config = flat(results["config"])
    trainer = config.get("TRAINER.NAME", "")
    node = f"TRAINER.{configs.structure_of(trainer).upper()}."
    given = config.get("DATASET.TEMPLATE")
    if context := config.get(f"{node}CTX_INIT"):
        start = f"from '{context}'"
    elif config.get(f"{node}N_CTX"):
        start = "learned from noise"
    else:
        template = f"'{given}'" if given else _template(config.get("DATASET.NAME", ""))
        ensemble = config.get("TRAINER.ZSCLIP2.TEMPLATES") if trainer == "ZeroshotCLIP2" else ""
        return f"{template} and {ensemble} others of CLIP" if ensemble else template
    return f"{start}, template '{given}'" if given else start


@functools.cache
def _template(name: str) -> str:
    """The first template of a data set, by its registered name."""
    import datasets  # noqa: F401 - registers them; not above, since it takes torch
    from dassl.data.datasets import DATASET_REGISTRY

    known = name in DATASET_REGISTRY.registered_names()
    templates = getattr(DATASET_REGISTRY.get(name), "templates", None) if known else None
    return f"'{templates[0]}'" if templates else "the data set's"


def model_tested(results: dict) -> str:
    """By which rule the model came to be tested, by its configuration."""
    config = flat(results["config"])
    trainer = config.get("TRAINER.NAME", "")
    by = "chosen by {} on validation images"
    if not configs.learns(trainer):
        return "not trained"
    if trainer == "DFR":
        return f"penalty {by.format('worst_group_accuracy')}"
    if config.get("TEST.FINAL_MODEL") == "best_val":
        return f"epoch {by.format(config.get('TEST.SELECT_BY') or METRICS['mean'])}"
    return "last epoch"


PROTOCOL = Protocol(
    name="group",
    title="Group robustness",
    train="group/{source}/" + CELL,
    presets={"mmd": {"TRAINER.CRAFT.MMD.DOMAINS": "group"}},
    script="group_{part}.sh",
    shots="all",
    cells=cells,
    columns=lambda columns: [name for name in METRICS if name in columns],
    tells={"group labels seen in": groups_seen, "model tested": model_tested, "words": words},
    verdict="worst group",
    intervals=True,
    averaged=True,
    rank=50,
)
