"""A frozen network as it answers soonest: BatchNorm folded, and on a CPU a convolution one call with what follows it.

oneDNN adds the shortcut and applies the ReLU while a convolution's sums are at hand, instead of reading them again from
memory that no cache holds. The operations are those that torch.compile's own fusion calls. They are used for batches of
those shapes only of which they say, bit for bit, what the folded network says. That is tried on numbers that the shape
alone decides, so a run that is resumed uses what it used before.
"""

import copy
import operator
from collections.abc import Iterator
from typing import Any, TypeGuard

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

SUMS = (operator.add, operator.iadd, torch.add)
RELUS = (nn.functional.relu, torch.relu)


class Frozen(nn.Module):
    """A network in evaluation mode that is not going to learn."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.folded = fold(network)
        self.joined: nn.Module | None = None
        self.soonest: dict[torch.Size, nn.Module] = {}

    def forward(self, x: Tensor) -> Tensor:
        if x.shape not in self.soonest:
            self.soonest[x.shape] = self.find(x)
        return self.soonest[x.shape](x)

    def find(self, x: Tensor) -> nn.Module:
        """The network with its convolutions joined to what follows them, if no bit tells it from the folded one."""
        single = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        with_onednn = x.device.type == "cpu" and torch.backends.mkldnn.is_available()
        if not (single and with_onednn and isinstance(self.folded, fx.GraphModule)):
            return self.folded
        trial = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
        try:
            self.joined = self.joined or joined(self.folded)
            same = torch.equal(self.joined(trial), self.folded(trial))
        except (RuntimeError, AttributeError):  # sums of different shapes; or a PyTorch without such operations
            return self.folded
        return self.joined if same else self.folded


def fold(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose BatchNorms are folded into the convolutions before them, where torch.fx can
    follow its forward and no convolution is used twice; else the network itself.
    """
    try:
        folded: Any = fuse(network.eval()).to(memory_format=torch.channels_last)
    except Exception:  # tracing fails in as many ways as there are forwards
        return network
    calls = [node.target for node in folded.graph.nodes if isinstance(module_of(folded, node), nn.Conv2d)]
    return folded if len(calls) == len(set(calls)) else network


class Convolution(nn.Module):
    """A convolution, the addition of another tensor to it, and a ReLU.

    over: the other tensor may be overwritten by the result.
    """

    def __init__(self, plain: nn.Conv2d, *, relu: bool):
        super().__init__()
        self.geometry = (plain.padding, plain.stride, plain.dilation, plain.groups)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(plain.weight.detach(), *self.geometry)
        self.bias, self.relu, self.over = plain.bias, relu, False

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        weights = (self.weight, self.bias, *self.geometry)
        if added is None:
            return torch.ops.mkldnn._convolution_pointwise(x, *weights, "relu" if self.relu else "none", [], "")
        after = ("add", 1.0, "relu" if self.relu else None, [], None)
        if self.over:
            return torch.ops.mkldnn._convolution_pointwise_.binary(added, x, *weights, *after)
        return torch.ops.mkldnn._convolution_pointwise.binary(x, added, *weights, *after)


def joined(folded: fx.GraphModule) -> fx.GraphModule:
    """The same graph with a `Convolution` for each convolution, the sum and the ReLU that alone use it."""
    network = fx.GraphModule(folded, copy.deepcopy(folded.graph))
    graph = network.graph
    ours: dict[fx.Node, Convolution] = {}
    for node in list(graph.nodes):
        plain = module_of(network, node)
        if not is_plain(plain):
            continue
        chain, inputs = [node], [node.args[0]]
        if (user := only_user(node)) and is_sum(user):
            chain.append(user)
            inputs += [other for other in user.all_input_nodes if other is not node]
        if (user := only_user(chain[-1])) and is_relu(user, module_of(network, user)):
            chain.append(user)
        if any(is_in_place(n, module_of(network, n)) for n in between(node, chain[-1]) if n not in chain):
            del chain[1:], inputs[1:]  # it would see what is changed meanwhile
        convolution = Convolution(plain, relu=is_relu(chain[-1], module_of(network, chain[-1])))
        name = f"joined_{len(ours)}"
        network.add_submodule(name, convolution)
        with graph.inserting_before(chain[-1]):
            new = graph.call_module(name, tuple(inputs))
        chain[-1].replace_all_uses_with(new)
        for gone in reversed(chain):
            graph.erase_node(gone)
        ours[new] = convolution
    place = {node: k for k, node in enumerate(graph.nodes)}
    for node, convolution in ours.items():
        for added in node.all_input_nodes[1:]:  # nobody misses it if only convolutions read it, and this the last
            readers = list(added.users)
            convolution.over = added in ours and all(r in ours and place[r] <= place[node] for r in readers)
    network.delete_all_unused_submodules()
    network.recompile()
    return network


def module_of(network: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def is_plain(module: nn.Module | None) -> TypeGuard[nn.Conv2d]:
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def between(first: fx.Node, last: fx.Node) -> Iterator[fx.Node]:
    while (first := first.next) is not last and first.op != "root":
        yield first


def is_in_place(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether it changes what it is given, as far as its form tells."""
    name = getattr(node.target, "__name__", str(node.target))
    flagged = node.kwargs.get("inplace") or any(a is True for a in node.args) or getattr(module, "inplace", False)
    of_operator = getattr(node.target, "__module__", "") == "_operator" and name.startswith("i")
    return bool(flagged) or of_operator or (node.op != "call_module" and name.endswith("_"))


def is_sum(node: fx.Node) -> bool:
    return node.target in SUMS and len(node.all_input_nodes) == len(node.args) == 2 and not node.kwargs


def is_relu(node: fx.Node, module: nn.Module | None) -> bool:
    return type(module) is nn.ReLU or node.target in RELUS
