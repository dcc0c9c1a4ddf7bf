"""The collector against hand-computed tables."""

import json
import time

import pytest
from PIL import Image

from tools import parse_test_res, protocols, results

BASE, NEW = {1: 80.0, 2: 82.0, 3: 84.0}, {1: 60.0, 2: 64.0, 3: 62.0}


def write(root, part, dataset, trainer, seed, accuracy, complete=True, config=None):
    folder = root / part / dataset / "shots_8" / trainer / "openmoji" / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    content = {"complete": complete, "metrics": {"test": {"accuracy": accuracy}}, "config": {"SEED": seed, "OUTPUT_DIR": str(folder), **(config or {})}}
    (folder / "results.json").write_text(json.dumps(content))
    return folder / "results.json"


@pytest.fixture
def runs(tmp_path):
    for dataset, more in (("openmoji", 0.0), ("other", 6.0)):
        for trainer, gain in (("CoOp", {1: 0, 2: 0, 3: 0}), ("CraftCoOp", {1: 1, 2: 2, 3: 3})):
            for seed in (1, 2, 3):
                write(tmp_path, "train_base", dataset, trainer, seed, BASE[seed] + more + gain[seed])
                write(tmp_path, "test_new", dataset, trainer, seed, NEW[seed] + more)
        write(tmp_path, "train_base", dataset, "ZeroshotCLIP", 1, 50.0)
    return tmp_path


def table(capsys, *arguments):
    assert results.main(["base2new", *map(str, arguments)]) == 0
    text = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return text, {(line[0], line[1]): line for line in lines}


def averages_of(folder):
    protocol = protocols.PROTOCOLS["base2new"]
    return protocols.averages(protocol, protocols.collect(protocol, [folder])[0], ["base", "new", "H"])


def test_numbers(runs, capsys):
    text, rows = table(capsys, runs)
    # H per seed: 2*80*60/140 = 68.5714, 2*82*64/146 = 71.8904, 2*84*62/146 = 71.3425; mean 70.6014, deviation 1.7786
    assert rows["openmoji", "CoOp"][4:] == ["82.00 ± 2.00", "62.00 ± 2.00", "70.60 ± 1.78", "1, 2, 3"]
    assert rows["openmoji", "ZeroshotCLIP"][4:] == ["50.00", results.MISSING, results.MISSING, "1"]
    # H of the averaged base and new, per seed, not the average of H
    base, new = 83.0, 63.0
    assert averages_of(runs)[0].trainer == "ZeroshotCLIP"
    average = next(row for row in averages_of(runs) if row.trainer == "CoOp")
    assert average.of("H")[1] == pytest.approx(2 * base * new / (base + new))
    assert "paired over seeds" in text and "+2.00 ± 0.58" in text  # 1, 2, 3: deviation 1 / sqrt(3)
    assert f"cells with {results.MISSING} have no finished run" in text


def test_files_and_picture(runs, capsys, tmp_path):
    table(capsys, runs, "--out", tmp_path / "table", "--plot", tmp_path / "table.png")
    assert (tmp_path / "table.csv").read_text().splitlines()[1].startswith("openmoji,ZeroshotCLIP,openmoji,8,50.00,")
    assert r"82.00 $\pm$ 2.00" in (tmp_path / "table.tex").read_text()
    assert (tmp_path / "table.md").read_text().startswith("| data set")
    assert Image.open(tmp_path / "table.png").size[0] > 400


def put(folder, metrics):
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps({"complete": True, "metrics": {"test": metrics}, "config": {}}))


