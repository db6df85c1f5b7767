"""How processes share a model: a copy each (DDP), or a part of it each (FSDP2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from muse_studio.errors import UserError
from muse_studio.training.distributed import World

T = TypeVar("T")


@dataclass
class Parallel:
    """How several processes share what they train: the table `parallel` of `fit`. One process alone needs none.

    strategy: ddp gives each process a copy; fsdp (FSDP2) each a share of weights, gradients and optimizer state, which
    is gathered layer by layer while it is computed with.
    replicas: of fsdp: how many groups of processes hold all shares; 1 shards over all, more is HSDP, usually one group
    a machine.
    gather: of fsdp: the number type that weights travel and are computed in; bfloat16 halves the traffic. Gradients
    are summed up, and weights kept, in float32.
    """

    strategy: Literal["ddp", "fsdp"] = "ddp"
    replicas: int = 1
    gather: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise ValueError(f"replicas is {self.replicas}; give 1 to shard over all processes, or more")
        if self.strategy == "ddp" and (self.replicas, self.gather) != (1, "float32"):
            raise ValueError("replicas and gather belong to strategy fsdp; with ddp each process has a replica already")


@runtime_checkable
class Entered(Protocol):
    """A module whose methods other than `forward` compute with its weights, too; `entrances` names them."""

    entrances: tuple[str, ...]


def distribute(module: nn.Module, world: World, parallel: Parallel) -> nn.Module:
    """What to call in the place of `module`, so that its gradients are the means of all processes'.

    With fsdp the module's children are changed in place, so optimizers must be made afterwards. Each layer, that is
    each of `layers_of`, is gathered for itself; a layer or a child whose methods other than `forward` compute
    with weights is `Entered`.
    """
    if world.size == 1:
        return module
    if parallel.strategy == "ddp":
        return DistributedDataParallel(module, gradient_as_bucket_view=True)
    shard(module, world.size, world.device.type, parallel)
    return module


def shard(module: nn.Module, processes: int, kind: str, parallel: Parallel) -> None:
    """Divide the weights of a module's children among processes, each with a device of that kind."""
    # Here, as they take most of a second, which one process alone need not wait for.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    copies = parallel.replicas
    if processes % copies:
        raise UserError(
            f"fit.parallel.replicas is {copies}, which doesn't divide the {processes} processes; give one that does"
        )
    if copies == 1:
        mesh = init_device_mesh(kind, (processes,), mesh_dim_names=("shards",))
    else:
        mesh = init_device_mesh(kind, (copies, processes // copies), mesh_dim_names=("copies", "shards"))
    gathered = torch.bfloat16 if parallel.gather == "bfloat16" else None
    policy = MixedPrecisionPolicy(param_dtype=gathered, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for each in [*layers_of(module), *module.children()]:
        fully_shard(each, mesh=mesh, mp_policy=policy)
        for name in each.entrances if isinstance(each, Entered) else ():
            register_fsdp_forward_method(each, name)


def layers_of(module: nn.Module) -> list[nn.Module]:
    """The layers of a model, which are gathered, or compiled, each for itself: the children of its ModuleLists."""
    return [layer for each in module.modules() if isinstance(each, nn.ModuleList) for layer in each]


def optimizer_step(
    optimizer: torch.optim.Optimizer,
    parts: Sequence[T],
    loss_of: Callable[[T], Tensor],
    module: nn.Module,
    clip: float | None,
) -> tuple[Tensor, Tensor]:
    """One optimizer step down the sum of the parts' losses; each part's graph is freed before the next is made.

    module: what `distribute` gave. clip: what the norm of the gradient is cut to. Returns the sum, and the norm
    before it was cut.
    """
    optimizer.zero_grad(set_to_none=True)
    losses = []
    for number, part in enumerate(parts, 1):
        with _exchange(module, number == len(parts)):
            loss = loss_of(part)
            loss.backward()
        losses.append(loss.detach())
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = nn.utils.clip_grad_norm_(parameters, torch.inf if clip is None else clip)
    optimizer.step()
    return torch.stack(losses).sum(), full_tensor(norm)


@contextmanager
def _exchange(module: nn.Module, now: bool) -> Iterator[None]:
    """Whether the processes exchange the gradients of what is computed within."""
    for each in module.modules():
        if exchange := getattr(each, "set_requires_gradient_sync", None):  # sharded
            exchange(now, recurse=False)
    wait = module.no_sync() if isinstance(module, DistributedDataParallel) and not now else nullcontext()
    with wait:
        yield


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor of which each process may have a share, put together; every process must ask for it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def local_share(value: Tensor, tensor: Tensor) -> Tensor:
    """This process's share of a whole value, as it has one of `tensor`."""
    if not hasattr(tensor, "full_tensor"):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(tensor, DTensor)  # no other has full_tensor
    moved = value.to(tensor.device)
    return distribute_tensor(moved, tensor.device_mesh, tensor.placements, src_data_rank=None)  # each has read it all
