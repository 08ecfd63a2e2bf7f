"""A network to quantise and its data, for `test_kills`."""

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Model(LightningModule):
    """Three layers of any three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.last = nn.Linear(64, 3)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return nn.functional.cross_entropy(self.last(self.layers(batch[0])), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


class Data(LightningDataModule):
    """Random points."""

    def train_dataloader(self) -> "DataLoader[tuple[Tensor, ...]]":
        random = torch.Generator().manual_seed(0)
        points = torch.randn(2000, 8, generator=random)
        return DataLoader(TensorDataset(points, points[:, :3].argmax(1)), 20, shuffle=True)
