"""What pages copy from results and declarations is what these hold now."""

import itertools
import json

import forked
import pytest

from tools import pages
from tools.inputs import InputError


def test_every_page_is_up_to_date():
    """In a process of its own: other tests register data sets, trainers and metrics."""
    done = forked.python("-m", "tools.pages", "--check", cwd=pages.ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_result_and_every_key_is_in_a_page():
    text = "\n".join(page.read_text() for page in pages.pages())
    blocks = [match[2] for match in pages.BLOCK.finditer(text)]
    stored = {path.stem for path in (pages.ROOT / "docs/results").glob("*.json")}
    sheets = {"suite", "shifted"}
    assert sheets <= stored and sheets <= set(blocks)
    stored -= sheets
    for name, kind in itertools.product(stored, ("accuracy", "gain", "notes")):
        assert any(block.startswith(f"results {name} {kind}") for block in blocks), (name, kind)
    assert "options" in blocks and text.count("<!-- generated: ") == len(blocks)


def test_a_changed_number_is_seen_and_mended(tmp_path, monkeypatch, capsys):
    page = tmp_path / "README.md"
    page.write_text(
        "before\n\n<!-- generated: results ood gain -->\n\n1.23\n<!-- end -->\n\nafter\n"
    )
    monkeypatch.setattr(pages, "pages", lambda: [page])
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    (tmp_path / "docs/results").mkdir(parents=True)
    cells = {"cells": {"source": {"gain": {"mean": 1.5, "standard_error": 0.25, "seeds": [1, 2]}}}}
    row = {"dataset": "set", "trainer": "CraftX", "config": "a", "shots": "4"} | cells
    table = f'{{"columns": ["source"], "rows": [{str(row).replace(chr(39), chr(34))}]}}'
    (tmp_path / "docs/results/ood.json").write_text(table)
    assert pages.main(["--check"]) == 1 and "1.23" in page.read_text()
    assert "not up to date: README.md; run python -m tools.pages" in capsys.readouterr().out
    assert pages.main([]) == 0
    cells = " | ".join(["+1.50 [-1.68, +4.68]", "0.105      ", "0.105    ", "open   ", "2 "])
    assert f"| set      | CraftX  | 4     | {cells}" in page.read_text()
    assert "| p of source | Holm of 1 | verdict | seeds paired |" in page.read_text()
    assert pages.main(["--check"]) == 0


def test_averages_are_those_of_the_seeds():
    def row(dataset: str, trainer: str, base: list, new: list) -> dict:
        cells = {
            column: {"values": {str(seed): value for seed, value in enumerate(values, 1)}}
            for column, values in (("base", base), ("new", new))
        }
        return {"dataset": dataset, "trainer": trainer, "config": "c", "shots": "4", "cells": cells}

    rows = [
        row("a", "X", [60, 70], [50, 60]),
        row("b", "X", [40, 50], [30, 60]),
        row("a", "CraftX", [62, 71], [50, 60]),
        row("b", "CraftX", [42, 51], [30, 60]),
    ]
    first, second = pages.averages(rows)
    assert first["dataset"] == "average of 2"
    assert first["cells"]["base"]["values"] == {"1": 50, "2": 60}
    assert first["cells"]["H"]["mean"] == pytest.approx(2 * 55 * 50 / 105)
    gain = second["cells"]["base"]["gain"]
    # 2 and 1: standard error 0.5, times 12.706
    assert (gain.mean, gain.low, gain.high) == pytest.approx((1.5, -4.853, 7.853), abs=1e-3)


def test_gains_of_older_files_get_intervals_and_of_newer_ones_keep_theirs():
    old = {"mean": 2.0, "standard_error": 3**-0.5, "seeds": [1, 2, 3]}
    rows = [{"cells": {"H": {"gain": dict(old)}, "new": None}} for _ in range(2)]
    pages.with_gains(rows)
    gain = rows[0]["cells"]["H"]["gain"]
    assert gain.text() == "+2.00 [-0.48, +4.48]"
    assert gain.p_holm == pytest.approx(2 * gain.p) and rows[0]["cells"]["new"] is None
    new = gain.record("H") | {"p_holm": 0.4}
    rows = [{"cells": {"H": {"gain": new}}}]
    pages.with_gains(rows)
    assert rows[0]["cells"]["H"]["gain"].p_holm == 0.4


def test_averages_alone_or_data_sets_alone(tmp_path, monkeypatch):
    def row(dataset: str) -> dict:
        cell = {"mean": 1.0, "standard_deviation": None, "values": {"1": 1.0}}
        return {
            **{"dataset": dataset, "trainer": "X", "config": "c", "shots": "4"},
            "cells": {"base": cell},
        }

    monkeypatch.setattr(pages, "ROOT", tmp_path)
    (tmp_path / "docs/results").mkdir(parents=True)
    table = {"columns": ["base"], "rows": [row("average of 2"), row("one"), row("two")]}
    (tmp_path / "docs/results/study.json").write_text(json.dumps(table))

    def names(words: str) -> list[str]:
        lines = pages.block(f"results study accuracy {words}").splitlines()[2:]
        return [line.split("|")[1].strip() for line in lines]

    assert names("rows=averages") == ["average of 2"]
    assert names("rows=sets") == ["one", "two"] and len(names("")) == 3
    with pytest.raises(InputError, match="rows is 'all': choose averages or sets"):
        names("rows=all")


@pytest.mark.parametrize(
    "what",
    ["results", "results nothing accuracy", "results ood colour", "options TRAINER.NONE", "x"],
)
def test_an_unknown_block_is_refused(what):
    with pytest.raises(InputError):
        pages.block(what)


def test_a_gain_of_one_shared_seed_has_no_interval():
    cell = {"mean": 61.0, "values": {"1": 61.0}}
    gain = pages._gain(cell, {"mean": 60.0, "values": {"1": 60.0, "2": 60.0}})
    assert (gain.mean, gain.seeds, gain.low, gain.p) == (1.0, ("1",), None, None)


def test_seeds_stand_in_the_order_of_numbers():
    values = {str(seed): float(seed) for seed in (1, 10, 11, 2)}
    cell = {"mean": 6.0, "standard_deviation": 1.0, "values": values}
    row = {"dataset": "a", "trainer": "b", "config": "c", "shots": "4", "cells": {"H": cell}}
    assert pages.accuracies(["H"], [row])[1][-1] == "1, 2, 10, 11"
    assert pages.numbers([1, 2, 3, 5, 7, 8]) == "1 to 3, 5, 7, 8" and pages.numbers([4]) == "4"


def test_the_readme_tells_the_gain_of_the_quick_start():
    rows = json.loads((pages.ROOT / "docs/results/quickstart.json").read_text())["rows"]
    (gain,) = (row["cells"]["H"]["gain"] for row in rows if row["cells"]["H"].get("gain"))
    numbers = f"{gain['mean']:+.2f} points [{gain['low']:+.2f}, {gain['high']:+.2f}]"
    assert gain["verdict"] == "open"
    sentence = f"CRAFT's gain in H on this set is {numbers}: neither gain nor loss beyond chance."
    assert sentence in (pages.ROOT / "README.md").read_text()
