"""CBP training of the STBP network the plain way: the baseline that a faster version must beat.

Plain is what a researcher writes first, and how the paper's own code is built: a Python loop over
time that calls every layer at every step, quantises the weight in every call, and sends the whole
Lagrangian through autograd. Plain is not sabotaged: PyTorch's own optimisers, one backward pass,
nothing copied or retained without need.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from repro.cbp.constraint import constraint
from repro.cbp.levels import LEVELS, nearest_level
from repro.cbp.window import constrained_fraction, next_g
from repro.errors import UserError

State: TypeAlias = dict[str, tuple[Tensor, Tensor]]
"""Layer name -> membrane potential and spikes of the last time step."""

PREVIOUS_SUM_AT_FIRST: Final = 1e10  # Algorithm 1: stands for "no epoch since the last ascent"
LR_DROP_AT_G: Final = 20  # Algorithm 1
LR_DROP: Final = 0.1  # Algorithm 1


@dataclass(frozen=True)
class LayerSpec:
    """One layer and the neurons behind it.

    Attributes:
        name: Name of the module; its parameters are ``name.weight`` and ``name.bias``.
        kind: 3x3 convolution with padding 1, or linear on the flattened input.
        outputs: Output channels or units.
        stride: Stride of the convolution.
    """

    name: str
    kind: Literal["conv", "linear"]
    outputs: int
    stride: int = 1


def full_size(classes: int = 10, width: float = 1.0) -> tuple[LayerSpec, ...]:
    """Return the layers 128C3-256C3s2-256C3-512C3s2-512C3-1024C3-2048C3s2-1024-512-K.

    Args:
        classes: K.
        width: Factor on every channel and unit count but K, above 0.
    """
    convs = [(128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (1024, 1), (2048, 2)]
    layers = [
        LayerSpec(f"conv{i}", "conv", max(1, round(n * width)), stride)
        for i, (n, stride) in enumerate(convs, start=1)
    ]
    units = [max(1, round(n * width)) for n in (1024, 512)]
    layers += [LayerSpec(f"fc{i}", "linear", n) for i, n in enumerate([*units, classes], start=1)]
    return tuple(layers)


class _Spike(torch.autograd.Function):
    """``u > threshold``; the gradient passes where ``|u - threshold| < half_width``."""

    @staticmethod
    def forward(ctx: Any, potential: Tensor, threshold: float, half_width: float) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(potential)
        ctx.threshold, ctx.half_width = threshold, half_width
        return (potential > threshold).to(potential.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (potential,) = ctx.saved_tensors
        inside = (potential - ctx.threshold).abs() < ctx.half_width
        return grad * inside.to(grad.dtype), None, None


class _Quantise(torch.autograd.Function):
    """Q(w), with the gradient straight through to the latent weight."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, levels: Tensor) -> Tensor:  # noqa: ANN401
        return nearest_level(weight, levels)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return grad, None


