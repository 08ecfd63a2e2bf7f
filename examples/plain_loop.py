"""CBP in a plain PyTorch loop, without Lightning: pre-train, quantise, convert, pack, read back.

``python examples/plain_loop.py [FILE]`` takes seconds on a CPU. The digits come with scikit-learn.
"""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from repro import convert, pack, prepare_cbp, unpack

TEST = 500
Batches = DataLoader[tuple[Tensor, ...]]


def make_network() -> nn.Sequential:
    """Return a network for images ``[B, 1, 8, 8]``; nothing in it knows of CBP."""
    features = [nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*features, nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def load_batches() -> tuple[Batches, Batches]:
    """Return shuffled training batches, and the last 500 digits in one test batch."""
    pixels, labels = map(torch.as_tensor, load_digits(return_X_y=True))
    images = pixels.float().view(-1, 1, 8, 8) / 16
    train = TensorDataset(images[:-TEST], labels[:-TEST])
    test = TensorDataset(images[-TEST:], labels[-TEST:])
    return DataLoader(train, batch_size=50, shuffle=True), DataLoader(test, batch_size=TEST)


def pretrain(network: nn.Module, batches: Batches, epochs: int = 8) -> None:
    """Train in FP32; any other way of training does."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(epochs):
        for images, labels in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()


def quantise(network: nn.Module, batches: Batches, epochs: int = 8) -> None:
    """Train with CBP: the same loop with four more calls."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    cbp = prepare_cbp(network, optimizer, "binary", multiplier_lr=0.01, p_max=2)
    for epoch in range(epochs):
        for images, labels in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(images), labels)
            loss.backward()
            cbp.before_step()
            optimizer.step()
            cbp.after_step(loss)
        figures = cbp.end_epoch()
        print(f"epoch {epoch}: constraint failure score {figures['cfs']:.3f}")


@torch.no_grad()
def accuracy(network: nn.Module, batches: Batches) -> float:
    """Return the accuracy in percent."""
    right = [(network(images).argmax(1) == labels).float().mean() for images, labels in batches]
    return 100 * float(torch.stack(right).mean())


if __name__ == "__main__":
    torch.manual_seed(0)
    train, test = load_batches()
    network = make_network()
    pretrain(network, train)
    print(f"FP32: {accuracy(network, test):.1f} % of {TEST} test digits")

    quantise(network, train)
    levels = convert(network)  # plain layers again; every weight of an inner layer is -a or +a
    path = sys.argv[1] if len(sys.argv) > 1 else "digits_binary.safetensors"
    size = pack(path, network, levels)

    fresh = make_network()
    fresh.load_state_dict(unpack(path)[0])
    print(f"binary, read back: {accuracy(fresh, test):.1f} % of {TEST} test digits, {size:,} bytes")
