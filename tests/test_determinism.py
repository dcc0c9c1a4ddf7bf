"""The same seed gives the same bits, or the operation that does not is named; steps that amp leaves
out are told.
"""

import os

import pytest
import torch
from tiny_run import make_trainer
from torch.utils import deterministic as torchs

from dassl.utils import UserError, deterministic


def settings() -> tuple:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        torchs.fill_uninitialized_memory,
    )


def test_it_is_strict_inside_and_gone_outside(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = settings()
    with deterministic():
        assert settings() == (True, False, False, False)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert settings() == before and "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with pytest.raises(ZeroDivisionError), deterministic():
        raise ZeroDivisionError
    assert settings() == before


def test_what_a_user_chose_for_cublas_stays(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with deterministic():
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    said = "Deterministic behavior was enabled with ... set CUBLAS_WORKSPACE_CONFIG=:4096:8"
    with pytest.raises(UserError, match="CUBLAS_WORKSPACE_CONFIG is ':16:8', with which"):
        with deterministic():
            raise RuntimeError(said)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_an_operation_without_a_deterministic_version_is_named():
    values, places = torch.zeros(3), torch.tensor([0, 0])
    with pytest.raises(UserError, match=r"^put_ has no deterministic version .* set SEED -1"):
        with deterministic():
            values.put_(places, torch.ones(2))
    with pytest.raises(UserError, match="^scatter with src tensor has no deterministic version"):
        with deterministic():
            said = "scatter with src tensor does not have a deterministic implementation"
            raise RuntimeError(said)
    with pytest.raises(UserError, match="or give the device cpu$"):
        with deterministic("give the device cpu"):
            raise RuntimeError(said)
    with pytest.raises(RuntimeError, match="another"), deterministic():
        raise RuntimeError("another")


@pytest.mark.parametrize(
    ("name", "node"), [("CoOp", "COOP"), ("ProGrad", "PROGRAD"), ("CraftMaPLe", "MAPLE")]
)
def test_steps_that_amp_leaves_out_are_told_once(tmp_path, name, node, capsys):
    """Three steps an epoch; the scaler of a GPU, on a CPU."""
    trainer = make_trainer(tmp_path, name, f"TRAINER.{node}.PREC", "fp32")
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    start = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    steps, update = [], trainer.scaled_step

    def watched():
        gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
        finite = all(bool(gradient.isfinite().all()) for gradient in gradients)
        before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
        update()
        moved = any(
            not torch.equal(value, before[key]) for key, value in trainer.model.state_dict().items()
        )
        steps.append((trainer.epoch, finite, moved))

    trainer.scaled_step = watched
    trainer.train()
    assert all(finite == moved for _, finite, moved in steps) and len(steps) == 6
    said = [line for line in capsys.readouterr().out.splitlines() if "amp left out" in line]
    expected = [sum(not moved for at, _, moved in steps if at == epoch) for epoch in (0, 1)]
    assert expected[0] > 0
    assert [int(line.split("amp left out ")[1].split()[0]) for line in said] == [
        number for number in expected if number
    ]
    assert any(not torch.equal(v, start[k]) for k, v in trainer.model.state_dict().items()) == any(
        moved for *_, moved in steps
    )
