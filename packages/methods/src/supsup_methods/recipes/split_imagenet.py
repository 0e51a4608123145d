"""SplitImageNet (Figure 2, left): 100 tasks of ten classes, ResNet-50, supermasks of three sizes (Appendix D.2)."""

from supsup_methods.experiment import Evaluation, Recipe, SplitImageNet, TorchvisionModel
from supsup_methods.mask_rules import EdgePopupMasks
from supsup_methods.mask_training import MaskTraining
from supsup_methods.supsup import SupSupSettings
from supsup_methods.training_length import Schedule

_TRAINING = MaskTraining(
    batch_size=256,
    epochs=100,
    schedule=Schedule(shape="cosine", warm_up=0.05),  # 5 epochs of 100
    learning_rate=1e-3,
    optimizer="adam",
)

SPLIT_IMAGENET = tuple(
    Recipe(
        f"splitimagenet-supsup-c{factor}",
        100,
        stream=SplitImageNet(),
        backbone=TorchvisionModel(model="resnet50", outputs=10),
        method=SupSupSettings(
            training=_TRAINING, masks=EdgePopupMasks(budget_factor=float(factor)), statistics="float16"
        ),
        evaluation=Evaluation(scenario="GG"),
    )
    for factor in (4, 8, 16)
)
