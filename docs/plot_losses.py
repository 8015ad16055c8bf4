"""Picture of every loss and its gradient, as the student's score of one document moves: docs/losses.png.

    python docs/plot_losses.py

One query has a positive and two negatives. The teacher gives them 4, 1 and -1 and the student 3, 2 and 0. In the upper
row the positive's score moves, in the lower row that of the negative which the teacher puts last.
"""

from pathlib import Path

import matplotlib


matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor

from m3se.trainers.losses import LOSSES


TEACHER = torch.tensor([[4.0, 1.0, -1.0]], dtype=torch.float64)
STUDENT = torch.tensor([[3.0, 2.0, 0.0]], dtype=torch.float64)
LABELS = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
MASK = torch.ones(1, 3, dtype=torch.bool)
MOVED = {"the positive": 0, "the last negative": 2}
RANGE = torch.linspace(-4, 8, 601, dtype=torch.float64)
# Two panels a row: errors that grow with the square of a distance, and cross-entropies.
SQUARES = ("mse", "margin_mse", "m3se", "rankdistil_b")
ENTROPIES = ("softmax_ce", "focal", "softmax_distillation")
PICTURE = Path(__file__).with_name("losses.png")
COLOURS = dict(zip(LOSSES, plt.get_cmap("tab10").colors, strict=False))


def values_and_gradients(name: str, document: int) -> tuple[Tensor, Tensor]:
    """Compute a loss at every score of RANGE for one document, and its derivative: [len(RANGE)] each."""
    scores = STUDENT.repeat(len(RANGE), 1)
    scores[:, document] = RANGE
    scores.requires_grad_()
    loss = LOSSES[name]
    values = torch.stack([loss(row[None], TEACHER, LABELS, MASK) for row in scores])
    (gradients,) = torch.autograd.grad(values.sum(), scores)
    return values.detach(), gradients[:, document]


def draw(axes: Axes, names: tuple[str, ...], document: int, order: int) -> None:
    """Draw the curves of several losses into one panel: values for `order` 0, gradients for 1."""
    for name in names:
        curve = values_and_gradients(name, document)[order]
        style = "--" if name == "rankdistil_b" else "-"  # mse shows through where both are the same
        axes.plot(RANGE, curve, style, label=name, color=COLOURS[name], linewidth=2)
    axes.axvline(TEACHER[0, document], color="0.6", linestyle=":", linewidth=1.5)
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.grid(alpha=0.25)
    limit = {0: (-1, 30), 1: (-14, 14)} if names is SQUARES else {0: (-0.2, 6), 1: (-1.3, 1.3)}
    axes.set_ylim(limit[order])


def main(path: Path = PICTURE) -> None:
    """Write two rows of four panels as a PNG at `path`."""
    figure, panels = plt.subplots(2, 4, figsize=(15, 7), layout="constrained", sharex=True)
    for row, (title, document) in enumerate(MOVED.items()):
        for column, (names, order) in enumerate([(SQUARES, 0), (SQUARES, 1), (ENTROPIES, 0), (ENTROPIES, 1)]):
            axes = panels[row, column]
            draw(axes, names, document, order)
            axes.set_title(f"{'gradient' if order else 'loss'}, {title} moves", fontsize=11)
            if row == 0 and order == 0:
                axes.legend(fontsize=9, loc="upper right")
        where = {"x": TEACHER[0, document] - 0.15, "y": -0.5, "ha": "right", "va": "bottom"}
        panels[row, 0].text(s="teacher's score", fontsize=8, color="0.4", **where)
    for axes in panels[1]:
        axes.set_xlabel("student's score of the document that moves")
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
