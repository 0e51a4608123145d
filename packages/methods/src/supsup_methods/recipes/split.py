"""What Table 2, Figure 11 (right) and SplitImageNet share: supermasks of a fixed size under Adam and a cosine."""

from supsup_methods.experiment import CifarResNet18, Evaluation, Recipe, SplitCifar100, SplitImageFolder, Stream
from supsup_methods.mask_rules import EdgePopupMasks
from supsup_methods.mask_training import MaskTraining
from supsup_methods.registry import MethodSettings
from supsup_methods.supsup import SupSupSettings
from supsup_methods.training_length import Schedule

COSINE = Schedule(shape="cosine")
EPOCHS = 250

DATA: tuple[tuple[str, Stream], ...] = (
    ("table2", SplitCifar100()),
    ("tiny", SplitImageFolder(folder="tiny-imagenet-32")),
)
"""CIFAR-100, and what has its shape where that cannot be had: 100 classes of Tiny-ImageNet scaled to 32 × 32 pixels."""


def supermasks(
    factor: float, *, transfer: bool, epochs: int = EPOCHS, first_epochs: int | None = None
) -> SupSupSettings:
    """Return SupSup as on SplitCIFAR100: Edge-Popup with a budget factor c, Adam at 0.001, cosine (Appendix D.1)."""
    training = MaskTraining(
        epochs=epochs, schedule=COSINE, first_epochs=first_epochs, learning_rate=1e-3, optimizer="adam"
    )
    masks = EdgePopupMasks(budget_factor=factor, transfer=transfer)
    return SupSupSettings(training=training, masks=masks, statistics="float16")


def given(name: str, stream: Stream, method: MethodSettings) -> Recipe:
    """Return a row of scenario GG: 20 tasks of five classes, the ResNet-18 with 20 channels."""
    return Recipe(
        name, 20, stream=stream, backbone=CifarResNet18(), method=method, evaluation=Evaluation(scenario="GG")
    )
