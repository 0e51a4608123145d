"""From a recipe's words to guesses: the search that is meant, many batches as one, and confidences in the answer."""

import dataclasses
import inspect

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from supsup_core import (
    InvalidArgument,
    belief_descent,
    entropy,
    every_task,
    every_task_each,
    gamma,
    max_confidence,
    max_logit,
    one_shot,
    superfluous_logsumexp,
)
from supsup_methods import task_guessing
from supsup_methods.task_guessing import (
    Descent,
    EveryTask,
    Gamma,
    OneShot,
    TaskInference,
    infer_by,
    infer_by_all,
    score_by,
)

from .learned_tasks import LABELS, learned_bank, permuted_tasks

G = superfluous_logsumexp(LABELS)
SEARCHES = {
    "one-shot H": (OneShot(), lambda *shown: one_shot(entropy, *shown)),
    "one-shot G": (OneShot(objective="G"), lambda *shown: one_shot(G, *shown)),
    "gamma": (Gamma(share=0.3), lambda *shown: gamma(entropy, *shown, 0.3)),
    "every task H": (EveryTask(), lambda *shown: every_task(entropy, *shown)),
    "every task M": (EveryTask(objective="M"), lambda *shown: every_task(max_confidence, *shown)),
    "every task max-logit": (EveryTask(objective="max-logit"), lambda *shown: every_task(max_logit, *shown)),
    "descent": (Descent(steps=3), lambda *shown: belief_descent(entropy, *shown, steps=3, learning_rate=1.0)),
    "descent G": (
        Descent(objective="G", steps=2, learning_rate=0.5),
        lambda *shown: belief_descent(G, *shown, steps=2, learning_rate=0.5),
    ),
}


def batches(size=10):
    """Test batches of all tasks in turn; the last of each task has 63 % size images."""
    stream = permuted_tasks()
    return [batch.images for index in range(len(stream)) for batch in stream[index].test.in_order(size)]


TRIALS = [
    EveryTask(objective=objective, images_per_guess=images)
    for objective in ("H", "M", "max-logit")
    for images in (1, 4, 7, 100)
]


@pytest.mark.parametrize("sees_alone", [True, False])
def test_searches_that_try_every_task_answer_together_as_alone(monkeypatch, sees_alone):
    net, bank = learned_bank()
    if not sees_alone:  # as in networks whose images may see each other
        monkeypatch.setattr(task_guessing, "image_values", lambda *shown: None)
    together = infer_by_all(TRIALS, net, bank, LABELS)(batches())
    for search, guesses in zip(TRIALS, together, strict=True):
        alone = infer_by(search, net, bank, LABELS)(batches())
        assert [guess.task for guess in guesses] == [guess.task for guess in alone]
        sure = torch.tensor([guess.confidence for guess in guesses])
        # Means of up to ten float32 objectives, summed in two orders.
        assert (sure - torch.tensor([guess.confidence for guess in alone])).abs().max() < 1e-5
    surest = {tuple(guess.confidence for guess in guesses) for guesses in together}
    assert len(surest) == len(TRIALS), "each search is one of its own"


def test_together_no_batch_gets_no_guess_and_no_image_is_refused_as_alone():
    net, bank = learned_bank()
    assert infer_by_all(TRIALS, net, bank, LABELS)([]) == [[]] * len(TRIALS)
    assert infer_by_all([], net, bank, LABELS)(batches()) == []
    for infer in (infer_by(TRIALS[0], net, bank, LABELS), infer_by_all(TRIALS, net, bank, LABELS)):
        with pytest.raises(InvalidArgument, match="image"):
            infer([batches()[0], batches()[0][:0]])


@pytest.mark.parametrize("images_per_guess", [1, 4, 100])
@pytest.mark.parametrize("name", SEARCHES)
def test_each_batch_gets_what_cores_search_says_of_its_first_images(name, images_per_guess):
    settings, alone = SEARCHES[name]
    settings = dataclasses.replace(settings, images_per_guess=images_per_guess)
    net, bank = learned_bank()
    guesses = infer_by(settings, net, bank, LABELS)(batches())
    expected = [alone(net, bank, images[:images_per_guess]).task for images in batches()]
    assert [guess.task for guess in guesses] == expected
    assert len(set(expected)) > 1
    assert all(0.0 < guess.confidence <= 1.0 for guess in guesses)


