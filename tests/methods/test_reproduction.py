import json
from dataclasses import replace
from importlib.metadata import version
from platform import python_version

import pandas as pd
import pytest
import torch
from supsup_core.hopfield import hebb, storkey
from supsup_methods.errors import UsageError
from supsup_methods.experiment import Evaluation, FullyConnected, NormalisedFullyConnected
from supsup_methods.hopsupsup import UnitMaskTraining
from supsup_methods.recipes.figure7 import FIGURE7
from supsup_methods.recipes.reservoirs import RESERVOIRS
from supsup_methods.recipes.table5 import TABLE5
from supsup_methods.reporting import hopfield_figures as figures
from supsup_methods.reporting.style import BLUE, ORANGE, see_through
from supsup_methods.reproduction import figures_7_and_8, reservoir_capacity, unknown_tasks_studies
from supsup_methods.reproduction.findings import Findings, Row, write_findings
from supsup_methods.reproduction.reservoir_capacity import TURNED, recall_shares
from supsup_methods.run_folder import RunFolder
from supsup_methods.training_length import StreamTraining


def small(recipe):
    """Two tasks, narrow, one epoch: what it finds is of no interest."""
    method = replace(recipe.method, training=UnitMaskTraining(epochs=1, batch_size=400))
    return replace(recipe, tasks=2, backbone=NormalisedFullyConnected(hidden=(32, 24)), method=method)


def test_what_was_run_is_not_run_again_and_other_settings_are_refused(bench):
    bench, carried, said = bench
    recipe = small(FIGURE7[0])
    runs = list(bench.each_seed(recipe))
    assert [run.recipe() for run in runs] == [replace(recipe, seed=0), replace(recipe, seed=1)]
    assert carried == [(recipe.name, 0), (recipe.name, 1)]
    assert len(said) == 2
    list(bench.each_seed(recipe))
    assert len(carried) == 2
    (runs[1].path / "summary.json").unlink()  # as if it had been stopped
    list(bench.each_seed(recipe))
    (runs[0].path / "progress.json").unlink()  # as a crash of the machine may leave it
    list(bench.each_seed(recipe))
    (runs[1].path / "progress.json").write_text("torn")
    tested = [run.progress().checkpoints[-1].tasks_learned for run in bench.each_seed(recipe)]
    assert carried[2:] == [(recipe.name, 1), (recipe.name, 0), (recipe.name, 1)]
    assert tested == [2, 2]
    with pytest.raises(UsageError, match="figure7-hopsupsup-seed-0: this run was made with other settings"):
        list(bench.each_seed(replace(recipe, tasks=1)))
    with pytest.raises(UsageError, match=r"seed-0: this run was made with another data \(MNIST-5k\); name it again"):
        list(replace(bench, digest_of=lambda stream: "another").each_seed(recipe))
    with pytest.raises(UsageError, match=r"seed-0: this run was made with another device \(cpu\); name it again"):
        list(replace(bench, device="cuda:0").each_seed(recipe))
    file = runs[0].path / "environment.json"  # as an earlier version left it, which tested in the order of the data
    file.write_text(
        json.dumps({name: value for name, value in json.loads(file.read_text()).items() if name != "test_order"})
    )
    with pytest.raises(UsageError, match=r"another order of test images \(of the data\); name it again"):
        list(bench.each_seed(recipe))


def test_figures_7_and_8_tell_what_their_runs_recorded(bench, monkeypatch):
    bench, carried, _ = bench
    monkeypatch.setattr(figures_7_and_8, "FIGURE7", tuple(small(recipe) for recipe in FIGURE7))
    seven, eight = figures_7_and_8.figure7(bench), figures_7_and_8.figure8(bench)
    assert len(carried) == 6, "both figures come from the same runs"
    for number, recipe in enumerate(FIGURE7):
        scores = [
            RunFolder(bench.runs / f"{recipe.name}-seed-{seed}").progress().checkpoints[-1].scores for seed in range(2)
        ]
        traces = [[score.recovery for score in seed] for seed in scores]
        exact = [sum(trace.steps_to_right is not None for trace in seed) / 2 for seed in traces]
        recovered = [row for row in seven.rows if "recovered to the last unit" in row.what][number]
        assert recovered.ours == pytest.approx([100 * share for share in exact])
        with_recovered, with_right = eight.rows[2 * number : 2 * number + 2]
        assert with_recovered.ours == pytest.approx(
            [100 * sum(score.accuracy for score in seed) / 2 for seed in scores]
        )
        assert with_right.ours == pytest.approx(
            [100 * sum(trace.right_mask_accuracy for trace in seed) / 2 for seed in traces]
        )
        lost = seven.tables[f"masks lost by {recipe.name}"]
        assert len(lost) == sum(not score.guesses_right for seed in scores for score in seed)
    assert {run["seed"] for run in seven.runs} == {0, 1}
    assert seven.seconds == pytest.approx(sum(sum(run["seconds"].values()) for run in seven.runs))


