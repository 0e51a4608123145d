"""Your own images and networks: tasks from a folder of images, over a network of torchvision or from a function of your own.

Any field can be changed: `--stream.folder`, `--stream.side`, `--backbone.model` or `--backbone.factory`, `--tasks`.
"""

from supsup_methods.experiment import Backbone, Evaluation, OwnModel, Recipe, SplitImageFolder, TorchvisionModel
from supsup_methods.recipes.split import supermasks

_EPOCHS = 50


def _recipe(name: str, backbone: Backbone) -> Recipe:
    method = supermasks(8.0, transfer=True, epochs=_EPOCHS)
    return Recipe(
        name, 2, stream=SplitImageFolder(), backbone=backbone, method=method, evaluation=Evaluation(scenario="GG")
    )


OWN_IMAGES = (
    _recipe("folder-torchvision", TorchvisionModel(model="resnet18", outputs=5)),
    _recipe("folder-own", OwnModel(factory="supsup_methods.vision_backbones:example_network", outputs=5)),
)
