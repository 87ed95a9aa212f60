"""The layers of a network, counted from its head."""

from collections.abc import Iterable, Iterator

from torch import nn

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def layers_above(model: nn.Module, heads: Iterable[nn.Module]) -> list[int]:
    """Returns for each parameter of a network the number of layers above it, 0 for the head.

    A layer is a block: the first module on the way down to a parameter that does not merely contain
    the network's blocks. A module of normalisation alone belongs to the layer below it, and a
    parameter that is in no block, such as a position embedding, to the first layer.

    Args:
        model: the network.
        heads: its modules that compute the logits.

    Returns:
        A number for each parameter, in the order of ``model.parameters()``.
    """
    of_head = {weight for head in heads for weight in head.parameters()}
    layers: list[set[nn.Parameter]] = [set()]
    for block in _blocks(model, _size(model) / 2):
        weights = set(block.parameters()) - of_head
        if layers[-1] and any(weight.ndim > 1 for weight in weights):
            layers.append(set())
        layers[-1] |= weights
    top = len(layers)
    above = {weight: top - index for index, layer in enumerate(layers) for weight in layer}
    above |= dict.fromkeys(of_head, 0)
    return [above.get(weight, top) for weight in model.parameters()]


def _blocks(module: nn.Module, most: float) -> Iterator[nn.Module]:
    for child in module.children():
        # The encoder of a transformer is no block: it has a container with most of the weights.
        inner = [each for each in child.children() if isinstance(each, _CONTAINERS)]
        if isinstance(child, _CONTAINERS) or any(_size(each) > most for each in inner):
            yield from _blocks(child, most)
        else:
            yield child


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