def test_the_record_holds_values_settings_and_where_they_come_from(bench, tmp_path):
    bench, *_ = bench
    (run, _) = list(bench.each_seed(small(FIGURE7[0])))
    summary = run.summary()
    figure = figures.recovered_accuracy(pd.DataFrame({"seed": [0], "recovered": [0.5], "right": [0.75]}))
    rows = (Row("accuracy", (50.0, 70.0), paper="60"), Row("one seed", (3.0,), "steps"))
    findings = Findings(
        rows, {"seeds": figure}, {"more": [{"a": 1}]}, (summary,), 7.0, summary["machine"], summary["data"]
    )
    record, page = write_findings(tmp_path / "records", "figure8", findings, quick=True)
    stored = json.loads(record.read_text())
    assert stored["quick"] is True
    first, second = stored["rows"]
    assert first == {
        "what": "accuracy", "ours": [50.0, 70.0], "unit": "%", "paper": "60", "mean": 60.0, "std": pytest.approx(200**0.5),
        "seeds": 2, "paper_value": None, "tolerance": None, "difference": None, "status": "",
    }  # fmt: skip
    assert second["std"] is None
    assert stored["settings"]["figure7-hopsupsup"]["backbone"]["hidden"] == [32, 24]
    assert stored["data"] == "MNIST-5k"
    assert stored["versions"]["torch"] == version("torch")
    assert stored["tables"] == {"more": [{"a": 1}]}
    assert (record.name, page.name) == ("figure8-quick.json", "figure8-quick-seeds.html")
    assert write_findings(tmp_path / "records", "figure8", findings, quick=False)[0].name == "figure8.json"
    assert "Plotly.newPlot" in page.read_text()


def test_the_record_of_what_was_measured_without_a_run_says_as_much(tmp_path):
    findings = Findings((Row("milliseconds", (3.0,), "ms"),), seeds=(0,), settings={"cost": {"threads": 2}})
    stored = json.loads(write_findings(tmp_path, "cost", findings, quick=False)[0].read_text())
    assert (stored["seeds"], stored["settings"], stored["recipes"]) == ([0], {"cost": {"threads": 2}}, [])
    assert stored["versions"] == {
        **{name: version(name) for name in ("supsup-core", "supsup-datasets", "supsup-methods", "torch")},
        "python": python_version(),
    }


def test_recall_is_what_a_loop_over_units_finds():
    # A power of two, so that couplings are exact and a field is 0 where it should be.
    strings = torch.where(torch.rand(6, 32, generator=torch.Generator().manual_seed(0)) < 0.5, -1.0, 1.0)
    shares = recall_shares(strings, hebb, [2, 6], seed=3)
    couplings, expected = torch.zeros(32, 32), []
    turned = torch.rand(6, 32, generator=torch.Generator().manual_seed(3)).argsort(dim=1) < round(TURNED * 32)
    assert (turned.sum(dim=1) == 3).all()
    for number, string in enumerate(strings, start=1):
        couplings = hebb(couplings, string)
        if number not in (2, 6):
            continue
        back = 0
        for which in range(number):
            cue = torch.where(turned[which], -strings[which], strings[which])
            for unit in [*range(32)] * 10:
                field = sum(couplings[unit, other] * cue[other] for other in range(32) if other != unit)
                cue[unit] = field.sign() if field != 0 else cue[unit]
            back += torch.equal(cue, strings[which])
        expected.append(back / number)
    assert shares == pytest.approx(expected)
    assert shares[0] == 1.0


def test_few_random_strings_are_recalled_and_too_many_are_not():
    strings = torch.where(torch.rand(150, 300, generator=torch.Generator().manual_seed(1)) < 0.5, -1.0, 1.0)
    few, many = recall_shares(strings, storkey, [5, 150], seed=0)
    assert few == 1.0
    assert many < 0.5


def test_capacity_is_where_recall_first_fails():
    lines = [{"stored": stored, "recalled": share} for stored, share in ((1, 1.0), (5, 0.96), (10, 0.5), (20, 0.99))]
    assert reservoir_capacity._capacity(lines) == (5, False)
    assert reservoir_capacity._capacity(lines[2:]) == (0, False)
    assert reservoir_capacity._capacity(lines[:2]) == (5, True)