class _Constraint(torch.autograd.Function):
    """cs(w; Q, fraction), elementwise, differentiable in w."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, levels: Tensor, fraction: float) -> Tensor:  # noqa: ANN401
        value, slope = constraint(weight, levels, fraction)
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (slope,) = ctx.saved_tensors
        return grad * slope, None, None


class PlainNetwork(nn.Module):
    """What the plain networks share: which weights are quantised, and with which levels.

    Attributes:
        levels: Of each quantised layer, scaled, by module name; empty before ``quantise_``.
    """

    def __init__(self) -> None:
        """Quantise nothing yet."""
        super().__init__()
        self.levels: dict[str, Tensor] = {}

    def quantise_(self, precision: str) -> None:
        """Quantise every layer but the first and the last from the next forward pass on.

        The scale of a layer is the mean ``|w|`` of its weights at this moment and stays constant.

        Args:
            precision: A key of ``LEVELS``.

        Raises:
            UserError: Another word.
        """
        if precision not in LEVELS:
            raise UserError(f"no levels for precision {precision}: choose one of {sorted(LEVELS)}")
        kinds = (nn.Conv2d, nn.Linear)
        layers = [(name, m.weight) for name, m in self.named_modules() if isinstance(m, kinds)]
        for name, weight in layers[1:-1]:
            unscaled = torch.tensor(LEVELS[precision], dtype=weight.dtype, device=weight.device)
            self.levels[name] = unscaled * weight.detach().abs().mean()

    def quantised(self) -> dict[str, tuple[nn.Parameter, Tensor]]:
        """Return latent weight and levels of each quantised layer; empty before ``quantise_``."""
        return {
            name: (cast(nn.Parameter, self.get_submodule(name).weight), levels)
            for name, levels in self.levels.items()
        }

    def weight(self, name: str) -> Tensor:
        """Return what a layer multiplies with: levels where it is quantised.

        Args:
            name: Of its module.
        """
        weight = cast(Tensor, self.get_submodule(name).weight)
        if name not in self.levels:
            return weight
        return cast(Tensor, _Quantise.apply(weight, self.levels[name]))  # type: ignore[no-untyped-call]


class PlainStbp(PlainNetwork):
    """STBP network, one layer call per layer and time step; output is the mean of the spikes."""

    def __init__(
        self,
        layers: Sequence[LayerSpec],
        *,
        image_size: int = 32,
        channels: int = 3,
        time_steps: int = 8,
        decay: float = 0.25,
        threshold: float = 0.5,
        half_width: float = 0.5,
        gain: float = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Build the layers with PyTorch's initial weights; nothing is quantised yet.

        Args:
            layers: From the image to the classes; convolutions first. At least three, because the
                first and the last are never quantised.
            image_size: Height and width of the images, in pixels.
            channels: Channels of the images.
            time_steps: T.
            decay: Factor of the membrane potential from step to step, 0 to 1.
            threshold: A neuron fires above it.
            half_width: Half-width of the rectangular surrogate gradient.
            gain: Factor on the initial weights. Quantised at full size on normal noise, 1 leaves
                every layer from the third on without a spike, 3 has 0.2 to 0.4 spikes a neuron
                and step everywhere.
            dtype: Of parameters, images and membrane potentials.
        """
        super().__init__()
        if len(layers) < 3:
            raise UserError(f"{len(layers)} layers leave none to quantise: give three or more")
        self.layers = tuple(layers)
        self.time_steps, self.decay = time_steps, decay
        self.threshold, self.half_width = threshold, half_width
        inputs, size = channels, image_size
        for spec in self.layers:
            module: nn.Conv2d | nn.Linear
            if spec.kind == "conv":
                module = nn.Conv2d(inputs, spec.outputs, 3, spec.stride, padding=1, dtype=dtype)
                size = (size - 1) // spec.stride + 1
            else:
                module = nn.Linear(inputs * size * size, spec.outputs, dtype=dtype)
                size = 1
            with torch.no_grad():
                module.weight.mul_(gain)
            self.add_module(spec.name, module)
            inputs = spec.outputs

    def _current(self, spec: LayerSpec, signal: Tensor) -> Tensor:
        """Return the input current of the layer's neurons."""
        weight = self.weight(spec.name)
        bias = cast(Tensor, self.get_submodule(spec.name).bias)
        if spec.kind == "linear":
            return functional.linear(signal.flatten(1), weight, bias)
        return functional.conv2d(signal, weight, bias, spec.stride, padding=1)

    def step(self, images: Tensor, state: State) -> State:
        """Return the state of every layer after one more time step.

        ``u[t] = decay * u[t-1] * (1 - s[t-1]) + current``; the gradient flows through the reset.

        Args:
            images: ``[B, C, H, W]``.
            state: After the step before; empty at the first step.
        """
        after: State = {}
        signal = images
        for spec in self.layers:
            potential = self._current(spec, signal)
            if spec.name in state:
                before, fired = state[spec.name]
                potential = self.decay * before * (1 - fired) + potential
            spikes = _Spike.apply(potential, self.threshold, self.half_width)  # type: ignore[no-untyped-call]
            after[spec.name] = (potential, spikes)
            signal = spikes
        return after

    def forward(self, images: Tensor) -> Tensor:
        """Return the spike rates ``[B, K]``, 0 to 1, of static images ``[B, C, H, W]``."""
        state = self.step(images, {})
        last = self.layers[-1].name
        total = state[last][1]
        for _ in range(1, self.time_steps):
            state = self.step(images, state)
            total = total + state[last][1]
        return total / self.time_steps


