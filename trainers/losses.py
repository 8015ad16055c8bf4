"""Every loss of the paper: pure functions of score matrices.

`loss(scores, teacher_scores, labels, mask, **hyperparameters) -> scalar`, all four [B, K]: the scores of the model
being trained, the teacher's (NaN where it gave none), relevance labels (0, 1 or graded), and which entries are real
documents. P = {labels > 0} and N = {labels == 0}, both within the mask.

The value is the mean over the B queries of the paper's sum over documents. A masked entry changes neither value nor
gradient, whatever it holds. A query without a usable pair contributes 0 (see `usable_queries`).

`temperature` divides the scores before a softmax; `teacher_temperature`, when given, is the teacher's own.
`docs/losses.md` says when to use which.
"""

from collections.abc import Callable

import torch
from torch import Tensor


Loss = Callable[..., Tensor]


def softmax_ce(
    scores: Tensor,
    teacher_scores: Tensor,
    labels: Tensor,
    mask: Tensor,
    *,
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """One-hot softmax cross-entropy, Equation 1: -sum_k y_k log softmax(s / temperature)_k, y = labels / sum(labels).

    `label_smoothing` a mixes y with the uniform distribution over the documents: (1 - a) y + a / K (Appendix C.9).
    The teacher is not used.
    """
    target = label_distribution(labels, mask, label_smoothing)
    return -(target * log_softmax(scores, mask, temperature)).sum(dim=1).mean()


def mse(scores: Tensor, teacher_scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Logit matching, section 2: sum_k (t_k - s_k)^2 over the documents that the teacher scored."""
    known = mask & ~teacher_scores.isnan()
    return keep(teacher_scores - scores, known).square().sum(dim=1).mean()


def margin_mse(scores: Tensor, teacher_scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Margin matching, Equation 3 and its extension in section 4.1.

    sum_{i in P} sum_{j in N} ((t_i - t_j) - (s_i - s_j))^2 over documents that the teacher scored. With one positive
    and one negative it is Hofstätter et al.'s loss on triples.
    """
    known = mask & ~teacher_scores.isnan()
    error = keep(teacher_scores - scores, known)
    pairs = (known & (labels > 0))[:, :, None] & (known & (labels == 0))[:, None, :]
    margins = error[:, :, None] - error[:, None, :]  # [B, P, N]: (t_i - s_i) - (t_j - s_j)
    return keep(margins, pairs).square().sum(dim=(1, 2)).mean()


def m3se(scores: Tensor, teacher_scores: Tensor, labels: Tensor, mask: Tensor, *, hinge_power: int = 1) -> Tensor:
    """Multi-margin MSE, Equation 4.

    sum_{i in P} ((t_i - t_j*) - (s_i - s_j*))^2 + sum_{j in N} [s_j - s_j*]_+^p, where j* is the negative with the
    highest teacher score (the first of equals) and p is `hinge_power`. Only the margin over j* is matched; every other
    negative need only stay below it. A positive without a teacher score is left out of the first sum; negatives
    without one count in the second.
    """
    known = mask & ~teacher_scores.isnan()
    positives, negatives = known & (labels > 0), mask & (labels == 0)
    hardest, found = hardest_negative(teacher_scores, known & negatives)
    error = keep(teacher_scores - scores, known)
    margins = keep(error - error.gather(1, hardest), positives & found)
    above = keep(scores, negatives & found) - keep(scores, negatives).gather(1, hardest)
    hinge = keep(above, negatives & found).relu()  # unlike clamp, no gradient for a negative level with j*
    return (margins.square() + hinge**hinge_power).sum(dim=1).mean()


def softmax_distillation(
    scores: Tensor,
    teacher_scores: Tensor,
    labels: Tensor,
    mask: Tensor,
    *,
    temperature: float = 1.0,
    teacher_temperature: float | None = None,
) -> Tensor:
    """Softmax cross-entropy to the teacher (sections 2, 4.2): -sum_k softmax(t / T)_k log softmax(s / temperature)_k.

    A document without a teacher score has teacher probability 0 and is pushed down like any negative. The gradient is
    that of KL(teacher || student).
    """
    known = mask & ~teacher_scores.isnan()
    scale = temperature if teacher_temperature is None else teacher_temperature
    target = log_softmax(teacher_scores, known, scale).exp() * known
    return -(target * log_softmax(scores, mask, temperature)).sum(dim=1).mean()


def rankdistil_b(
    scores: Tensor,
    teacher_scores: Tensor,
    labels: Tensor,
    mask: Tensor,
    *,
    gamma0: float = 0.0,
    margin: float | None = None,
) -> Tensor:
    """RankDistil-B, section 4.3 (Reddi et al., 2021): sum_{i in P} (t_i - s_i)^2 + sum_{j in N} [s_j - gamma0]_+^2.

    Positives match the teacher's score; negatives need only stay below `gamma0`. A positive without a teacher score is
    left out. With `margin` the threshold is each query's own, the lowest teacher score of a positive less `margin`
    (`gamma0` for a query without one): a fixed one presumes that the teacher's scale is the same for all queries.
    """
    positives = mask & (labels > 0) & ~teacher_scores.isnan()
    match = keep(teacher_scores - scores, positives).square()
    threshold: float | Tensor = gamma0
    if margin is not None:
        lowest = torch.where(positives, teacher_scores, torch.inf).amin(dim=1, keepdim=True)
        threshold = torch.where(positives.any(dim=1, keepdim=True), lowest - margin, gamma0)
    hinge = keep(scores - threshold, mask & (labels == 0)).clamp(min=0).square()
    return (match + hinge).sum(dim=1).mean()


def focal(
    scores: Tensor,
    teacher_scores: Tensor,
    labels: Tensor,
    mask: Tensor,
    *,
    temperature: float = 1.0,
    gamma: float = 2.0,
) -> Tensor:
    """Focal loss (Lin et al., 2017; Appendix C.10): -sum_k y_k (1 - p_k)^gamma log p_k, p = softmax(s / temperature).

    Documents that the model already ranks with confidence weigh less. `gamma` 0 is `softmax_ce`.
    """
    log_p = log_softmax(scores, mask, temperature)
    # 1 - p by expm1: exact where p is close to 1; the clamp keeps the power's gradient finite at p = 1
    weight = (-torch.expm1(log_p)).clamp(min=torch.finfo(scores.dtype).tiny) ** gamma
    return -(label_distribution(labels, mask, 0.0) * weight * log_p).sum(dim=1).mean()


LOSSES: dict[str, Loss] = {
    loss.__name__: loss for loss in (softmax_ce, mse, margin_mse, m3se, softmax_distillation, rankdistil_b, focal)
}

NEEDS_TEACHER = {"mse", "margin_mse", "m3se", "softmax_distillation", "rankdistil_b"}


def usable_queries(name: str, teacher_scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Which queries loss `name` can learn from -> bool [B]: for the others value and gradient are 0 at any scores."""
    known, several = mask & ~teacher_scores.isnan(), mask.sum(dim=1) > 1
    positives, negatives = mask & (labels > 0), mask & (labels == 0)
    known_positive, known_negative = (known & positives).any(dim=1), (known & negatives).any(dim=1)
    rules = {
        "mse": known.any(dim=1),
        "margin_mse": known_positive & known_negative,
        "m3se": known_negative & (known_positive | (negatives.sum(dim=1) > 1)),
        "softmax_distillation": known.any(dim=1) & several,
        "rankdistil_b": known_positive | negatives.any(dim=1),
    }
    return rules.get(name, positives.any(dim=1) & several)


def keep(values: Tensor, where: Tensor) -> Tensor:
    """`values` where asked for and 0 elsewhere, with gradient 0 there even if the value is NaN or infinite."""
    return torch.where(where, values, 0.0)


def log_softmax(scores: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Log-softmax over the masked-in documents [B, K]; 0, with zero gradient, elsewhere."""
    lowest = torch.finfo(scores.dtype).min
    return keep(torch.where(mask, scores / temperature, lowest).log_softmax(dim=1), mask)


def label_distribution(labels: Tensor, mask: Tensor, label_smoothing: float) -> Tensor:
    """Labels as probabilities over the masked-in documents; all 0 for a query without a positive."""
    gains = keep(labels, mask).clamp(min=0)
    total = gains.sum(dim=1, keepdim=True)
    target = gains / total.clamp(min=torch.finfo(labels.dtype).tiny)
    real = mask.to(labels.dtype)
    uniform = real / real.sum(dim=1, keepdim=True).clamp(min=1)
    return (1 - label_smoothing) * target + label_smoothing * uniform * (total > 0)


def hardest_negative(teacher_scores: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Column of the negative with the highest teacher score, the first of equals [B, 1], and whether there is one."""
    ranked = torch.where(negatives, teacher_scores, -torch.inf)
    best = ranked.amax(dim=1, keepdim=True)
    first = (negatives & (ranked == best)).int().argmax(dim=1, keepdim=True)  # argmax of 0/1 gives the first
    return first, negatives.any(dim=1, keepdim=True)
