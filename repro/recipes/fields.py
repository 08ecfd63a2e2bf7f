"""Recipes: the fields that a run's numbers have, checked; the numbers are in ``recipes``."""

from dataclasses import dataclass
from typing import Literal

from datamodules.catalogue import DATA_SETS
from repro.cbp.settings import CbpSettings, Scale, require_at_least_0, require_positive
from repro.errors import UserError

Optimiser = Literal["sgd", "adam", "adamw"]
Matmul = Literal["float32", "tf32", "bf16", "events"]
Pipeline = Literal["none", "light", "potential", "weights", "qcfs"]


@dataclass(frozen=True, kw_only=True)
class CbpRecipe(CbpSettings):
    """Numbers of the CBP phase, and of its control.

    Attributes:
        epochs: Passes over the training data.
        lr: Learning rate of the weights.
        momentum: Momentum of the weights' SGD.
        optimiser: Optimiser of the weights.
        weight_decay: Its weight decay, on weights (not on biases and the like).
        schedule: Learning rate of the weights: ``constant``, or along a ``cosine`` to 0.
        warmup_steps: Steps over which it first rises linearly to what the schedule says; 0 for
            none.
        batch_size: Images a step, over all devices; 0 for that of the pre-training.
        scale: Of the levels: ``layer``, mean |w| of each layer, is the paper's; ``layer_rms`` its
            root mean square; ``channel`` and ``channel_rms`` the same of each output channel.
    """

    epochs: int
    lr: float
    momentum: float
    optimiser: Optimiser = "sgd"
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    batch_size: int = 0
    scale: Scale = "layer"
    weight_bound: float | None = 1.0

    def __post_init__(self) -> None:
        """Refuse numbers that no run can use."""
        super().__post_init__()
        require_positive(self, "epochs", "lr")
        require_at_least_0(self, "momentum", "weight_decay", "warmup_steps", "batch_size")


@dataclass(frozen=True, kw_only=True)
class ImageRecipe:
    """What the recipes of all image cells have in common.

    Attributes:
        cbp: The CBP phase, and that of its control.
        data: Data set that is read, see ``datamodules.catalogue``.
        normalisation: Data set whose constants normalise CIFAR images.
        train_images: Training images (of events: recordings) used, the first of the split; 0 for
            all.
        val_images: Validation images used; 0 for all.
        test_images: Test images used, the first ones; 0 for all.
        width: Channels and hidden units as a fraction of the paper's.
        time_steps: T.
        epochs: Passes over the training data of the pre-training.
        batch_size: Images a step, over all devices.
        optimiser: Optimiser of the pre-training.
        lr: Its learning rate.
        momentum: Momentum of SGD.
        weight_decay: Weight decay of every parameter.
        schedule: Learning rate: ``constant``, falling in ``step``s, or along a ``cosine`` to 0.
        lr_step: In steps: it falls by ``lr_gamma`` every so many epochs.
        lr_gamma: That factor.
        warmup_steps: Steps over which the learning rate first rises linearly to what the schedule
            says; 0 for none.
        clip_norm: Bound of the gradients' global norm in pre-training; 0 for none.
        augment: Random crop (padding 4) and horizontal flip.
        autoaugment: After those, AutoAugment's CIFAR-10 policy.
        cutout: Before normalisation, a square of this side, in pixels, is set to 0; 0 for none.
        matmul: Arithmetic of products in training: ``float32`` exactly, ``tf32`` on a GPU, or
            ``bf16`` in all layers but the first and the last; or, on the CPU, ``events``: those
            layers touch spikes alone where that is faster, which changes the order of sums.
    """

    cbp: CbpRecipe
    data: str
    normalisation: Literal["cifar10", "cifar100"] = "cifar10"
    train_images: int = 0
    val_images: int = 0
    test_images: int = 0
    width: float = 1.0
    time_steps: int
    epochs: int
    batch_size: int
    optimiser: Optimiser = "sgd"
    lr: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["constant", "step", "cosine"] = "constant"
    lr_step: int = 1
    lr_gamma: float = 0.1
    warmup_steps: int = 0
    clip_norm: float = 0.0
    augment: bool = True
    autoaugment: bool = False
    cutout: int = 0
    matmul: Matmul = "float32"

    def __post_init__(self) -> None:
        """Refuse numbers that no run can use."""
        require_positive(self, "width", "time_steps", "epochs", "batch_size", "lr")
        require_positive(self, "lr_step", "lr_gamma")
        require_at_least_0(self, "train_images", "val_images", "test_images", "momentum")
        require_at_least_0(self, "weight_decay", "clip_norm", "cutout", "warmup_steps")
        if self.data not in DATA_SETS:
            raise UserError(f"data is {self.data!r}: one of {', '.join(DATA_SETS)}")
        if not self.augment and (self.autoaugment or self.cutout):
            raise UserError("autoaugment and cutout come after crop and flip: add --augment")


