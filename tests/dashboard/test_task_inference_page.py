"""The page on which a run is asked for the task of an image: real runs, the values that it shows, and what it refuses."""

import base64
import dataclasses
import io
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import streamlit as st
import torch
from PIL import Image
from streamlit.runtime.scriptrunner_utils.exceptions import StopException
from streamlit.testing.v1 import AppTest
from supsup_core import entropy, every_task, gamma, one_shot
from supsup_dashboard import run_choice
from supsup_dashboard.inference import image_choice, share_curve
from supsup_methods.experiment import Evaluation
from supsup_methods.mask_training import MaskTraining
from supsup_methods.psp import PspSettings
from supsup_methods.reproduction.asked_again import Asked
from supsup_methods.run_folder import RunFolder
from supsup_methods.runs import open_run
from supsup_methods.share_curve import ShareQuestion, known_curve
from supsup_methods.supsup import SupSupSettings
from supsup_methods.task_guessing import Gamma

from ..methods.test_running import begin
from ..methods.test_share_curve import NAMELESS, TINY, carried_out

SPARE = dataclasses.replace(
    TINY,
    name="spare",
    tasks=1,
    backbone=dataclasses.replace(TINY.backbone, outputs=10),
    method=SupSupSettings(training=MaskTraining(batches=2)),
)


def app():
    from supsup_dashboard.pages import task_inference

    task_inference.show()


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    runs = tmp_path_factory.mktemp("store")
    carried_out(TINY, runs / "tiny")
    carried_out(NAMELESS, runs / "nns")
    return runs


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    st.cache_data.clear()  # copies of a run have its name and times, and are not told apart
    st.cache_resource.clear()
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


@pytest.fixture
def tiny(here, learned):
    """A run of five tasks, and no other."""
    return RunFolder(shutil.copytree(learned / "tiny", here / "tiny"))


def opened():
    page = AppTest.from_function(app, default_timeout=120).run()
    assert not page.exception
    return page


def again(page):
    page.run()
    assert not page.exception
    return page


def metrics(page):
    return {metric.label: metric.value for metric in page.metric}


def choice(page, label):
    (found,) = (each for each in (*page.segmented_control, *page.selectbox, *page.number_input) if each.label == label)
    return found


def drawn(page, name):
    """Return the figure of a name, as it was sent to the browser."""
    (found,) = (each for each in page.get("plotly_chart") if f"-chart-{name}" in each.proto.id)
    return json.loads(found.proto.spec)


