"""What a recovered mask is worth: held against labels and right masks that nothing before it has seen."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from supsup_core.hopfield_recovery import RecoveryStep
from supsup_datasets import Batch, Scenario, Task, Unlabelled
from supsup_datasets.seeds import generator
from supsup_methods.continual_method import Recovered, RecoversMasks
from supsup_methods.evaluation import Checkpoint, evaluate_task
from supsup_methods.hopsupsup import HopSupSup
from supsup_methods.recovery_scoring import RecoveryTrace, hamming_distances, score_recovery

from .unit_mask_problems import SETTINGS, stream, taught


def trace(*distances, layers=1):
    """Return a trace of so many steps; all layers but the first are right from the first step on."""
    values = tuple(0.0 for _ in distances)
    others = {f"{layer}": tuple(0 for _ in distances) for layer in range(1, layers)}
    return RecoveryTrace(values, values, values, {"0": distances, **others})


@pytest.mark.parametrize(
    ("distances", "steps"),
    [
        ((3, 2, 1, 1), None),
        ((3, 2, 1, 0), 4),
        ((3, 0, 0, 0), 2),
        ((0, 0, 0, 0), 1),
        ((0, 0, 3, 0), 4),  # found and lost, and found again
        ((0, 0, 0, 3), None),  # found and lost
        ((5,), None),
        ((0,), 1),
    ],
)
@pytest.mark.parametrize("layers", [1, 2])
def test_a_mask_is_found_after_the_step_from_which_on_it_is_right(distances, steps, layers):
    assert trace(*distances, layers=layers).steps_to_right == steps


def test_a_mask_is_found_when_the_last_of_its_layers_is():
    values = (0.0, 0.0, 0.0)
    assert RecoveryTrace(values, values, values, {"a": (1, 0, 0), "b": (1, 1, 0)}).steps_to_right == 3
    assert RecoveryTrace(values, values, values, {"a": (1, 0, 1), "b": (1, 0, 0)}).steps_to_right is None


def test_where_right_masks_are_gone_nothing_tells_when_one_was_found():
    assert RecoveryTrace((0.0,), (0.0,), (0.0,)).steps_to_right is None


def bits(text):
    return torch.tensor([bit == "1" for bit in text])


def masks(a, b):
    return {"a": bits(a), "b": bits(b)}


RIGHT = (masks("1111", "00"), masks("0000", "11"), masks("1100", "01"))


def test_distances_count_the_units_that_differ_by_layer():
    assert hamming_distances(masks("1010", "01"), RIGHT[0]) == {"a": 2, "b": 1}
    assert hamming_distances(RIGHT[0], RIGHT[1]) == {"a": 4, "b": 2}
    assert hamming_distances({"a": bits("10").view(2, 1)}, {"a": bits("11").view(2, 1)}) == {"a": 1}


@dataclass(frozen=True)
class Shown:
    """Images that are single numbers, 0 and up, each in its own place."""

    labels: torch.Tensor
    num_labels: int = 4

    def __len__(self):
        return len(self.labels)

    def mixed(self, batch_size, generator):
        for members in torch.randperm(len(self), generator=generator).split(batch_size):
            yield Batch(members.float().view(-1, 1), self.labels[members])


@dataclass
class Told:
    """A method that finds the masks it is told, and answers 0, or the place of an image modulo 4 if unit 0 is on."""

    steps: tuple[dict, ...]
    right_masks: tuple[dict, ...] | None = RIGHT
    batches: list = field(default_factory=list)
    net = tasks_learned = bytes = None

    def learn(self, *asked):
        raise AssertionError("nobody who scores asks for this")

    save = first = learn

    def recover(self, images):
        assert isinstance(images, Unlabelled)
        taken = tuple(RecoveryStep(float(number), -1.0, 0.5, each) for number, each in enumerate(self.steps))
        return Recovered(self.steps[-1], taken)

    def logits_under(self, images, masks):
        self.batches.append(images.flatten().tolist())
        answers = images.flatten().long() % 4 if bool(masks["a"][0]) else torch.zeros(len(images), dtype=torch.int64)
        return torch.nn.functional.one_hot(answers, 4).float()


def task(index, images=9):
    test = Shown(torch.arange(images) % 4)
    return Task(index, test, test, 4, tuple(range(4)))


def test_a_mask_is_scored_by_its_answers_its_distance_and_whose_it_is():
    assert isinstance(Told(()), RecoversMasks)
    way = (masks("0000", "01"), masks("1101", "01"), RIGHT[2])
    score = score_recovery(Told(way), task(2), Scenario.GNu, batch_size=3)
    assert (score.images, score.images_right, score.nearest, score.exact) == (9, 9, 2, True)
    assert score.trace.distances == {"a": (2, 1, 0), "b": (0, 0, 0)}
    assert score.trace.entropy == (0.0, 1.0, 2.0)
    assert (score.trace.energy, score.trace.objective) == ((-1.0,) * 3, (0.5,) * 3)
    assert (score.trace.right_mask_accuracy, score.trace.steps_to_right) == (1.0, 3)


def test_a_mask_that_is_not_the_right_one_is_counted_for_the_nearest_and_as_not_found():
    score = score_recovery(Told((masks("0001", "11"),)), task(0), Scenario.GNu, batch_size=3)
    # Answers are 0 under what was found, which are the images 0, 4 and 8, and all right under the right mask.
    assert (score.images_right, score.nearest, score.exact) == (3, 1, False)
    assert score.trace.right_mask_accuracy == 1.0
    assert score.trace.distances == {"a": (3,), "b": (2,)}
    score = score_recovery(Told((masks("1110", "00"),)), task(0), Scenario.GNu, batch_size=3)
    assert (score.nearest, score.exact) == (0, False), "one unit off is not found"
    counted = evaluate_task(Told((masks("1110", "00"),)), task(0), Scenario.GNu, batch_size=3)
    assert (counted.guesses, counted.guesses_right, counted.guessed) == (1, 0, {0: 1})
    assert counted.recovery == score.trace


def test_without_right_masks_a_mask_is_scored_by_its_answers_alone():
    score = score_recovery(Told((RIGHT[2],), right_masks=None), task(2), Scenario.GNu, batch_size=3)
    assert (score.images_right, score.nearest, score.exact) == (9, None, None)
    assert (score.trace.distances, score.trace.right_mask_accuracy) == (None, None)
    assert score.trace.entropy == (0.0,)


@pytest.mark.parametrize(
    ("images", "batches"), [(8, [4, 4]), (9, [4, 5]), (10, [4, 4, 2]), (13, [4, 4, 5]), (1, [1]), (3, [3])]
)
def test_no_image_is_tested_alone_if_there_is_another(images, batches):
    method, seen = Told((RIGHT[2],)), []
    score = score_recovery(method, task(2, images), Scenario.GNu, 4, lambda: seen.append(1))
    assert (score.images, score.images_right) == (images, images)
    order = torch.randperm(images, generator=generator(0, "test order", 2))  # classes may lie one after the other
    # Once under what was found, once under the right mask; the first of them is what is waited for.
    assert method.batches == 2 * [part.tolist() for part in order.split(batches)]
    assert len(seen) == len(batches)


def test_labels_task_and_right_masks_change_no_recovered_mask():
    """They are looked at when it is found: then each of them counts."""
    method, task = taught(), stream()[1]
    subset = replace(task.test.subset, labels=(task.test.labels + 1) % 6)
    mislabelled = replace(task, test=replace(task.test, subset=subset))
    swapped = HopSupSup(method.net, SETTINGS, 0, method.reservoir, method.right_masks[::-1])
    asked = [(method, task), (method, mislabelled), (method, replace(task, index=2)), (swapped, replace(task, index=2))]
    found = [by.recover(Unlabelled(each.test)).masks for by, each in asked]
    assert all(torch.equal(found[0][name], other[name]) for other in found for name in found[0])
    plain, labels, other, masks = (evaluate_task(by, each, Scenario.GNu, 9).recovery for by, each in asked)
    assert plain.energy == labels.energy == other.energy == masks.energy
    assert plain.right_mask_accuracy > labels.right_mask_accuracy
    assert plain.distances == labels.distances != other.distances
    assert masks.distances != other.distances


def test_a_task_has_one_guess_if_the_right_masks_are_kept_and_none_if_they_are_gone():
    kept, gone = taught(tasks=2), taught(replace(SETTINGS, witness=False), tasks=2)
    scores = [[evaluate_task(method, stream()[task], Scenario.GNu, 9) for task in range(2)] for method in (kept, gone)]
    for task in range(2):
        seen, blind = scores[0][task], scores[1][task]
        assert (seen.guesses, sum(seen.guessed.values())) == (1, 1)
        assert seen.guesses_right == (seen.recovery.steps_to_right is not None)
        assert (blind.guesses, blind.guesses_right, blind.guessed) == (0, 0, {})
        assert seen.images_right == blind.images_right
        assert seen.recovery.entropy == blind.recovery.entropy
    found = sum(score.guesses_right for score in scores[0])
    assert Checkpoint(2, tuple(scores[0]), 0.0).task_inference_accuracy == found / 2
    assert Checkpoint(2, tuple(scores[1]), 0.0).task_inference_accuracy is None