@dataclass(frozen=True, kw_only=True)
class StbpRecipe(ImageRecipe):
    """Numbers of an STBP run.

    Attributes:
        threshold: Membrane potential above which a neuron fires.
        decay: Factor of the membrane potential from step to step, 0 to 1.
        window: Half-width of the rectangular surrogate gradient.
        gain: Factor on the initial weights of PyTorch's default initialisation.
        initial_rate: Before training, each layer's weights are scaled until the neurons behind it
            fire at so many spikes per neuron and step, on the first training images; 0 for none.
    """

    threshold: float = 0.5
    decay: float
    window: float = 0.5
    gain: float = 1.0
    initial_rate: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers that no run can use."""
        super().__post_init__()
        require_positive(self, "threshold", "window", "gain")
        require_at_least_0(self, "decay", "initial_rate")
        if self.decay > 1:
            raise UserError(f"decay is {self.decay}: give a number from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class TsslBpRecipe(ImageRecipe):
    """Numbers of a TSSL-BP run.

    Attributes:
        tau_m: Time constant of the membrane, in steps, 1 and up.
        tau_s: Time constant of the synapse, in steps, 1 and up.
        threshold: Membrane potential above which a neuron fires.
        pooling_factor: Factor on the sum of a 2x2 pooling.
        dropout: Probability that a unit is dropped for all T, before each layer but the first.
        conv_gain: Factor on the initial weights of convolutions.
        linear_gain: Factor on the initial weights of linear layers.
        weight_bound: Weights are clamped to plus or minus this after every batch of pre-training.
        silent_steps: Steps at the beginning at which the target neuron is silent.
        initial_rate: Before training, each layer's weights are scaled until the neurons behind it
            fire at so many spikes per neuron and step, on the first training images; 0 for none.
    """

    tau_m: float = 5.0
    tau_s: float = 3.0
    threshold: float = 1.0
    pooling_factor: float = 1.1
    dropout: float = 0.2
    conv_gain: float = 5.0
    linear_gain: float = 1.0
    weight_bound: float = 4.0
    silent_steps: int = 1
    initial_rate: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers that no run can use."""
        super().__post_init__()
        require_positive(self, "threshold", "pooling_factor", "weight_bound")
        require_positive(self, "conv_gain", "linear_gain")
        require_at_least_0(self, "silent_steps", "initial_rate")
        require_dropout(self.dropout)
        for name in ("tau_m", "tau_s"):
            if not 1 <= getattr(self, name) < float("inf"):
                raise UserError(f"{name} is {getattr(self, name)}: give 1 step or more")
        if self.silent_steps >= self.time_steps:
            raise UserError(
                f"silent_steps is {self.silent_steps}: give less than time_steps, {self.time_steps}"
            )


