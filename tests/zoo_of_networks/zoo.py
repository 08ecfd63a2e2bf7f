"""Small networks, and ways of training, as users have them; the tests say what holds for all."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
)
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

IMAGES, BATCH, EPOCHS, CLASSES = 48, 8, 3, 3
Network = Callable[[], nn.Module]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A network and how it is trained.

    Attributes:
        network: Makes it; input ``[N, *shape]``, output ``[N, 3]``.
        shape: Of one input.
        optimiser: Makes the optimiser of some parameters.
        schedule: Makes its schedule: a scheduler, or Lightning's dictionary of one.
        callbacks: Makes further callbacks, which stand behind ``Cbp``.
        cbp: Fields of ``Cbp``.
        trainer: Arguments of ``Trainer``.
        wraps: Class of the LightningModule.
        dtype: Of the data; of the network unless the Trainer's precision says another.
        cuts: Whether the batches may be cut without effect: nothing in it knows the batch.
        streams: Whether the data have no length.
        resumes: Whether Lightning's checkpoints hold all that the training draws upon.
    """

    network: Network
    shape: tuple[int, ...] = (6,)
    optimiser: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] = lambda parameters: (
        torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
    )
    schedule: Callable[[torch.optim.Optimizer], Any] | None = None
    callbacks: Callable[[], list[Callback]] = list
    cbp: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    wraps: type["Module"] | None = None
    dtype: torch.dtype = torch.float64
    cuts: bool = True
    streams: bool = False
    resumes: bool = True

    def module(self) -> "Module":
        """Return the module, made anew; always the same."""
        torch.manual_seed(0)
        return (self.wraps or Module)(self)

    def data(self, batch: int = BATCH) -> "Batches | Stream":
        """Return the batches, always the same."""
        generator = torch.Generator().manual_seed(1)
        inputs = torch.randn(IMAGES, *self.shape, generator=generator, dtype=self.dtype)
        labels = inputs.flatten(1)[:, :CLASSES].argmax(1)
        batches = list(DataLoader(TensorDataset(inputs, labels), batch_size=batch))
        return Stream(batches) if self.streams else Batches(batches)


class Stream:
    """The same batches every epoch, without a length; goes on where it stopped."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches, self.at, self.start = batches, 0, 0

    def __iter__(self) -> Iterator[Any]:  # noqa: D105
        start, self.start = self.start, 0
        for at in range(start, len(self.batches)):
            self.at = at + 1
            yield self.batches[at]

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state["at"] % len(self.batches)


class Batches(Stream):
    """Batches whose number is known."""

    def __len__(self) -> int:  # noqa: D105
        return len(self.batches)


class Module(LightningModule):
    """Trains the network of an entry on the cross-entropy."""

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self.entry = entry
        self.network = entry.network().to(entry.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def training_step(self, batch: list[Tensor], index: int) -> Any:
        return cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        optimiser = self.entry.optimiser([p for p in self.parameters() if p.requires_grad])
        if self.entry.schedule is None:
            return optimiser
        return {"optimizer": optimiser, "lr_scheduler": self.entry.schedule(optimiser)}


class Logs(Module):
    """The loss of every epoch, for those that watch it."""

    def training_step(self, batch: list[Tensor], index: int) -> Any:
        loss = super().training_step(batch, index)
        self.log("loss", loss, on_epoch=True, on_step=False)
        return loss


class Returns(Module):
    """A step that returns a dictionary, and nothing for every third batch."""

    def training_step(self, batch: list[Tensor], index: int) -> Any:
        loss = super().training_step(batch, index)
        return None if index % 3 == 2 else {"loss": loss, "more": 1}


class Groups(Module):
    """Two parameter groups of different rates."""

    def configure_optimizers(self) -> Any:
        weights = [p for p in self.parameters() if p.dim() > 1]
        biases = [p for p in self.parameters() if p.dim() == 1]
        groups = [{"params": weights, "weight_decay": 1e-3}, {"params": biases, "lr": 0.1}]
        return torch.optim.SGD(groups, lr=0.05)


class Teacher(Module):
    """Distillation: a frozen FP32 teacher, registered before the student."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry)
        teacher = entry.network().to(entry.dtype).requires_grad_(False)
        self._modules = {"teacher": teacher, "network": self.network}

    def training_step(self, batch: list[Tensor], index: int) -> Any:
        loss = super().training_step(batch, index)
        teacher: Any = self.teacher
        return loss + (self(batch[0]) - teacher(batch[0])).square().mean()