@pytest.mark.parametrize("name", SEARCHES)
def test_the_answer_is_the_likeliest_and_a_temperature_changes_no_answer(name):
    settings, _ = SEARCHES[name]
    net, bank = learned_bank()
    scored = score_by(settings, net, bank, LABELS)(batches())
    assert scored.values.shape == (len(batches()), 4)
    of_answer = scored.values.gather(1, scored.tasks.unsqueeze(1)).squeeze(1)
    assert torch.equal(of_answer, scored.values.amin(dim=1))
    sharp, flat = (infer_by(settings, net, bank, LABELS, temperature)(batches()) for temperature in (0.5, 5.0))
    assert [guess.task for guess in sharp] == [guess.task for guess in flat] == scored.tasks.tolist()
    assert all(one.confidence >= other.confidence for one, other in zip(sharp, flat, strict=True))
    assert [guess.confidence for guess in sharp] == scored.confidences(0.5).tolist()


@pytest.mark.parametrize(
    ("name", "objective"),
    [("every task H", entropy), ("every task M", max_confidence), ("every task max-logit", max_logit)],
)
def test_the_values_of_trying_every_task_are_its_objectives(name, objective):
    net, bank = learned_bank()
    first = torch.stack([images[0] for images in batches()])
    scored = score_by(SEARCHES[name][0], net, bank, LABELS)(batches())
    assert torch.equal(scored.values, every_task_each(objective, net, bank, first).values)


def test_the_confidence_of_a_descent_is_its_belief():
    net, bank = learned_bank()
    first = batches()[0][:1]
    guess = belief_descent(entropy, net, bank, first, steps=3, learning_rate=1.0)
    (answer,) = infer_by(Descent(steps=3), net, bank, LABELS)([first])
    # exp(log α) in single precision, of a log of at most 88.
    assert answer.confidence == pytest.approx(float(guess.beliefs[-1][guess.task]), rel=1e3 * 2**-23)


@pytest.mark.parametrize("floats", [1, 100, 10**7])
@pytest.mark.parametrize("name", SEARCHES)
def test_how_many_guesses_are_made_at_once_changes_nothing(monkeypatch, floats, name):
    settings = dataclasses.replace(SEARCHES[name][0], images_per_guess=3)
    net, bank = learned_bank()
    whole = score_by(settings, net, bank, LABELS)(batches())
    sizes, search = [], task_guessing._search

    def watched(settings, net, store, num_labels, images, size):
        sizes.append(len(images) // size)
        return search(settings, net, store, num_labels, images, size)

    monkeypatch.setattr(task_guessing, "_search", watched)
    monkeypatch.setattr(task_guessing, "_ANSWER_FLOATS", floats)
    parts = score_by(settings, net, bank, LABELS)(batches())
    assert torch.equal(parts.tasks, whole.tasks)
    assert sum(sizes) == len(batches())
    if floats == 1:
        assert set(sizes) == {1}
    if floats == 100:
        assert max(sizes) * len(bank) * (2 if "descent" in name else 1) <= floats


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("tasks", [1, 2, 7, 250])
def test_no_search_keeps_more_than_it_says(share, tasks):
    rounds, left = 0, tasks
    while rounds == 0 or left > 1:
        rounds, left = rounds + 1, max(1, min(left - 1, int(share * left)))
    assert 2 * rounds + 1 <= task_guessing._rows_of_a_guess(Gamma(share=share), tasks)


def test_no_batch_no_guess():
    net, bank = learned_bank()
    assert infer_by(EveryTask(), net, bank, LABELS)([]) == []


def test_labels_and_true_tasks_are_not_arguments():
    net, bank = learned_bank()
    for search in (infer_by, score_by):
        assert list(inspect.signature(search(OneShot(), net, bank, LABELS)).parameters) == ["batches"]


@pytest.mark.parametrize("name", SEARCHES)
def test_settings_survive_their_words(name):
    settings, _ = SEARCHES[name]
    words = dataclasses.asdict(settings)
    assert TypeAdapter(TaskInference).validate_python(words, extra="forbid") == settings


@pytest.mark.parametrize(
    "words",
    [
        {"kind": "every-task", "objective": "G"},
        {"kind": "every-task", "images_per_guess": 0},
        {"kind": "descent", "objective": "M"},
        {"kind": "descent", "steps": 0},
        {"kind": "descent", "steps": 10_001},
        {"kind": "descent", "learning_rate": 0.0},
        {"kind": "descent", "learning_rate": float("nan")},
        {"kind": "descent", "share": 0.5},
        {"kind": "none"},
    ],
    ids=str,
)
def test_words_without_meaning_are_refused(words):
    with pytest.raises(ValidationError):
        TypeAdapter(TaskInference).validate_python(words, extra="forbid")