def report(capsys, protocol, *arguments):
    assert results.main([protocol, *map(str, arguments)]) == 0
    text = capsys.readouterr().out
    return text, [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_ood_columns_and_the_gain_of_mmd_over_the_structure(tmp_path, capsys):
    for trainer, config, more in (("CoOp", "openmoji", 0), ("CraftCoOp", "openmoji", 1), ("CraftCoOp", "openmoji_mmd", 3)):
        for seed in (1, 2):
            for part, value in (("train", 70), ("test_line", 60), ("test_other", 50)):
                put(tmp_path / "ood" / part / "a_to_line/shots_8" / trainer / config / f"seed{seed}", {"accuracy": value + more * seed})
    text, lines = report(capsys, "ood", tmp_path, "--plot", tmp_path / "p.png", "--out", tmp_path / "t")
    assert lines[0] == ["data set", "trainer", "config", "shots", "source", "line", "other", "average", "seeds"]
    assert lines[2][:8] == ["a_to_line", "CoOp", "openmoji", "8", "70.00 ± 0.00", "60.00 ± 0.00", "50.00 ± 0.00", "55.00 ± 0.00"]
    assert [line[:3] for line in lines[3:5]] == [["a_to_line", "CraftCoOp", "openmoji"], ["a_to_line", "CraftCoOp", "openmoji_mmd"]]
    assert lines[-1] == ["a_to_line", "CraftCoOp openmoji_mmd", "+4.50 ± 1.50", "+4.50 ± 1.50", "+4.50 ± 1.50", "+4.50 ± 1.50", "2"]
    assert len((tmp_path / "t_runs.csv").read_text().splitlines()) == 1 + 18
    assert json.loads((tmp_path / "t.json").read_text())[0]["values"]["source"] == {"1": 70.0, "2": 70.0}


def test_group_columns(tmp_path, capsys):
    put(tmp_path / "group/birds/shots_all/CoOp/cfg/seed1", {"accuracy": 90.0, "worst_group_accuracy": 60.0, "gap": 30.0, "adjusted_accuracy": 93.0})
    put(tmp_path / "group/faces/shots_all/CoOp/cfg/seed1", {"accuracy": 80.0, "worst_group_accuracy": 50.0, "gap": 30.0})
    _, lines = report(capsys, "group", tmp_path)
    assert lines[0][3:] == ["shots", "mean", "adjusted", "worst group", "gap", "seeds"]
    assert lines[2][:8] == ["birds", "CoOp", "cfg", "all", "90.00", "93.00", "60.00", "30.00"]
    assert lines[3][5] == results.MISSING and lines[4][:7] == ["average of 2", "CoOp", "cfg", "all", "85.00", results.MISSING, "55.00"]


def test_cross_dataset_domain_generalisation_and_few_shot_columns(tmp_path, capsys):
    for shots in (1, 16):
        put(tmp_path / f"imagenet/CoOp/vit_b16_{shots}shots/seed1", {"accuracy": 70.0 + shots})
    for target, value in (("dtd", 40.0), ("eurosat", 50.0), ("imagenet_a", 30.0)):
        put(tmp_path / f"evaluation/CoOp/vit_b16_16shots/{target}/seed1", {"accuracy": value})
    _, lines = report(capsys, "xd", tmp_path, "--shots", 16)
    assert lines[0][4:] == ["source", "dtd", "eurosat", "average", "seeds"] and lines[2][4:] == ["86.00", "40.00", "50.00", "45.00", "1"]
    _, lines = report(capsys, "dg", tmp_path, "--shots", 16)
    assert lines[0][4:] == ["source", "imagenet_a", "average", "seeds"] and lines[2][4:] == ["86.00", "30.00", "30.00", "1"]
    _, lines = report(capsys, "few_shot", tmp_path)
    assert lines[0][3:] == ["1 shots", "16 shots", "seeds"] and lines[2] == ["imagenet", "CoOp", "vit_b16", "71.00", "86.00", "1"]


def test_ablation_rows_are_the_variants(tmp_path, capsys):
    for variant, more in (("baseline", 0), ("static", 1), ("both", 2)):
        trainer = "CoOp" if variant == "baseline" else "CraftCoOp"
        write(tmp_path / f"ablation/{variant}/base2new", "train_base", "openmoji", trainer, 1, 80.0 + more)
        write(tmp_path / f"ablation/{variant}/base2new", "test_new", "openmoji", trainer, 1, 60.0)
    text, lines = report(capsys, "ablation", tmp_path)
    assert [line[1:3] for line in lines[2:5]] == [["CoOp", "baseline"], ["CoOp", "static"], ["CoOp", "both"]]
    assert lines[-1][:3] == ["openmoji", "CoOp both", "+2.00"]
    assert results.main(["base2new", str(tmp_path)]) == 2  # these are not its runs


def test_incomplete_unreadable_and_mixed_runs_are_named(runs, capsys):
    unfinished = write(runs, "test_new", "openmoji", "CoOp", 3, 99.0, complete=False)
    broken = write(runs, "test_new", "openmoji", "CoOp", 2, 99.0)
    broken.write_text("{")
    write(runs, "train_base", "openmoji", "CoOp", 3, 84.0, config={"OPTIM": {"LR": 1}})
    text, rows = table(capsys, runs)
    assert rows["openmoji", "CoOp"][5] == "60.00"
    assert f"'{unfinished}' is of a run that is not complete" in text and f"'{broken}' is not readable as results" in text
    assert "CoOp/openmoji on openmoji (base) mixes 2 configurations" in text


def test_nothing_found(tmp_path, capsys):
    assert results.main(["base2new", str(tmp_path)]) == 2
    assert "no results.json of base2new runs below" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="is not a folder"):
        results.main(["base2new", str(tmp_path / "none")])


