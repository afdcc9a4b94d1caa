"""The usual training loops, reimplemented as baselines: a PIL DataLoader, eager float32, and `.item()` every step.

No peer's code is here. `--peer DIR` also times a peer's checkout (peers.py), which differs by a few percent.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from pipeline.models.residual import Basic

BATCH = 64
Step = Callable[[], None]


class Pictures(Dataset):
    """CIFAR as torchvision loads it: arrays, converted to PIL images and then to tensors one by one."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, mean: Sequence[float], std: Sequence[float]):
        self.images, self.labels = images, labels
        self.change = transforms.Compose(
            [
                transforms.RandomCrop(images.shape[1], padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int) -> tuple[Tensor, int]:
        return self.change(Image.fromarray(self.images[k])), int(self.labels[k])


def batches(pictures: Pictures, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches, epoch after epoch. Eight workers load data for a GPU; on a CPU they would compete for its cores."""
    on_gpu = device.type == "cuda"
    how = {"num_workers": 8, "persistent_workers": True} if on_gpu else {"num_workers": 0}
    loader = DataLoader(pictures, batch_size=BATCH, shuffle=True, drop_last=True, **how)
    while True:
        for x, y in loader:
            yield x.to(device), y.to(device)


class Block(Basic):
    """A residual block as usually written: its last activation allocates a new tensor."""

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)), inplace=True)
        h = self.bn2(self.conv2(h))
        h += self.shortcut(x)
        return F.relu(h)


def as_written(network: nn.Module) -> nn.Module:
    """A network of this project with the usual residual blocks."""
    for module in network.modules():
        if isinstance(module, Basic):
            module.__class__ = Block
    return network


def sgd(network: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)


def softened(z_s: Tensor, z_t: Tensor, tau: float = 4.0) -> Tensor:
    return F.kl_div(F.log_softmax(z_s / tau, 1), F.softmax(z_t / tau, 1), reduction="sum") * tau**2 / len(z_s)


def kd_step(student: nn.Module, teacher: nn.Module, data: Iterator[tuple[Tensor, Tensor]]) -> Step:
    """Hinton's distillation as RepDistiller and mdistiller implement it."""
    optimizer = sgd(student)
    student.train()
    teacher.eval()

    def step() -> None:
        x, y = next(data)
        z = student(x)
        with torch.no_grad():
            z_t = teacher(x)
        loss = 0.1 * F.cross_entropy(z, y) + 0.9 * softened(z, z_t)
        measured(loss, z, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def dgkd_step(student: nn.Module, guides: list[nn.Module], data: Iterator[tuple[Tensor, Tensor]]) -> Step:
    """DGKD as its published code computes it: gradients also flow through all guides and are then discarded."""
    optimizer = sgd(student)
    student.train()
    for guide in guides:
        guide.eval()

    def step() -> None:
        x, y = next(data)
        z = student(x)
        answers = [guide(x) for guide in guides]
        loss = len(guides) * 0.1 * F.cross_entropy(z, y) + 0.9 * sum(softened(z, z_t) for z_t in answers)
        measured(loss, z, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def orc_step(pivot: nn.Module, students: list[nn.Module], data: Iterator[tuple[Tensor, Tensor]]) -> Step:
    """ORC in the naive order: evaluate all students, then train all, with a forward pass for every use of a network."""
    optimizers = {network: sgd(network) for network in (pivot, *students)}

    def update(network: nn.Module, loss: Tensor) -> None:
        optimizers[network].zero_grad()
        loss.backward()
        optimizers[network].step()

    def step() -> None:
        x, y = next(data)
        losses = []
        for student in students:
            student.eval()
            with torch.no_grad():
                losses.append(F.cross_entropy(student(x), y, reduction="none"))
        best = students[int(torch.stack([loss.mean() for loss in losses]).argmin())]
        drawn = torch.multinomial(torch.stack(losses).mean(0), len(y), replacement=True)
        pivot.train()
        z = pivot(0.5 * x + 0.5 * x[drawn])
        update(pivot, 0.5 * F.cross_entropy(z, y) + 0.5 * F.cross_entropy(z, y[drawn]))
        pivot.eval()
        for student in (best, *(s for s in students if s is not best)):
            with torch.no_grad():
                guides = [pivot(x)]
                if student is not best:
                    best.eval()
                    guides.append(best(x))
            student.train()
            z = student(x)
            loss = 0.1 * F.cross_entropy(z, y) + 0.9 * sum(softened(z, z_t) for z_t in guides)
            measured(loss, z, y)
            update(student, loss)

    return step


def measured(loss: Tensor, z: Tensor, y: Tensor) -> tuple[float, float]:
    """Loss and accuracy, which the usual loops read, and so synchronise for, at every step."""
    return loss.item(), (z.argmax(1) == y).float().mean().item()
