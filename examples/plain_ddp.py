"""CBP under PyTorch's DistributedDataParallel, without Lightning.

``torchrun --standalone --nproc-per-node 2 examples/plain_ddp.py [FILE]`` trains in two processes
(gloo, CPU), ``python examples/plain_ddp.py [FILE]`` in one. Both take steps on the same 50 images
and end with the same weights up to rounding. All is float64, so that rounding moves no weight to
another level.
"""

import os
import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from repro import convert, pack, prepare_cbp

BATCH = 50  # images a step, of all processes together
TRAIN = 1250  # 25 steps; two or five processes share each evenly
EPOCHS = 5
Batches = DataLoader[tuple[Tensor, ...]]


def wrap(network: nn.Module) -> nn.Module:
    """Return what averages the gradients of all processes, the network itself where it is alone."""
    return DistributedDataParallel(network) if dist.is_initialized() else network


def pretrain(network: nn.Module, optimizer: SGD, batches: Batches) -> None:
    """Train in FP32."""
    shared = wrap(network)
    for _ in range(EPOCHS):
        for images, labels in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(shared(images), labels).backward()
            optimizer.step()


def quantise(network: nn.Module, optimizer: SGD, batches: Batches, says: bool) -> None:
    """Train with CBP: the plain network is prepared, then wrapped."""
    cbp = prepare_cbp(network, optimizer, "binary", multiplier_lr=0.01, p_max=2)
    shared = wrap(network)
    for epoch in range(EPOCHS):
        batches.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for images, labels in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(shared(images), labels)
            loss.backward()  # the gradients are averaged here
            cbp.before_step()
            optimizer.step()
            cbp.after_step(loss)
        figures = cbp.end_epoch()  # the Lagrangian is averaged, too: all processes decide alike
        if says:
            print(f"epoch {epoch}: Lagrangian {figures['lagrangian']:.9f}", flush=True)


def train(rank: int, processes: int) -> nn.Module:
    """Return the network of this process, prepared and trained."""
    torch.manual_seed(0)  # the same initial weights in every process
    pixels, labels = map(torch.as_tensor, load_digits(return_X_y=True))
    data = TensorDataset(pixels[:TRAIN].double() / 16, labels[:TRAIN])
    sampler: DistributedSampler[tuple[Tensor, ...]] = DistributedSampler(data, processes, rank)
    batches = DataLoader(data, BATCH // processes, sampler=sampler)
    layers = [nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)]
    network = nn.Sequential(*layers).double()
    optimizer = SGD(network.parameters(), lr=0.05, momentum=0.9)
    pretrain(network, optimizer, batches)
    quantise(network, optimizer, batches, says=rank == 0)
    return network


if __name__ == "__main__":
    if "RANK" in os.environ:  # set by torchrun
        dist.init_process_group("gloo")
    rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    network = train(rank, processes)
    levels = convert(network)
    if rank == 0:  # every process has all weights, one writes them
        path = sys.argv[1] if len(sys.argv) > 1 else "digits_ddp.safetensors"
        print(f"{path}: {pack(path, network, levels):,} bytes, processes: {processes}")
    if dist.is_initialized():
        dist.destroy_process_group()