def picture(width=60, height=60, kind="PNG"):
    """Return a light page with a dark stroke in it."""
    image = Image.new("L", (width, height), 255)
    image.paste(0, (width // 2 - 4, height // 6, width // 2 + 4, height - height // 6))
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def test_of_a_run_that_learns_a_task_while_it_is_opened_the_next_look_has_all(tiny, monkeypatch):
    opened_so_far = []

    def learning(path):
        run = open_run(path)
        opened_so_far.append(path)
        if len(opened_so_far) > 1:
            return run
        later = time.time() + 60
        os.utime(path / "progress.json", (later, later))
        return dataclasses.replace(run, method=run.method.first(2))

    monkeypatch.setattr(run_choice, "open_run", learning)
    page = opened()
    assert len(choice(page, "Task").options) == 2
    again(page)
    assert len(choice(page, "Task").options) == 5
    choice(page, "Task").set_value(4)
    again(page)


def test_without_runs_it_says_how_to_start_one(here):
    page = opened()
    assert "poetry run supsup-train" in page.info[0].value
    assert not page.error


def test_it_shows_one_shots_answer_to_a_test_image(tiny):
    page = opened()
    assert not page.error
    run = open_run(tiny.path)
    batch = next(run.stream[0].test.in_order(1))
    guess = one_shot(entropy, run.network, run.bank, batch.images)
    label = int(run.method.logits(batch.images, guess.task).argmax())
    assert metrics(page)["Answer"] == f"task {guess.task}"
    assert metrics(page)["True task"] == f"0: {'right' if guess.task == 0 else 'wrong'}"
    confidence = torch.softmax(-guess.slopes[0], dim=0)[guess.task]
    assert metrics(page)["Confidence"] == f"{confidence:.1%}"
    assert metrics(page)["Label under the answer"] == (str(label) if label < 10 else f"none (output {label})")
    assert f"The image's own label is {int(batch.labels)}." in [caption.value for caption in page.caption]


def test_its_figures_are_of_this_guess(tiny):
    page = opened()
    choice(page, "Search").set_value("Binary")
    choice(page, "Task").set_value(3)
    choice(page, "Number of its (first) test image").set_value(7)
    again(page)
    run = open_run(tiny.path)
    images = next(run.stream[3].test.in_order(8)).images[7:]
    guess = gamma(entropy, run.network, run.bank, images, 0.5)
    assert metrics(page)["Answer"] == f"task {guess.task}"
    beliefs = drawn(page, "inference-beliefs")["data"][0]
    assert beliefs["y"] == ["round 1", "round 2", "answer"]
    assert [sum(each is not None for each in row) for row in beliefs["z"]] == [5, 2, 1]
    for number in (1, 2):
        page.select_slider[0].set_value(number)
        again(page)
        traces = {trace["name"]: trace for trace in drawn(page, "inference-slopes")["data"]}
        left = sorted(zip(values(traces["left"]["x"]), values(traces["left"]["y"]), strict=True))
        expected = [(task, float(slope)) for task, slope in enumerate(guess.slopes[number - 1])]
        assert left == [pytest.approx(pair) for pair in expected if guess.beliefs[number - 1][pair[0]] > 0]
    entropies = drawn(page, "inference-entropies")["data"][0]
    expected = every_task(entropy, run.network, run.bank, images).values
    assert values(entropies["y"]) == pytest.approx(expected.tolist(), rel=1e-5)


def values(column):
    """Return numbers as plotly sends them: as a list, or packed."""
    if isinstance(column, list):
        return column
    return np.frombuffer(base64.b64decode(column["bdata"]), dtype=np.dtype(column["dtype"])).tolist()


def test_several_images_share_a_guess(tiny):
    page = opened()
    choice(page, "Images per guess").set_value(8)
    choice(page, "Task").set_value(2)
    again(page)
    run = open_run(tiny.path)
    batch = next(run.stream[2].test.in_order(8))
    guess = one_shot(entropy, run.network, run.bank, batch.images)
    right = int((run.method.logits(batch.images, guess.task).argmax(dim=1) == batch.labels).sum())
    assert metrics(page)["Answer"] == f"task {guess.task}"
    assert metrics(page)["Labels right"] == f"{right} of 8"
    assert "Label under the answer" not in metrics(page)
    assert "as the network sees them; 2 more are not drawn" in [caption.value for caption in page.caption]


def test_another_share_and_another_objective_are_asked(tiny):
    page = opened()
    choice(page, "Search").set_value("γ")
    again(page)
    page.slider[0].set_value(0.8)
    choice(page, "Objective").set_value("G")
    again(page)
    assert not page.error
    assert drawn(page, "inference-beliefs")["data"][0]["y"] == [f"round {n}" for n in (1, 2, 3, 4)] + ["answer"]
    assert "slope dG/dα" in drawn(page, "inference-slopes")["layout"]["yaxis"]["title"]["text"]


def test_g_is_not_offered_where_no_neuron_is_superfluous(here):
    carried_out(SPARE, here / "spare")
    page = opened()
    assert not page.error
    assert choice(page, "Objective").options == ["H, entropy"]
    assert metrics(page)["Answer"] == "task 0"


def test_an_image_is_drawn_at_random(tiny, monkeypatch):
    monkeypatch.setattr(image_choice.secrets, "choice", lambda tasks: tasks[-1])
    monkeypatch.setattr(image_choice.secrets, "randbelow", lambda images: images - 1)
    page = opened()
    (random,) = (button for button in page.button if button.label == "At random")
    random.click()
    again(page)
    assert choice(page, "Task").value == 4
    assert choice(page, "Number of its (first) test image").value == 999
    assert metrics(page)["True task"].startswith("4: ")


def test_an_upload_is_shown_as_the_task_shows_its_own_images(tiny):
    page = opened()
    choice(page, "Image").set_value("Uploaded")
    again(page)
    assert "Choose a file" in page.info[0].value
    page.file_uploader[0].set_value(("seven.png", picture(), "image/png"))
    choice(page, "Task that shows it").set_value(3)
    page.toggle[0].set_value(True)
    again(page)
    assert not page.error
    run = open_run(tiny.path)
    view = run.stream[3].test
    pixels = 255 - np.asarray(Image.open(io.BytesIO(picture())).resize((28, 28), Image.Resampling.BILINEAR))
    flat = torch.from_numpy(pixels.copy()).flatten()[view.source_pixels].view(1, 1, 28, 28)
    images = run.dataset.normalization.apply(flat)
    guess = one_shot(entropy, run.network, run.bank, images)
    assert metrics(page)["Answer"] == f"task {guess.task}"
    assert metrics(page)["Shown as task"] == f"3: {'right' if guess.task == 3 else 'wrong'}"
    expected = every_task(entropy, run.network, run.bank, images).values
    assert values(drawn(page, "inference-entropies")["data"][0]["y"]) == pytest.approx(expected.tolist(), rel=1e-5)
    captions = [caption.value for caption in page.caption]
    assert {"before task 3 moves the pixels", "as the network sees it"} <= set(captions)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (picture()[:90], "it does not decode, so it is damaged or incomplete"),
        (b"GIF89a", "neither PNG nor JPEG by its content"),
        (picture(6000, 5000), "6000 × 5000 pixels, and at most 25 million are decoded"),
    ],
)
def test_a_bad_upload_gets_one_line_and_the_rest_of_the_page_stays(tiny, content, message):
    page = opened()
    choice(page, "Image").set_value("Uploaded")
    again(page)
    page.file_uploader[0].set_value(("bad.png", content, "image/png"))
    again(page)
    (error,) = page.error
    assert message in error.value
    assert not page.metric
    assert [button.label for button in page.button][-1].startswith("Measure")


