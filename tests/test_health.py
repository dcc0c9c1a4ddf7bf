"""tools.suite.health: what prompt tuning should show, and a table that does not show it."""

import json
from pathlib import Path

import pytest

from tools import pages
from tools.suite import health

ZERO = ("ZeroshotCLIP", 50.0, 40.0)
HEALTHY = [ZERO, ("CoOp", 70.0, 35.0), ("MaPLe", 60.0, 39.0), ("PromptSRC", 53.0, 39.5)]


def table(rows: list[tuple[str, float, float]], *more: dict) -> dict:
    def row(trainer: str, base: float, new: float, dataset: str = "average of 8") -> dict:
        cells = {"base": {"mean": base}, "new": {"mean": new}}
        return {"dataset": dataset, "trainer": trainer, "config": "suite", "cells": cells}

    alone = [row(name, 0.0, 99.0, "things") for name, *_ in rows]
    return {"rows": [*(row(*one) for one in rows), *alone, *more], "columns": ["base", "new"]}


def broken(rows: list[tuple[str, float, float]]) -> list[str]:
    return [rule.text for rule in health.rules(table(rows)) if not rule.kept]


def test_a_healthy_table_keeps_all_rules_by_its_averages():
    found = health.rules(table([*HEALTHY, ("CraftCoOp", 10.0, 10.0)]))
    assert [(rule.text, rule.seen) for rule in found] == [
        ("CoOp beats zero-shot CLIP on base classes by 3 points", "+20.0"),
        ("MaPLe beats zero-shot CLIP on base classes by 3 points", "+10.0"),
        ("PromptSRC beats zero-shot CLIP on base classes by 3 points", "+3.0"),
        ("CoOp loses on new classes", "-5.0"),
        ("PromptSRC loses least on new classes", "PromptSRC -0.5, MaPLe -1.0, CoOp -5.0"),
    ]
    assert all(rule.kept for rule in found)


@pytest.mark.parametrize(
    ("changed", "rules"),
    [
        (("MaPLe", 52.9, 39.0), ["MaPLe beats zero-shot CLIP on base classes by 3 points"]),
        (("CoOp", 70.0, 40.0), ["CoOp loses on new classes", "PromptSRC loses least on new"]),
        (("MaPLe", 60.0, 39.6), ["PromptSRC loses least on new classes"]),
    ],
)
def test_a_broken_rule_is_named(changed, rules):
    rows = [row if row[0] != changed[0] else changed for row in HEALTHY]
    assert [text[: len(rule)] for text, rule in zip(broken(rows), rules, strict=True)] == rules


def test_the_program_and_the_page_say_the_same(tmp_path: Path, capsys, monkeypatch):
    path = tmp_path / "docs/results/study.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(table(HEALTHY)))
    assert health.main([str(path)]) == 0
    printed = capsys.readouterr().out.strip()
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    assert pages.block("results study health") == printed
    assert printed.count("| yes") == 5 and "**no**" not in printed
    path.write_text(json.dumps(table([ZERO, ("CoOp", 70, 41), ("PromptSRC", 60, 42)])))
    assert health.main([str(path)]) == 1 and "**no**" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (table(HEALTHY[1:]), "no average of CoOp and PromptSRC and zero-shot CLIP over the same"),
        (table(HEALTHY[:3]), "no average of PromptSRC and zero-shot CLIP"),
        (
            table(HEALTHY, table([("VPT", 1, 1)])["rows"][0] | {"dataset": "average of 2 of 8"}),
            "averages over different data sets",
        ),
        (
            table(HEALTHY, table([("CoOp", 1, 1)])["rows"][0] | {"config": "other"}),
            "several configs of one structure",
        ),
        (
            table(HEALTHY[:3], table([HEALTHY[3]])["rows"][0] | {"published": True}),
            "no average of PromptSRC and zero-shot CLIP",
        ),
        (
            table(
                HEALTHY,
                table([("VPT", 1, 1)])["rows"][0] | {"cells": {"base": {"mean": 1}, "new": None}},
            ),
            "the average of VPT has an empty cell",
        ),
        ({"rows": [{}]}, "is no table of tools.results base2new ('dataset')"),
        ("words", "is no table of tools.results base2new"),
    ],
)
def test_a_table_that_cannot_be_judged_is_refused(content, words, tmp_path, capsys):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(content) if content != "words" else "words")
    assert health.main([str(path)]) == 2
    assert words in capsys.readouterr().err
    assert health.main([str(tmp_path / "none.json")]) == 2
    assert "cannot be read" in capsys.readouterr().err