def test_a_thousand_runs_take_seconds(tmp_path, capsys):
    for i in range(25):
        for seed in range(20):
            for part in ("train_base", "test_new"):
                write(tmp_path, part, f"set{i}", "CoOp", seed, 50.0 + seed)
    start = time.process_time()
    table(capsys, tmp_path)
    assert time.process_time() - start < 5


def test_logs_are_read_as_the_coop_world_does(tmp_path, capsys):
    for seed, value in ((1, 80.0), (2, 84.0)):
        folder = tmp_path / "run" / f"seed{seed}"
        folder.mkdir(parents=True)
        (folder / "log.txt").write_text(f"=> result\n* accuracy: 10.0%\nFinish training\n=> result\n* total: 8\n* accuracy: {value}%\n")
    assert parse_test_res.main([str(tmp_path / "run")]) == 0
    assert "* accuracy: 82.00% +- 2.83%" in capsys.readouterr().out
    assert parse_test_res.main([str(tmp_path), "--multi-exp", "--ci95"]) == 0
    assert "+- 3.92%" in capsys.readouterr().out
    (tmp_path / "run/seed1/log.txt").write_text("=> result\n* accuracy: 70.0%\n")
    (tmp_path / "run/seed2/log.txt").write_text("=> result\n* accuracy: 72.0%\n")
    assert parse_test_res.main([str(tmp_path / "run")]) == 2
    assert "for test runs give --test-log" in capsys.readouterr().err
    assert parse_test_res.main([str(tmp_path / "run"), "--test-log"]) == 0


def test_published_numbers_stand_beside_ours_with_their_status(tmp_path, capsys):
    for part, value in (("train_base", 90.0), ("test_new", 70.0)):
        write(tmp_path, part, "oxford_flowers", "CoOp", 1, value)
    text, lines = report(capsys, "base2new", tmp_path)
    published = {line[1]: line for line in lines if "(published)" in line[1]}
    assert published["CLIP (published)"][4:6] == ["72.08", "77.80"] and published["CoOp (published)"][6] not in ("", results.MISSING)
    number = published["CLIP (published)"][2]
    assert f"note: {number} CoCoOp paper" in text and "not verified against its source" in text
    text, lines = report(capsys, "base2new", tmp_path, "--ours")
    assert "(published)" not in text
    put(tmp_path / "imagenet/CoOp/vit_b16_16shots/seed1", {"accuracy": 71.5})
    put(tmp_path / "evaluation/CoOp/vit_b16_16shots/imagenet_sketch/seed1", {"accuracy": 47.0})
    _, lines = report(capsys, "dg", tmp_path)
    assert [line[4:6] for line in lines if line[1] == "CLIP (published)"] == [["66.73", "46.15"]]


def test_a_report_page_holds_everything_in_one_file(tmp_path, capsys):
    from tools import report as page
    for trainer, more in (("CoOp", 0), ("CraftCoOp", 2)):
        for seed in (1, 2):
            for part, value in (("train_base", 80), ("test_new", 60)):
                write(tmp_path / "out", part, "openmoji", trainer, seed, value + more + seed, config={"OPTIM": {"LR": 0.1}, "TRAINER": {"NAME": trainer}})
    Image.new("RGB", (30, 20), "red").save(tmp_path / "tsne.png")
    assert page.main([str(tmp_path / "out"), "--out", str(tmp_path / "page.html"), "--figures", str(tmp_path / "tsne.png")]) == 0
    text = (tmp_path / "page.html").read_text()
    assert "81.50 ± 0.71" in text and "+2.00 ± 0.00" in text and text.count("data:image/png;base64,") == 2
    assert "http://" not in text and "https://" not in text and "src=\"data:" in text  # nothing is fetched
    assert "LR: 0.1" in text and "Gain of CRAFT" in text
    assert page.cell("-5.00 ± 1.00", "gap", True) == '<td class="up">-5.00 ± 1.00</td>'  # a smaller gap is a gain
    assert 'class="down"' in page.cell("-5.00 ± 1.00", "base", True) and "class" not in page.cell("-5.00 ± 3.00", "base", True)
    assert page.main([str(tmp_path / "none"), "--out", str(tmp_path / "x.html")]) == 2
    (tmp_path / "empty").mkdir()
    assert page.main([str(tmp_path / "empty"), "--out", str(tmp_path / "x.html")]) == 2
    assert "holds no finished runs" in capsys.readouterr().err and not (tmp_path / "x.html").exists()
