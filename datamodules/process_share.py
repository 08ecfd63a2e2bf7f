"""Which images of every batch a process takes, where several train one network."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from datamodules.errors import DataError


@dataclass(frozen=True)
class Share:
    """A process's contiguous share of every batch; no two shares differ by more than one image.

    What is drawn for a batch (order, crops, frames) is drawn for the whole of it by every process,
    and the share is cut from that: together the processes see what a single one sees.

    Attributes:
        rank: Number of the process, from 0.
        world: How many processes there are.
    """

    rank: int = 0
    world: int = 1

    def of(self, count: int) -> slice:
        """Return the share of a batch of so many images.

        >>> [Share(rank, world=3).of(8) for rank in range(3)]
        [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
        """
        return slice(self.rank * count // self.world, (self.rank + 1) * count // self.world)

    def slices(self, images: int, batch_size: int) -> Iterator[slice]:
        """Yield the share of every batch of a part, first to last; an empty one is left out.

        >>> [list(Share(rank, world=2).slices(5, batch_size=4)) for rank in range(2)]
        [[slice(0, 2, None)], [slice(2, 4, None), slice(4, 5, None)]]
        """
        for start in range(0, images, batch_size):
            mine = self.of(min(batch_size, images - start))
            if mine.start < mine.stop:
                yield slice(start + mine.start, start + mine.stop)

    def count_batches(self, images: int, batch_size: int) -> int:
        """Return how many batches of a part the process has an image of.

        >>> [Share(rank, world=2).count_batches(5, batch_size=4) for rank in range(2)]
        [1, 2]
        """
        return sum(1 for _ in self.slices(images, batch_size))


WHOLE: Final = Share()


def require_shares(sizes: Mapping[str, int], batch_size: int, world: int) -> None:
    """Check that each of so many processes has an image of every training batch and every part.

    Args:
        sizes: Images of the parts, ``train`` among them.
        batch_size: Images a batch, over all processes.
        world: How many processes there are.

    Raises:
        DataError: One has none.
    """
    last = sizes["train"] % batch_size or batch_size
    if last < world:
        raise DataError(
            f"{sizes['train']} training images in batches of {batch_size} leave a batch of {last}"
            f" to {world} devices: use fewer, or change --batch-size or --train-images"
        )
    for part, count in sizes.items():
        if count < world:
            raise DataError(f"{part}_images is {count}, fewer than {world} devices: use fewer")