@dataclass(frozen=True)
class ConversionRecipe:
    """Numbers of the conversion of a trained ANN to a spiking network.

    Attributes:
        pipeline: Calibration: ``none``; ``light`` (biases); ``potential`` (that, then initial
            membrane potentials); ``weights`` (the advanced pipeline: weights, then potentials);
            ``qcfs`` (the ANN trained on with activations of a few levels, Bu et al., ICLR 2022).
        batches: Batches of training images that the thresholds are searched on; the first of them
            calibrates.
        batch_size: Images of such a batch.
        images: The ``first`` training images as they are; or the first batches of the seed's order
            ``augmented`` as in training, as the reference does.
        weight_steps: Steps of Adam a layer, of the ``weights`` pipeline alone.
        weight_lr: Their learning rate, in units of the ANN's weights.
        qcfs_epochs: Epochs of training with those activations, of the ``qcfs`` pipeline alone.
        qcfs_lr: Their learning rate at the start; it falls as a cosine.
        qcfs_levels: Levels of those activations; 0 for T.
    """

    pipeline: Pipeline = "light"
    batches: int = 7
    batch_size: int = 128
    images: Literal["first", "augmented"] = "first"
    weight_steps: int = 5000
    weight_lr: float = 1e-5
    qcfs_epochs: int = 10
    qcfs_lr: float = 1e-2
    qcfs_levels: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that no run can use."""
        require_positive(self, "batches", "batch_size", "weight_steps", "weight_lr")
        require_positive(self, "qcfs_epochs", "qcfs_lr")
        require_at_least_0(self, "qcfs_levels")


@dataclass(frozen=True, kw_only=True)
class SnnCalibrationRecipe(ImageRecipe):
    """Numbers of an ANN, of its conversion to a spiking network, and of the CBP phase.

    Attributes:
        conversion: How the ANN is converted.
        batch_norm: Whether the ANN has batch normalisation.
        dropout: Probability that a unit of the ANN is dropped in training.
        spike_dropout: Probability that a spike behind a convolution is dropped, at each time step,
            in the CBP phase and its control.
        alpha: Steepness of the arctan surrogate gradient in the CBP phase and its control.
    """

    conversion: ConversionRecipe = ConversionRecipe()
    batch_norm: bool = False
    dropout: float = 0.25
    spike_dropout: float = 0.0
    alpha: float = 2.0

    def __post_init__(self) -> None:
        """Refuse numbers that no run can use."""
        super().__post_init__()
        require_dropout(self.dropout)
        require_dropout(self.spike_dropout, "spike_dropout")
        require_positive(self, "alpha")


@dataclass(frozen=True, kw_only=True)
class SurrogateRecipe(ImageRecipe):
    """Numbers of a SEW-ResNet trained by surrogate gradient, on events or images.

    Attributes:
        train_steps: Of the T frames of events, so many are seen in training, a new random choice
            for every batch, in order; 0 for all.
        binning: Frames hold the same number of events (``count``), or the same time (``time``).
        spatial_pool: Events of so many by so many pixels fall into one.
        neuron: ``plif`` learns a leak per layer, ``if`` has none.
        tau: Initial time constant of PLIF neurons, in steps, above 1.
        connection: How a block combines spikes and shortcut.
        zero_init_residual: Whether blocks begin as their shortcut: their last normalisation starts
            with weights of 0.
        amp: Automatic mixed precision in float16 with a loss scale, on a GPU alone; the CPU
            computes in float32.
    """

    train_steps: int = 0
    binning: Literal["count", "time"] = "count"
    spatial_pool: int = 1
    neuron: Literal["plif", "if"] = "plif"
    tau: float = 2.0
    connection: Literal["add", "and", "iand"] = "add"
    zero_init_residual: bool = False
    amp: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that no run can use."""
        super().__post_init__()
        require_positive(self, "spatial_pool")
        require_at_least_0(self, "train_steps")
        if self.amp and self.matmul == "bf16":
            raise UserError("amp computes in float16 and matmul=bf16 in bfloat16: give one of them")
        if self.zero_init_residual and self.connection == "and":
            raise UserError(
                "a block that begins silent passes nothing on by connection=and: "
                "give zero_init_residual=False"
            )
        if not 1 < self.tau < float("inf"):
            raise UserError(f"tau is {self.tau}: give more than 1 step")
        if self.train_steps > self.time_steps:
            raise UserError(
                f"train_steps is {self.train_steps}: give at most time_steps, {self.time_steps}"
            )


def require_dropout(probability: float, name: str = "dropout") -> None:
    """Raise a UserError for a number that is not a probability below 1."""
    if not 0 <= probability < 1:
        raise UserError(f"{name} is {probability}: give 0 or more, below 1")


Recipe = StbpRecipe | TsslBpRecipe | SnnCalibrationRecipe | SurrogateRecipe
