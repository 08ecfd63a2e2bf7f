"""Arguments of ``python -m repro quantise``; read without torch."""

from dataclasses import dataclass
from pathlib import Path

from repro.cbp.settings import CbpSettings, Clip, Scale, Trained, require_positive
from repro.errors import UserError


@dataclass(frozen=True)
class QuantiseArguments:
    """Quantise a network of your own: CBP from trained weights to a packed file.

    The same command again continues, and does nothing when the file is there.

    Attributes:
        model: Import path of the LightningModule, package.module:Name; a class, or a function that
            returns one. The current folder is looked in first.
        data: Import path of the LightningDataModule, likewise; not needed for a dry run.
        model_args: Arguments of the model, key=value; values as Python writes them, else text.
        data_args: Arguments of the datamodule, key=value.
        checkpoint: Trained weights: a checkpoint of Lightning, a state dict that torch.save wrote,
            or a safetensors file. By default the weights that the model is made with.
        levels: binary, ternary, shift1 or shift2; or pattern=levels, several for mixed precision:
            the first pattern that fits a layer decides, and what none fits stays FP32.
        layers: Patterns of the layers to take, for example 'features.*'.
        exclude: Patterns of layers that stay FP32.
        ends: Quantise the first and the last layer, too.
        scale: One scale per layer, as in the paper, or per output channel: mean |w| or, with _rms
            behind it, the root mean square.
        epochs: Epochs of CBP.
        multiplier_lr: Learning rate of the multipliers; the weights' is the module's own.
        p_max: The multipliers ascend after so many epochs at the latest; by default a fifth of the
            epochs, as in the paper.
        clip: Clip gradients by value, by norm, or not.
        clip_at: Bound of that.
        weight_bound: Latent weights are clamped to plus or minus this; by default 10 times the
            largest level of each layer (the paper: 1).
        train: All parameters, or the quantised weights alone.
        seed: Seed of the model, the order of batches and all else that draws random numbers.
        out: Packed file to write; beside it a folder of the same name and .run holds the state.
        dry_run: Print what would be quantised and the memory before and after; write nothing.
    """

    model: str
    data: str | None = None
    model_args: tuple[str, ...] = ()
    data_args: tuple[str, ...] = ()
    checkpoint: Path | None = None
    levels: tuple[str, ...] = ("binary",)
    layers: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    ends: bool = False
    scale: Scale = "layer"
    epochs: int = 10
    multiplier_lr: float = 0.01
    p_max: int | None = None
    clip: Clip = "value"
    clip_at: float = 1.0
    weight_bound: float | None = None
    train: Trained = "all"
    seed: int = 0
    out: Path | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Refuse what is wrong whatever the network is."""
        require_positive(self, "epochs")
        assert self.settings
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed is {self.seed}: give 0 to 4294967295")
        if self.dry_run:
            return
        if self.data is None:
            raise UserError("no data: give --data package.module:Name, or --dry-run")
        if self.out is None:
            raise UserError("no file to write: give --out FILE.safetensors, or --dry-run")
        if self.out.is_dir() or not self.out.resolve().parent.is_dir():
            raise UserError(f"out is {self.out}: give a file in a folder that exists")
        if self.checkpoint is not None and self.checkpoint.resolve() == self.out.resolve():
            raise UserError(f"{self.out} is checkpoint and out: give another --out")

    @property
    def settings(self) -> CbpSettings:
        """Numbers of CBP."""
        return CbpSettings(
            multiplier_lr=self.multiplier_lr,
            p_max=max(1, self.epochs // 5) if self.p_max is None else self.p_max,
            clip=self.clip,
            clip_at=self.clip_at,
            weight_bound=self.weight_bound,
            train=self.train,
        )

    def level_choice(self) -> str | dict[str, str]:
        """Return one level set, or level sets by pattern.

        Raises:
            UserError: Both kinds, or several sets without a pattern.
        """
        pairs = [text.rpartition("=") for text in self.levels]
        if all(separator for _, separator, _ in pairs) and pairs:
            return {pattern: name for pattern, _, name in pairs}
        if len(self.levels) == 1:
            return self.levels[0]
        raise UserError(
            f"levels are {' '.join(self.levels)!r}: give one level set, or pattern=levels each time"
        )
