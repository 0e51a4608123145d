"""Convolutional networks of the paper and of torchvision, as plain modules; freezing and masking happen outside of them."""

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import _functorch as functorch

from supsup_methods.errors import UsageError

_STAGES = ((1, 1), (2, 2), (4, 2), (8, 2))  # multiples of the base channels, and strides
_BLOCKS = 2


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions and a way around them, batch norm without parameters behind each convolution (ResNet).

    Args:
        inputs: channels.
        outputs: channels.
        stride: of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs, affine=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs, affine=False)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            around = _every(stride, nn.Conv2d(inputs, outputs, 1, bias=False))
            self.shortcut = nn.Sequential(around, nn.BatchNorm2d(outputs, affine=False))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's outputs, (images, outputs, height / stride, width / stride)."""
        inner = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


def _every(stride: int, pointwise: nn.Conv2d) -> nn.Conv2d:
    """Have a 1 × 1 convolution look at every so many pixels, as its own stride would. Returns it.

    The gradient that torch 2.11 takes of a strided one, channels last and less than eight of them, writes beyond its memory on
    processors without AVX-512 (oneDNN).
    """
    pointwise.register_forward_pre_hook(partial(_subsampled, stride))
    return pointwise


def _subsampled(stride: int, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x[..., ::stride, ::stride] for x in inputs)


def cifar_resnet18(image_channels: int, channels: int, outputs: int) -> nn.Module:
    """Return the ResNet-18 for images of 32 × 32 pixels of Table 2.

    A 3 × 3 stem, four stages of two blocks with 1, 2, 4 and 8 times `channels`, 4 × 4 average pooling, and a 1 × 1 convolution
    for the outputs. With 3 image channels, 20 channels and 5 outputs: 1,090,140 weights in the trunk, 800 in the last layer, and
    1,500 channels with running statistics.
    """
    stem = [
        nn.Conv2d(image_channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels, affine=False),
        nn.ReLU(),
    ]
    blocks, width = [], channels
    for multiple, stride in _STAGES:
        for block in range(_BLOCKS):
            blocks.append(BasicBlock(width, multiple * channels, stride if block == 0 else 1))
            width = multiple * channels
    head = [nn.AvgPool2d(4), nn.Conv2d(width, outputs, 1, bias=False), nn.Flatten()]
    return in_channels_last(nn.Sequential(*stem, *blocks, *head))


def torchvision_model(name: str, outputs: int) -> nn.Module:
    """Return a classification network of torchvision, untrained, its batch norm without parameters.

    Raises:
        UsageError: torchvision has no such classification network.
    """
    from torchvision import models  # here and not above: most networks do not need it

    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known[:3])} and {len(known) - 3} more"
        raise UsageError(f"--backbone.model {name}: torchvision has no classification network of that name; {hint}")
    # Two of them answer in training with several outputs, unless they are told not to.
    options: dict[str, Any] = (
        {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    )
    return in_channels_last(
        without_norm_parameters(models.get_model(name, weights=None, num_classes=outputs, **options))
    )


def without_norm_parameters(module: nn.Module) -> nn.Module:
    """Take scale and shift from a module's batch norm: they would be frozen at 1 and 0 (Section 4.1). Returns the module."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.affine = False
            layer.register_parameter("weight", None)
            layer.register_parameter("bias", None)
    return module


def in_channels_last(module: nn.Module) -> nn.Module:
    """Have a convolutional network work on images whose channels lie side by side, which is several times faster. Returns it."""
    module.register_forward_pre_hook(_channels_last)
    return module


def _channels_last(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x if _is_batched(x) else x.contiguous(memory_format=torch.channels_last) for x in inputs)


def _is_batched(x: Tensor) -> bool:
    """Tell whether vmap is at work on a tensor: it has no channels-last of its own, and takes none on."""
    while functorch.is_functorch_wrapped_tensor(x):
        if functorch.is_batchedtensor(x):
            return True
        x = functorch.get_unwrapped(x)
    return False


def example_network(outputs: int) -> nn.Module:
    """Return a small network for colour images of 32 × 32 pixels: what a function for `--backbone.factory` looks like."""
    return cifar_resnet18(3, 20, outputs)


def own_model(factory: str, outputs: int) -> nn.Module:
    """Return what a function module:function makes for so many outputs.

    Raises:
        UsageError: there is no such module or function, it fails, or what it returns is no `nn.Module`.
    """
    try:
        made = _found(factory)(outputs)
    except UsageError:
        raise
    except Exception as error:  # somebody else's code may raise anything
        raise UsageError(
            f"--backbone.factory {factory}: it fails for {outputs} outputs ({_reason(error)}); mend it"
        ) from None
    if not isinstance(made, nn.Module):
        raise UsageError(f"--backbone.factory {factory}: it returned a {type(made).__name__}; return an nn.Module")
    return made


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _found(factory: str) -> Callable[[int], object]:
    import importlib
    import sys

    module, _, name = factory.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # a console command does not look there by itself
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # as above
        reason = _reason(error)
        raise UsageError(
            f"--backbone.factory {factory}: {reason}; name a module that can be imported from here"
        ) from None
    if not callable(found):
        raise UsageError(f"--backbone.factory {factory}: {module} has no function {name}; define it there")
    return found  # type: ignore[no-any-return]