def test_the_curve_is_measured_on_demand_and_then_known(tiny):
    page = opened()
    assert any("No point of this curve is measured yet" in info.value for info in page.info)
    choice(page, "Tasks whose test images are shown").set_value(2)
    again(page)
    page.button[-1].click()
    again(page)
    known = known_curve(tiny, ShareQuestion(5, 2, 5))
    assert known["accuracy"].notna().all()
    line, right = drawn(page, "accuracy-against-share")["data"]
    assert (line["text"][0], line["text"][-1]) == ("One-Shot", "Binary")
    assert values(right["y"]) == pytest.approx((100 * known["task inferred right"].astype(float)).tolist())
    assert values(line["x"]) == known["share"].tolist()
    assert values(line["y"]) == pytest.approx((100 * known["accuracy"].astype(float)).tolist())
    assert not any(button.label.startswith("Measure") for button in page.button)
    asked = {path.name: path.stat().st_mtime_ns for path in tiny.path.glob("asked-*")}
    assert len(asked) == 4
    drawn(opened_with(2), "accuracy-against-share")
    assert {path.name: path.stat().st_mtime_ns for path in tiny.path.glob("asked-*")} == asked


def opened_with(tasks):
    page = opened()
    choice(page, "Tasks whose test images are shown").set_value(tasks)
    return again(page)


