"""Many guesses at once: images in a row that share a task, and what no search can answer."""

from jaxtyping import Shaped
from torch import Tensor

from supsup_core.context_stores import ContextStore
from supsup_core.errors import InvalidArgument


def image_groups(x: Shaped[Tensor, "images *input"], images_per_guess: int) -> Shaped[Tensor, "groups shown *input"]:
    """Return the images in groups of `images_per_guess` in a row; a view.

    Raises:
        InvalidArgument: the images are not whole groups.
    """
    if images_per_guess < 1 or len(x) % images_per_guess:
        raise InvalidArgument(
            f"images_per_guess={images_per_guess}: {len(x)} images are not whole groups of so many; pass a divisor, at least 1"
        )
    return x.unflatten(0, (-1, images_per_guess)) if len(x) else x.unsqueeze(1)


def refuse_unanswerable(store: ContextStore, x: Tensor) -> None:
    """Check that there is a task to choose and an image to choose it for.

    Raises:
        InvalidArgument: the store is empty, or there is no image.
    """
    if len(store) == 0:
        raise InvalidArgument("store: it holds no task to choose from; append at least one")
    if x.shape[0] == 0:
        raise InvalidArgument(f"x: shape {tuple(x.shape)} holds no image; show at least one")
