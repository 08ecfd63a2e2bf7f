"""CBP training of the TSSL-BP network the plain way: the baseline that a faster version must beat.

Plain is what a researcher writes first, and how the paper's own code is built: layers exchange
filtered spikes ``[B, C, H, W, T]``, a convolution over space is a 3-d one whose kernel has length 1
in time, the neuron loops over time in both directions and its backward pass sums over all later
steps at every step; constraint and quantiser go through autograd. Plain is not sabotaged: PyTorch's
own optimisers, one backward pass, nothing copied or retained without need.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.plain_stbp import LayerSpec, PlainCbpStep, PlainNetwork
from repro.errors import UserError

CONVS: Final = (96, 256, 384, 384, 256)
POOLED: Final = ("conv2", "conv3")
UNITS: Final = (1024, 1024)


def full_size(classes: int = 10, width: float = 1.0) -> tuple[LayerSpec, ...]:
    """Return the layers 96C3-256C3-P2-384C3-P2-384C3-256C3-1024-1024-K; poolings are not listed.

    Args:
        classes: K.
        width: Factor on every channel and unit count but K, above 0.
    """
    convs = [max(1, round(n * width)) for n in CONVS]
    units = [*(max(1, round(n * width)) for n in UNITS), classes]
    layers = [LayerSpec(f"conv{i}", "conv", n) for i, n in enumerate(convs, start=1)]
    layers += [LayerSpec(f"fc{i}", "linear", n) for i, n in enumerate(units, start=1)]
    return tuple(layers)


def filtered(spikes: Tensor, tau_s: float) -> Tensor:
    """Return the post-synaptic potentials of spikes ``[..., T]``: an exponential filter in time."""
    potential = torch.zeros_like(spikes[..., 0])
    steps = []
    for t in range(spikes.shape[-1]):
        potential = potential - potential / tau_s + spikes[..., t]
        steps.append(potential / tau_s)
    return torch.stack(steps, dim=-1)


class _Neuron(torch.autograd.Function):
    """Filtered input ``[..., T]`` to filtered output spikes; the rule of TSSL-BP backwards."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, tau_m: float, tau_s: float, threshold: float) -> Tensor:  # noqa: ANN401
        membrane = torch.zeros_like(inputs[..., 0])
        output = torch.zeros_like(membrane)
        changes, potentials, train, outputs = [], [], [], []
        for t in range(inputs.shape[-1]):
            change = inputs[..., t] - membrane / tau_m
            potential = membrane + change
            spikes = (potential > threshold).to(inputs.dtype)
            membrane = potential * (1 - spikes)
            output = output + (spikes - output) / tau_s
            changes.append(change)
            potentials.append(potential)
            train.append(spikes)
            outputs.append(output)
        kept = [torch.stack(steps, dim=-1) for steps in (changes, potentials, train, outputs)]
        ctx.save_for_backward(*kept)
        ctx.constants = tau_m, tau_s, threshold
        return kept[-1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        changes, potentials, train, outputs = ctx.saved_tensors
        tau_m, tau_s, threshold = ctx.constants
        steps = grad.shape[-1]
        kappa = [(1 - 1 / tau_s) ** k / tau_s for k in range(steps)]
        carry = torch.zeros_like(grad[..., 0])
        at_inputs = []
        for t in range(steps - 1, -1, -1):
            spikes, potential = train[..., t], potentials[..., t]
            at_spikes = torch.zeros_like(carry)
            for k in range(steps - t):
                at_spikes = at_spikes + kappa[k] * grad[..., t + k]
            slope = torch.clamp(-1 / changes[..., t], -8, 0) * spikes
            at_input = -slope * at_spikes
            if t < steps - 1:
                at_input = at_input + carry * (1 - 1 / tau_m) * (1 - spikes)
                at_input = at_input - carry * potential * slope / tau_m
            carry = at_input * spikes + carry * (1 - spikes) * (1 - 1 / tau_m)
            q = torch.exp(torch.clamp((threshold - potential) / 0.2, -8, 8))
            silent = outputs[..., t] < 1 / (4 * tau_s)
            at_input = torch.where(silent, at_spikes * q / (0.2 * (1 + q) ** 2), at_input)
            at_inputs.append(at_input)
        return torch.stack(at_inputs[::-1], dim=-1), None, None, None


class PlainTsslBp(PlainNetwork):
    """TSSL-BP network, one call per layer; output is the last layer's filtered spikes."""

    def __init__(
        self,
        layers: Sequence[LayerSpec],
        *,
        pooled: Sequence[str] = POOLED,
        image_size: int = 32,
        channels: int = 3,
        time_steps: int = 5,
        tau_m: float = 5.0,
        tau_s: float = 3.0,
        threshold: float = 1.0,
        pooling_factor: float = 1.1,
        dropout: float = 0.2,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Build the layers with PyTorch's initial weights; nothing is quantised yet.

        Args:
            layers: From the image to the classes; convolutions first. At least three, because the
                first and the last are never quantised.
            pooled: Names of layers whose output is summed in squares of 2x2.
            image_size: Height and width of the images, in pixels.
            channels: Channels of the images.
            time_steps: T.
            tau_m: Time constant of the membrane, in steps.
            tau_s: Time constant of the synapse, in steps.
            threshold: A neuron fires above it.
            pooling_factor: Factor on the sums.
            dropout: Fraction of the inputs of each layer but the first dropped in training.
            dtype: Of parameters, images and membrane potentials.
        """
        super().__init__()
        if len(layers) < 3:
            raise UserError(f"{len(layers)} layers leave none to quantise: give three or more")
        self.layers, self.pooled = tuple(layers), tuple(pooled)
        self.time_steps, self.pooling_factor, self.dropout = time_steps, pooling_factor, dropout
        self.tau_m, self.tau_s, self.threshold = tau_m, tau_s, threshold
        inputs, size = channels, image_size
        for spec in self.layers:
            module: nn.Conv2d | nn.Linear
            if spec.kind == "conv":
                module = nn.Conv2d(inputs, spec.outputs, 3, padding=1, bias=False, dtype=dtype)
            else:
                module = nn.Linear(inputs * size * size, spec.outputs, bias=False, dtype=dtype)
                size = 1
            if spec.name in self.pooled:
                size //= 2
            self.add_module(spec.name, module)
            inputs = spec.outputs

    def _input(self, spec: LayerSpec, psps: Tensor) -> Tensor:
        """Return the input of the layer's neurons ``[B, ..., T]``."""
        weight = self.weight(spec.name)
        if spec.kind == "linear":
            rows = psps.flatten(1, -2).transpose(1, 2)
            return functional.linear(rows, weight).transpose(1, 2)
        return functional.conv3d(psps, weight.unsqueeze(-1), padding=(1, 1, 0))

    def _pool(self, psps: Tensor) -> Tensor:
        """Return the sums over squares of 2x2 times the factor."""
        return functional.avg_pool3d(psps, (2, 2, 1), divisor_override=1) * self.pooling_factor

    def _drop(self, psps: Tensor) -> Tensor:
        """Return the psps with rows of maps, or units, dropped at all steps alike."""
        rows = psps.shape[:3] if psps.dim() == 5 else psps.shape[:2]
        mask = torch.rand(rows, device=psps.device) >= self.dropout
        mask = mask.reshape(*rows, *[1] * (psps.dim() - len(rows)))
        return psps * mask / (1 - self.dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Return the filtered spikes ``[B, K, T]`` of static images ``[B, C, H, W]``."""
        repeated = images.unsqueeze(-1).repeat(1, 1, 1, 1, self.time_steps)
        psps = filtered(repeated, self.tau_s)
        for spec in self.layers:
            if self.training and self.dropout and spec is not self.layers[0]:
                psps = self._drop(psps)
            inputs = self._input(spec, psps)
            psps = _Neuron.apply(inputs, self.tau_m, self.tau_s, self.threshold)  # type: ignore[no-untyped-call]
            if spec.name in self.pooled:
                psps = self._pool(psps)
        return psps


class PlainTsslBpStep(PlainCbpStep):
    """Algorithm 1 as the published tssl_bp script has it: AdamW twice, gradient norm, no drop."""

    network: PlainTsslBp
    lr_drop = 1.0

    def __init__(
        self,
        network: PlainTsslBp,
        precision: str,
        *,
        lr: float = 2e-4,
        multiplier_lr: float = 1e-4,
        p_max: int = 20,
        clip_at: float = 1.0,
        weight_bound: float = 1.0,
    ) -> None:
        """Quantise the network and let the multipliers, zero at first, ascend once at g = 1.

        Args:
            network: With its pre-trained weights loaded.
            precision: A key of ``LEVELS``.
            lr: Learning rate of AdamW; the defaults are those of the published script.
            multiplier_lr: Learning rate of the multipliers' AdamW.
            p_max: Epochs after which the multipliers ascend at the latest.
            clip_at: Norm that the whole gradient is clipped to.
            weight_bound: Latent weights are clamped to plus or minus this value.
        """
        super().__init__(
            network,
            precision,
            lr=lr,
            multiplier_lr=multiplier_lr,
            p_max=p_max,
            clip_at=clip_at,
            weight_bound=weight_bound,
        )

    def make_optimiser(self, lr: float, momentum: float) -> torch.optim.Optimizer:
        """Return AdamW on the quantised weights alone, which has no momentum argument."""
        return torch.optim.AdamW([weight for weight, _ in self.network.quantised().values()], lr)

    def make_multiplier_optimiser(self, lr: float) -> torch.optim.Optimizer:
        """Return AdamW, ascending."""
        return torch.optim.AdamW(self.multipliers.values(), lr, maximize=True)

    def clip_(self) -> None:
        """Clip the norm of the whole gradient, first and last layer's part included."""
        nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_at)

    def task_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return half the squared distance to the target train, filtered twice, summed."""
        psps = self.network(images)
        train = torch.zeros_like(psps)
        train[torch.arange(len(labels)), labels, 1:] = 1
        target = filtered(filtered(train, self.network.tau_s), self.network.tau_s)
        loss: Tensor = ((psps - target) ** 2).sum() / 2
        return loss