class Example(Module):
    """Lightning's example input: first and last layer are those of a forward pass."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry)
        self.example_input_array = torch.zeros(2, *entry.shape, dtype=entry.dtype)


def stack(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


def mlp(bias: bool = True, sizes: tuple[int, ...] = (6, 12, 12, 3)) -> nn.Sequential:
    pairs = pairwise(sizes)
    layers = [layer for size in pairs for layer in (nn.Linear(*size, bias=bias), nn.Tanh())]
    return stack(*layers[:-1])


def convolutions(*middle: nn.Module, kind: Any = nn.Conv2d, channels: int = 4) -> nn.Module:
    head = nn.LazyLinear(CLASSES)
    return stack(kind(2, channels, 3, padding=1), nn.ReLU(), *middle, nn.Flatten(), head)


def made(network: nn.Module, *shape: int) -> nn.Module:
    """Return the network after a first batch, which its lazy layers need."""
    network(torch.zeros(2, *shape))
    return network


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.blocks = nn.ModuleList([nn.Linear(8, 8) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + relu(block(x))
        return self.head(x)


class Backwards(Residual):
    """Registered in the reverse of the order in which a forward pass meets the layers."""

    def __init__(self) -> None:
        super().__init__()
        self._modules = dict(reversed(self._modules.items()))


class Twice(Residual):
    """One layer called several times."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = torch.tanh(self.blocks[0](x))
        return self.head(torch.tanh(self.blocks[2](self.blocks[1](x))))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x)).mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.middle = nn.Linear(4, 8), nn.Linear(8, 8)
        self.cell, self.head = nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(relu(self.middle(self.embed(x))))[0][:, -1])


class Fire(torch.autograd.Function):
    """A spike where the potential reaches 1; a rectangle in its place backward."""

    @staticmethod
    def forward(ctx: Any, potential: Tensor) -> Tensor:
        ctx.save_for_backward(potential)
        return (potential >= 1).to(potential)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (potential,) = ctx.saved_tensors
        return grad * ((potential - 1).abs() < 0.5)


class Spiking(nn.Module):
    """Leaky neurons that keep their potential from one time step to the next."""

    def __init__(self, steps: int = 4) -> None:
        super().__init__()
        self.layers = mlp(sizes=(6, 16, 16, 16, 3))[::2]
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        potentials: list[Any] = [0.0] * len(self.layers)
        count: Any = 0.0
        for _ in range(self.steps):
            spikes = 2 * x
            for i, layer in enumerate(self.layers):
                potentials[i] = 0.5 * potentials[i] + 2 * layer(spikes)
                spikes = Fire.apply(potentials[i]) if i < len(self.layers) - 1 else potentials[i]
                potentials[i] = potentials[i] * (1 - spikes) if i < len(self.layers) - 1 else 0.0
            count = count + spikes
        return count / self.steps


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = made(convolutions(nn.Conv2d(4, 4, 3, padding=1, groups=4)), 2, 6, 6)
        self.network.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.contiguous(memory_format=torch.channels_last))


