"""Mistakes in a user's own files: each is one sentence."""

import pytest
from tiny_run import make_trainer
from yacs.config import CfgNode

from dassl.utils import UserError
from trainers.base import PromptTrainer
from trainers.terms import TERMS, Term, register


@pytest.fixture
def term():
    """A function that registers a term of CRAFT's options under a class name."""

    def make(title: str, module: str = __name__, **attributes):
        given = {"name": "mine", "node": "CRAFT", "weight": classmethod(lambda *_: 1.0)}
        given |= {"forward": lambda self, step: step.features.image.sum(), "__module__": module}
        return register(type(title, (Term,), given | attributes))

    known = dict(TERMS)
    yield make
    TERMS.clear()
    TERMS.update(known)


def test_a_term_never_replaces_another_of_its_name(tmp_path, term):
    term("Mine", name="cross_entropy")
    term("Other", name="cross_entropy")
    trainer = make_trainer(tmp_path, "CoOp", "TRAINER.TERMS", ("Mine",))
    with pytest.raises(UserError, match="term Mine is called 'cross_entropy', as a term of CoOp"):
        trainer.train()
    with pytest.raises(UserError, match="terms Mine and Other are both called 'cross_entropy'"):
        make_trainer(tmp_path, "CoOp", "TRAINER.TERMS", ("Mine", "Other"))


@pytest.mark.parametrize("lacking", ["name", "node"])
def test_a_term_states_its_name_and_its_node(term, lacking):
    with pytest.raises(UserError, match=f"term Mine of {__name__} lacks `{lacking}`"):
        term("Mine", **{lacking: None})


def test_a_terms_node_is_declared(term):
    term("Mine", node="MINE")
    cfg = CfgNode({"TRAINER": {"TERMS": ("Mine",)}})
    with pytest.raises(UserError, match="TRAINER.MINE is not declared: add it in extend_cfg"):
        PromptTrainer.term_kinds(cfg)


def test_two_modules_do_not_share_a_term_name(term):
    term("Mine", module="trainers.terms.a")
    with pytest.raises(UserError, match="trainers.terms.a and trainers.terms.b both have a term M"):
        term("Mine", module="trainers.terms.b")
    assert TERMS["Mine"].__module__ == "trainers.terms.a"