class PlainCbpStep:
    """Algorithm 1 around a plain network: a step per batch, a rule per epoch.

    As the published stbp script has it; another recipe overrides ``make_optimiser``,
    ``make_multiplier_optimiser``, ``clip_``, ``task_loss`` and ``lr_drop``.

    Attributes:
        lr_drop: Factor on the learning rate when g becomes 20.
        network: Quantised and trained in place.
        g: Window variable, from 1.
        lr: Present learning rate of the weights (read only).
        loss_sum: Sum of the task loss over the epoch's batches so far.
        lagrangian_sum: Sum of the Lagrangian over the same batches.
        multipliers: One tensor per quantised layer, shaped like its weight.
    """

    lr_drop = LR_DROP

    def __init__(
        self,
        network: PlainNetwork,
        precision: str,
        *,
        lr: float = 5e-3,
        momentum: float = 0.9,
        multiplier_lr: float = 5e-4,
        p_max: int = 20,
        clip_at: float = 1.0,
        weight_bound: float = 1.0,
    ) -> None:
        """Quantise the network and let the multipliers, zero at first, ascend once at g = 1.

        Args:
            network: With its pre-trained weights loaded.
            precision: A key of ``LEVELS``.
            lr: Learning rate of SGD; the defaults are those of the published stbp script.
            momentum: Momentum of SGD.
            multiplier_lr: Learning rate of the multipliers' Adam.
            p_max: Epochs after which the multipliers ascend at the latest.
            clip_at: Gradients are clipped to plus or minus this value.
            weight_bound: Latent weights are clamped to plus or minus this value.
        """
        network.quantise_(precision)
        self.network = network
        self.clip_at, self.weight_bound, self.p_max = clip_at, weight_bound, p_max
        self._optimiser = self.make_optimiser(lr, momentum)
        weights = {name: weight for name, (weight, _) in network.quantised().items()}
        self.multipliers = {
            name: nn.Parameter(torch.zeros_like(weight)) for name, weight in weights.items()
        }
        self._multiplier_optimiser = self.make_multiplier_optimiser(multiplier_lr)
        self.g = 1
        self._p = 0
        self._previous_sum = PREVIOUS_SUM_AT_FIRST
        self.loss_sum = self.lagrangian_sum = 0.0
        self._ascend()

    def make_optimiser(self, lr: float, momentum: float) -> torch.optim.Optimizer:
        """Return the weights' optimiser."""
        return torch.optim.SGD(self.network.parameters(), lr=lr, momentum=momentum)

    def make_multiplier_optimiser(self, lr: float) -> torch.optim.Optimizer:
        """Return the multipliers' optimiser, which ascends."""
        return torch.optim.Adam(self.multipliers.values(), lr=lr, maximize=True)

    def clip_(self) -> None:
        """Clip the gradients on the parameters."""
        nn.utils.clip_grad_value_(self.network.parameters(), self.clip_at)

    def task_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the mean squared error to the one-hot label, a scalar."""
        rates = self.network(images)
        target = functional.one_hot(labels, rates.shape[1]).to(rates.dtype)
        return functional.mse_loss(rates, target)

    @property
    def lr(self) -> float:
        """Return the present learning rate of the weights."""
        return float(self._optimiser.param_groups[0]["lr"])

    def losses(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return task loss and Lagrangian, scalars."""
        loss = self.task_loss(images, labels)
        lagrangian, fraction = loss, constrained_fraction(self.g)
        for name, (weight, levels) in self.network.quantised().items():
            cs = cast(Tensor, _Constraint.apply(weight, levels, fraction))  # type: ignore[no-untyped-call]
            lagrangian = lagrangian + (self.multipliers[name].detach() * cs).sum()
        return loss, lagrangian

    def gradients(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the Lagrangian's gradient by parameter name, before clipping; changes nothing.

        Args:
            images: ``[B, C, H, W]``.
            labels: ``[B]``, int64.
        """
        named = dict(self.network.named_parameters())
        _, lagrangian = self.losses(images, labels)
        grads = torch.autograd.grad(lagrangian, list(named.values()))
        return dict(zip(named, grads, strict=True))

    def step(self, images: Tensor, labels: Tensor) -> float:
        """Descend once and return the Lagrangian; the clipped gradients stay on the parameters.

        Args:
            images: ``[B, C, H, W]``.
            labels: ``[B]``, int64.
        """
        self._optimiser.zero_grad()
        loss, lagrangian = self.losses(images, labels)
        torch.autograd.backward(lagrangian)
        self.clip_()
        self._optimiser.step()
        with torch.no_grad():
            for weight, _ in self.network.quantised().values():
                weight.clamp_(-self.weight_bound, self.weight_bound)
        self.loss_sum += loss.item()
        self.lagrangian_sum += lagrangian.item()
        return lagrangian.item()

    def end_epoch(self) -> bool:
        """Apply Algorithm 1's rule, clear the sums, and return whether the multipliers ascended."""
        self._p += 1
        ascends = self.lagrangian_sum >= self._previous_sum or self._p == self.p_max
        self._previous_sum = PREVIOUS_SUM_AT_FIRST if ascends else self.lagrangian_sum
        if ascends:
            self.g = next_g(self.g)
            if self.g == LR_DROP_AT_G:
                self._optimiser.param_groups[0]["lr"] *= self.lr_drop
            self._ascend()
            self._p = 0
        self.loss_sum = self.lagrangian_sum = 0.0
        return ascends

    def _ascend(self) -> None:
        """Move the multipliers one step of their optimiser up along cs(w)."""
        for name, (weight, levels) in self.network.quantised().items():
            cs, _ = constraint(weight.detach(), levels, constrained_fraction(self.g))
            self.multipliers[name].grad = cs
        self._multiplier_optimiser.step()