class Permuted(nn.Module):
    """Sequences with the channels last, as tokens have them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle = nn.Conv1d(5, 6, 3), nn.Conv1d(6, 6, 3, groups=6)
        self.one, self.head = nn.Conv1d(6, 1, 1), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.one(self.middle(relu(self.first(x.transpose(1, 2))))).flatten(1))


def rescaled() -> nn.Module:
    network = mlp(sizes=(6, 12, 12, 12, 3))
    with torch.no_grad():
        for parameter in network[2].parameters():
            parameter.mul_(40)
        network[4].weight.div_(40)
    return network


def partly_frozen() -> nn.Module:
    network = mlp(sizes=(6, 12, 12, 12, 12, 3))
    network[4].requires_grad_(False)
    return network


IMAGE = (2, 6, 6)
LAYERS = {
    "MLP": Entry(network=mlp),
    "without biases": Entry(network=lambda: mlp(bias=False)),
    "wide": Entry(network=lambda: mlp(sizes=(6, 100, 70, 3))),
    "Conv2d": Entry(network=lambda: made(convolutions(nn.Conv2d(4, 4, 3)), *IMAGE), shape=IMAGE),
    "Conv1d": Entry(
        network=lambda: made(convolutions(nn.Conv1d(4, 4, 3), kind=nn.Conv1d), 2, 6), shape=(2, 6)
    ),
    "Conv3d": Entry(
        network=lambda: made(convolutions(nn.Conv3d(4, 4, 3), kind=nn.Conv3d), 2, 4, 4, 4),
        shape=(2, 4, 4, 4),
    ),
    "depthwise": Entry(
        network=lambda: made(convolutions(nn.Conv2d(4, 4, 3, groups=4)), *IMAGE), shape=IMAGE
    ),
    "pointwise and grouped": Entry(
        network=lambda: made(
            convolutions(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, groups=2)), *IMAGE
        ),
        shape=IMAGE,
    ),
    "one channel": Entry(
        network=lambda: made(convolutions(nn.Conv2d(4, 1, 3), nn.Conv2d(1, 4, 3)), *IMAGE),
        shape=IMAGE,
    ),
    "dilated, strided, circular": Entry(
        network=lambda: made(
            convolutions(
                nn.Conv2d(4, 4, 3, stride=2, dilation=2, padding=2, padding_mode="circular")
            ),
            *IMAGE,
        ),
        shape=IMAGE,
    ),
    "channels last": Entry(network=ChannelsLast, shape=IMAGE),
    "permuted tokens": Entry(network=Permuted, shape=(6, 5)),
    "batch norm": Entry(
        network=lambda: made(convolutions(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)), *IMAGE),
        shape=IMAGE,
        cuts=False,
    ),
    "group and layer norm": Entry(
        network=lambda: made(
            convolutions(nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 3), nn.LayerNorm([4, 4, 4])), *IMAGE
        ),
        shape=IMAGE,
    ),
    "dropout": Entry(
        network=lambda: stack(mlp(sizes=(6, 12, 12)), nn.Dropout(0.5), nn.Linear(12, 3)),
        cuts=False,
        resumes=False,
    ),
    "transposed convolution": Entry(
        network=lambda: made(convolutions(nn.ConvTranspose2d(4, 4, 3), nn.Conv2d(4, 4, 3)), *IMAGE),
        shape=IMAGE,
    ),
    "attention": Entry(network=Attention, shape=(5, 4)),
    "LSTM": Entry(network=Recurrent, shape=(5, 4)),
    "residual": Entry(network=Residual),
    "a layer called thrice": Entry(network=Twice),
    "spiking": Entry(network=Spiking),
    "registered backwards": Entry(network=Backwards, wraps=Example),
    "large weights": Entry(network=rescaled, cbp={"levels": "ternary"}),
    "a frozen layer": Entry(network=partly_frozen),
    "a frozen teacher": Entry(network=mlp, wraps=Teacher),
}
CHOICES = {
    "ternary": Entry(network=mlp, cbp={"levels": "ternary"}),
    "shift2 of every channel": Entry(network=mlp, cbp={"levels": "shift2", "scale": "channel"}),
    "levels of one's own": Entry(network=mlp, cbp={"levels": (-2.0, -0.5, 0.5, 2.0)}),
    "mixed levels": Entry(
        network=Residual,
        cbp={"levels": {"*.blocks.0": "ternary", "*.blocks.1": "shift1"}, "layers": ["*.blocks.*"]}
        | {"keep": ()},
    ),
    "every layer": Entry(network=mlp, cbp={"keep": ()}),
    "quantised weights alone": Entry(network=Residual, cbp={"train": "quantised"}),
    "decisions by steps": Entry(network=mlp, cbp={"period": 4}),
    "clip by norm": Entry(network=mlp, cbp={"clip": "norm", "clip_at": 0.1}),
    "a bound, the rate drops": Entry(network=mlp, cbp={"weight_bound": 0.9, "lr_drop_at_g": 2}),
}


def every_step(scheduler: Any) -> dict[str, Any]:
    return {"scheduler": scheduler, "interval": "step"}


STEPS = EPOCHS * IMAGES // BATCH
TRAINING = {
    "Adam": Entry(network=mlp, optimiser=lambda p: torch.optim.Adam(p, lr=0.01)),
    "AdamW, fused": Entry(network=mlp, optimiser=lambda p: torch.optim.AdamW(p, 0.01, fused=True)),
    "RMSprop": Entry(network=mlp, optimiser=lambda p: torch.optim.RMSprop(p, lr=0.005)),
    "NAdam": Entry(
        network=mlp,
        optimiser=lambda p: torch.optim.NAdam(p, lr=0.01),
        dtype=torch.float32,  # a state of it is float32, and resumed in the type of the weights
        cuts=False,
    ),
    "two groups": Entry(network=mlp, wraps=Groups),
    "steps of rates": Entry(network=mlp, schedule=lambda o: lr_scheduler.StepLR(o, 1, 0.5)),
    "cosine": Entry(
        network=mlp,
        schedule=lambda o: every_step(lr_scheduler.CosineAnnealingLR(o, STEPS)),
        cbp={"lr_drop_at_g": 2},
    ),
    "one cycle": Entry(
        network=mlp,
        schedule=lambda o: every_step(lr_scheduler.OneCycleLR(o, 0.1, total_steps=STEPS)),
        cbp={"lr_drop_at_g": 2},
    ),
    "plateau": Entry(
        network=mlp,
        schedule=lambda o: {
            "scheduler": lr_scheduler.ReduceLROnPlateau(o, patience=0),
            "monitor": "loss",
        },
        wraps=Logs,
    ),
    "warm-up, then cosine": Entry(
        network=mlp,
        schedule=lambda o: lr_scheduler.SequentialLR(
            o,
            [lr_scheduler.LinearLR(o, 0.1, total_iters=1), lr_scheduler.CosineAnnealingLR(o, 2)],
            milestones=[1],
        ),
        cbp={"lr_drop_at_g": 2},
    ),
    "accumulation": Entry(network=mlp, trainer={"accumulate_grad_batches": 2}, cuts=False),
    "accumulation that changes": Entry(
        network=mlp,
        callbacks=lambda: [GradientAccumulationScheduler({0: 1, 1: 3})],
        cuts=False,
        resumes=False,  # Lightning forgets the factor of an epoch it resumes
    ),
    "dictionaries and skipped batches": Entry(network=mlp, wraps=Returns, cuts=False),
    "bfloat16 autocast": Entry(
        network=mlp, trainer={"precision": "bf16-mixed"}, dtype=torch.float32, cuts=False
    ),
    "true bfloat16": Entry(
        network=mlp, trainer={"precision": "bf16-true"}, dtype=torch.float32, cuts=False
    ),
    "true float16": Entry(
        network=mlp, trainer={"precision": "16-true"}, dtype=torch.float32, cuts=False
    ),
    "true double": Entry(network=mlp, trainer={"precision": "64-true"}),
    "float32": Entry(network=mlp, dtype=torch.float32, cuts=False),
    "a stream": Entry(network=mlp, streams=True, resumes=False),
    "few batches": Entry(network=mlp, trainer={"limit_train_batches": 5}, cuts=False),
    "steps instead of epochs": Entry(
        network=mlp, trainer={"max_steps": 11, "max_epochs": -1}, cuts=False
    ),
    "average behind": Entry(network=mlp, callbacks=lambda: [EMAWeightAveraging()]),
    "early stopping": Entry(
        network=mlp, callbacks=lambda: [EarlyStopping("loss", patience=1)], wraps=Logs
    ),
    "straight-through": Entry(network=mlp, cbp={"multiplier_lr": 0.0}),
}
ZOO = LAYERS | CHOICES | TRAINING
