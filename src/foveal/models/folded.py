"""A network as it answers: norms behind a convolution become part of it.

On a CPU a network spends a tenth to a third of its time in batch norms, which multiply and add what
the convolution before them could::

    quick = folded(model)       # the answers of `model.eval()` but for rounding
"""

from __future__ import annotations

from collections import Counter
from typing import TypeGuard

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


def folded(model: nn.Module) -> nn.Module:
    """The model for answers alone, on any device and with any precision.

    What cannot be traced, because its course depends on what it sees, keeps its own code; its parts
    are folded by themselves.

    Args:
        model: It is put into `eval` mode and used up: what comes back holds its parts.
    """
    return _folded(model.eval())


class _Tracer(fx.Tracer):
    """Takes convolutions and norms as they are, those of timm among them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        is_whole = isinstance(m, (*CONVOLUTIONS, *NORMS))
        return is_whole or super().is_leaf_module(m, module_qualified_name)


def _folded(module: nn.Module) -> nn.Module:
    if not any(isinstance(m, NORMS) for m in module.modules()):
        return module
    try:
        graph = _Tracer().trace(module)
    except Exception:  # noqa: BLE001 - any code may raise anything where it finds no numbers
        for name, child in module.named_children():
            setattr(module, name, _folded(child))
        return module
    quick = fx.GraphModule(module, graph)
    uses = Counter(node.target for node in graph.nodes)
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        first, norm = (quick.get_submodule(str(n.target)) for n in (before, node))
        alone = len(before.users) == uses[before.target] == uses[node.target] == 1
        if not (alone and _is_plain(first) and isinstance(norm, NORMS)):
            continue
        if (behind := _behind(norm)) is not None:
            quick.set_submodule(str(before.target), fuse_conv_bn_eval(first, norm))
            quick.set_submodule(str(node.target), behind)
    return quick


def _is_plain(module: nn.Module) -> TypeGuard[nn.Conv2d | nn.Conv3d]:
    """A convolution whose weights are used as they are; some of timm's are standardised first."""
    from timm.layers import Conv2dSame

    return type(module) in (*CONVOLUTIONS, Conv2dSame)


def _behind(norm: nn.Module) -> nn.Module | None:
    """What is left of a norm without its numbers; None of a kind that is not known."""
    from timm.layers import BatchNormAct2d

    if isinstance(norm, BatchNormAct2d):
        return nn.Sequential(norm.drop, norm.act)
    return nn.Identity() if type(norm) in NORMS else None