def test_the_points_that_are_known_are_shown_at_once(tiny):
    page = opened_with(1)
    page.button[-1].click()
    again(page)
    (binary,) = (
        path for path in tiny.path.glob("asked-*") if json.loads(path.read_text())["inference"].get("share") == 0.5
    )
    binary.unlink()
    page = opened_with(1)
    assert len(values(drawn(page, "accuracy-against-share")["data"][0]["x"])) == 3
    assert page.button[-1].label == "Measure 1 of 4 points"


def test_who_leaves_stops_the_measuring_and_loses_little(tiny, monkeypatch):
    """What streamlit does to a script whose reader is gone: it ends at the next call that draws."""
    real, steps = share_curve._tell, []

    def tell(progress, *bars):
        real(progress, *bars)
        steps.append((progress.point, progress.tasks))
        if steps[-1] == (2, 3):
            raise StopException

    monkeypatch.setattr(share_curve, "_tell", tell)
    page = opened_with(5)
    page.button[-1].click()
    again(page)
    assert steps[-1] == (2, 3), "nothing is measured after that"
    assert known_curve(tiny, ShareQuestion(5, 5, 5))["tasks"].tolist() == [5, 3, 0, 0]
    monkeypatch.setattr(share_curve, "_tell", real)
    assert opened_with(5).button[-1].label == "Measure 3 of 4 points"


def test_masks_without_names_are_shown_with_the_task_they_were_trained_on(here, learned):
    shutil.copytree(learned / "nns", here / "nns")
    page = opened()
    assert not page.error
    run = open_run(here / "nns")
    assert choice(page, "Task").options == ["0", "1"], "two tasks that come back, of four stretches"
    for task in (0, 1):
        choice(page, "Task").set_value(task)
        again(page)
        stretch = next(index for index in range(4) if run.stream.identity(index) == task)
        guess = one_shot(entropy, run.network, run.method.bank, next(run.stream[stretch].test.in_order(1)).images)
        assert metrics(page)["Answer"] == f"mask {guess.task}"
        written = json.loads((here / "nns" / "stretches.json").read_text())["stretches"]
        batches = pd.DataFrame(written).query(f"mask == {guess.task}").groupby("task")["batches"].sum()
        assert metrics(page)["True task"] == f"{task}: {'right' if batches.idxmax() == task else 'wrong'}"
        (note,) = (each.value for each in page.caption if "Masks are no tasks here" in each.value)
        assert note.endswith(f"mask {guess.task} was trained mostly on task {batches.idxmax()}.")
    assert "slope dH" in drawn(page, "inference-slopes")["layout"]["yaxis"]["title"]["text"]


def test_a_method_that_searches_nothing_says_what_to_choose(here):
    psp = PspSettings()
    method = dataclasses.replace(psp, training=dataclasses.replace(psp.training, batches=2))
    carried_out(dataclasses.replace(TINY, tasks=1, method=method, evaluation=Evaluation(scenario="GG")), here / "psp")
    page = opened()
    assert "psp, does not find the task by a search over contexts. Choose a run of supsup" in page.info[0].value
    assert not page.error
    assert not page.metric


def test_a_run_without_a_task_says_so(here):
    begin(here / "fresh")
    page = opened()
    assert "This run has learned no task yet" in page.info[0].value
    assert not page.error


def test_damaged_files_are_named_in_one_line(tiny):
    (tiny.path / "recipe.json").write_text("{")
    (error,) = opened().error
    assert "recipe.json" in error.value


def test_a_damaged_bank_is_named_in_one_line(tiny):
    for shard in Path(tiny.bank).glob("*.safetensors"):
        shard.write_bytes(shard.read_bytes()[:-50])
    (error,) = opened().error
    assert "bank" in error.value
    assert "\n" not in error.value


def test_damaged_answers_leave_the_guess(tiny):
    Asked(tiny, Gamma()).path.write_text("{")
    page = opened()
    (error,) = page.error
    assert "delete it" in error.value
    assert metrics(page)["Answer"].startswith("task ")
