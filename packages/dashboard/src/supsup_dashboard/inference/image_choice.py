"""Which images the reader asks about: of the test set, or uploaded; and what they look like."""

import hashlib
import secrets
from collections.abc import Hashable
from dataclasses import dataclass

import streamlit as st
from supsup_methods.guess_traces import as_shown_by, before_moving, some_images, visible
from torch import Tensor

from supsup_dashboard.inference.subject import Subject
from supsup_dashboard.inference.uploaded_images import LARGEST_MEGABYTES, uploaded_pixels

_TASK, _IMAGE = "inference-task", "inference-image"  # keys of what the button for a random image sets
_TEST_SET, _UPLOAD = "From the test set", "Uploaded"
_MOST_PICTURES = 6
_SIDE = 196  # of a picture on the page, in pixels; of several a third


@dataclass(frozen=True)
class Shown:
    """Images that share a task.

    Attributes:
        images: normalised, as the task's stream gives them.
        before: the same, before the task moved their pixels; None where it leaves them where they are.
        task: the true one.
        labels: the right ones; None of an upload.
        key: where they come from, for caches.
    """

    images: Tensor
    before: Tensor | None
    task: int
    labels: tuple[int, ...] | None
    key: tuple[Hashable, ...]


def choose_images(subject: Subject, count: int) -> Shown | None:
    """Let the reader choose an image, and return it and those behind it; None until there is one, having said what to do.

    Args:
        subject: the run that is asked.
        count: images of a guess; an upload is one.

    Raises:
        UsageError: the upload is no plain picture.
        DataUnavailable: a file of the data does not decode.
    """
    origin = st.segmented_control("Image", (_TEST_SET, _UPLOAD), default=_TEST_SET, required=True)
    return _from_tests(subject, count) if origin == _TEST_SET else _from_upload(subject)


def show_pictures(subject: Subject, shown: Shown) -> None:
    """Show the images as the network sees them, and before the task moved their pixels."""
    if shown.before is not None:
        _show(subject, shown.before, f"before task {shown.task} moves the pixels")
    _show(subject, shown.images, "as the network sees it" if len(shown.images) == 1 else "as the network sees them")


def _from_tests(subject: Subject, count: int) -> Shown:
    tasks = list(subject.places)
    if st.session_state.get(_TASK) not in tasks:
        st.session_state[_TASK] = tasks[0]
    choice, number, random = st.columns([2, 2, 1], vertical_alignment="bottom")
    task = choice.selectbox("Task", tasks, key=_TASK)
    view = subject.task(task).test
    st.session_state[_IMAGE] = min(st.session_state.get(_IMAGE, 0), len(view) - 1)
    first = number.number_input("Number of its (first) test image", 0, len(view) - 1, key=_IMAGE)
    random.button("At random", on_click=_draw, args=(subject,), icon=":material/casino:", width="stretch")
    batch, before = some_images(view, first, count), before_moving(view, first, count)
    if len(batch.labels) < count:
        st.caption(f"{len(batch.labels)} of {count} images: the test set of the task ends there.")
    base = None if before is None or before.images.equal(batch.images) else before.images
    return Shown(batch.images, base, task, tuple(batch.labels.tolist()), ("test", task, first, count))


def _draw(subject: Subject) -> None:
    """Choose a test image at random."""
    task = secrets.choice(list(subject.places))
    st.session_state[_TASK], st.session_state[_IMAGE] = task, secrets.randbelow(len(subject.task(task).test))


def _from_upload(subject: Subject) -> Shown | None:
    shape, normalization = subject.run.dataset.image_shape, subject.run.dataset.normalization
    choice, place = st.columns([1, 2])
    task = choice.selectbox("Task that shows it", list(subject.places), key="inference-task-of-upload")
    invert = False
    if shape[0] == 1:
        invert = choice.toggle("Invert light and dark")
        choice.caption(
            "The images of this data are light on dark, as digits of MNIST are; ink on paper needs inverting."
        )
    file = place.file_uploader(
        f"A picture, PNG or JPEG, at most {LARGEST_MEGABYTES} MB",
        type=["png", "jpg", "jpeg"],
        max_upload_size=LARGEST_MEGABYTES,
    )
    if file is None:
        colours = "in grey" if shape[0] == 1 else "in colours"
        st.info(
            f"Choose a file, and the task that shows it. Its middle is cut out, scaled to {shape[2]} × {shape[1]} pixels "
            f"{colours}, and the pixels are moved as that task moves those of its own images."
        )
        return None
    content = file.getvalue()
    pixels = uploaded_pixels(content, shape, invert=invert)
    images, base = as_shown_by(subject.task(task).test, normalization, pixels), normalization.apply(pixels.unsqueeze(0))
    key = ("upload", hashlib.sha256(content).hexdigest(), task, invert)
    return Shown(images, None if images.equal(base) else base, task, None, key)


def _show(subject: Subject, images: Tensor, caption: str) -> None:
    some = visible(images[:_MOST_PICTURES], subject.run.dataset.normalization)
    wanted = _SIDE if len(some) == 1 else _SIDE // 3
    scale = max(1, round(wanted / some.shape[1]))  # whole pixels of one size: browsers would blur them
    large = some.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2).numpy()
    grey = large.shape[-1] == 1
    st.image([each[..., 0] if grey else each for each in large], alt=[caption] * len(large))
    more = len(images) - len(some)
    st.caption(f"{caption}; {more} more are not drawn" if more else caption)