def test_the_reservoirs_capacity_is_measured_on_masks_that_were_trained(bench, monkeypatch):
    bench, *_ = bench
    recipe = small(RESERVOIRS[0])
    recipe = replace(recipe, evaluation=replace(recipe.evaluation, checkpoints=(1,)))
    monkeypatch.setattr(reservoir_capacity, "RESERVOIRS", (recipe,))
    found = reservoir_capacity.reservoir_capacity(bench)
    assert {(line["masks"], line["rule"]) for line in found.tables["recalled"]} == {
        (masks, rule) for masks in ("trained", "random") for rule in ("hebb", "storkey", "strict-storkey")
    }
    widths = {(line["units"], line["masks"]) for line in found.tables["recalled"]}
    assert widths == {(32, "trained"), (32, "random")}
    held = [row for row in found.rows if "masks held by" in row.what]
    assert [row.what.split(",")[0] for row in held] == [
        f"d = {units}: {masks} masks held by {rule}"
        for units, masks in ((32, "trained"), (32, "random"))
        for rule in ("hebb", "storkey", "strict-storkey")
    ]
    (sizes,) = found.tables["bytes"]
    half_of_each_matrix = 2 * (32 * 33 // 2 + 32)
    assert sizes["bytes of the reservoir"] == 4 * half_of_each_matrix
    assert [row.what for row in found.rows][-2:] == [
        f"d = 32, Eq. 6: recovered to the last unit from test images, {stored} stored" for stored in (1, 2)
    ]


def test_the_distance_is_drawn_by_layer_with_its_median():
    steps = pd.DataFrame(
        [
            {"seed": seed, "task": 0, "step": step, "layer": layer, "distance": distance}
            for layer in ("a", "b")
            for seed, way in enumerate(((9, 4, 0), (7, 2, 0), (8, 3, 0)))
            for step, distance in enumerate(way, start=1)
        ]
    )
    traces = figures.distance_to_right_mask(steps).data
    assert {trace.fillcolor for trace in traces if trace.fill} == {see_through(BLUE), see_through(ORANGE)}
    medians = [trace for trace in traces if "median" in (trace.name or "")]
    assert [(trace.name, list(trace.x), list(trace.y)) for trace in medians] == [
        (f"{layer}: median", [1, 2, 3], [8, 3, 0]) for layer in ("a", "b")
    ]


def test_what_was_found_and_what_was_lost_are_drawn_apart():
    steps = pd.DataFrame(
        {
            "step": [1, 2, 1, 2],
            "entropy": [2.0, 0.5, 2.0, 1.5],
            "energy": [-1.0, -9.0, -1.0, -8.0],
            "recovered": [True, True, False, False],
        }
    )
    traces = figures.energy_against_entropy(steps).data
    assert [(trace.name, list(trace.y)) for trace in traces] == [
        ("recovered", [2.0, 0.5]), ("recovered", [-1.0, -9.0]), ("lost", [2.0, 1.5]), ("lost", [-1.0, -8.0]),
    ]  # fmt: skip


def test_recall_is_drawn_against_masks_for_each_unit():
    shares = pd.DataFrame(
        {
            "masks": ["trained", "trained", "random"],
            "rule": ["hebb"] * 3,
            "units": [100] * 3,
            "stored": [10, 20, 30],
            "recalled": [1.0, 0.5, 0.25],
        }
    )
    trained, random = figures.recall_against_stored(shares).data
    assert (list(trained.x), list(trained.y)) == ([0.1, 0.2], [100.0, 50.0])
    assert (list(random.x), list(random.y)) == ([0.3], [25.0])


def short_stream(recipe):
    """Three stretches of a narrow network: what it finds is of no interest."""
    method = replace(recipe.method, training=StreamTraining(batches=30, batch_size=64, learning_rate=1e-3))
    method = replace(method, allocation=replace(method.allocation, every=10))
    evaluation = Evaluation(scenario="NNs")
    return replace(
        recipe, tasks=3, backbone=FullyConnected(hidden=(50,), outputs=30), method=method, evaluation=evaluation
    )


def test_tasks_that_come_back_are_told_by_the_books_of_their_runs(bench, monkeypatch):
    bench, *_ = bench
    recipes = tuple(short_stream(recipe) for recipe in TABLE5 if recipe.name == "nns-recurring")
    monkeypatch.setattr(unknown_tasks_studies, "TABLE5", recipes)
    found = unknown_tasks_studies.recurring(bench)
    runs = [RunFolder(bench.runs / f"nns-recurring-seed-{seed}").summary() for seed in range(2)]
    accuracy, masks, purity, delay, missed = found.rows
    assert accuracy.ours == pytest.approx([100 * run["checkpoints"][-1]["accuracy"] for run in runs])
    assert all(run["allocation"]["delay_batches"] is not None for run in runs)
    for row, name, scale in (
        (masks, "masks", 1),
        (purity, "purity", 100),
        (delay, "delay_batches", 1),
        (missed, "missed", 1),
    ):
        assert row.ours == pytest.approx([scale * run["allocation"][name] for run in runs])
    known, new = found.figures["decisions"].data
    assert len(known.x) + len(new.x) == 9
    assert min(new.x) == 0


def test_epsilon_is_varied_over_the_same_stream(bench, monkeypatch):
    bench, carried, _ = bench
    recipes = tuple(short_stream(recipe) for recipe in TABLE5 if recipe.name == "table5-nns")
    monkeypatch.setattr(unknown_tasks_studies, "TABLE5", recipes)
    monkeypatch.setattr(unknown_tasks_studies, "_TASKS", 2)
    found = unknown_tasks_studies.epsilon(replace(bench, seeds=1))
    assert [name for name, _ in carried] == [f"nns-epsilon-{number}" for number in (32, 16, 8, 4, 2)]
    masks = [row.ours[0] for row in found.rows if "masks allocated" in row.what]
    assert masks == sorted(masks), "the higher ε, the more is new"
    drawn, true = found.figures["masks"].data
    assert list(drawn.y) == masks
    assert list(true.y) == [2.0] * 5
