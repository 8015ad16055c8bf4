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
    """Compute the one-hot softmax cross-entropy, Equation 1: -sum_k y_k log softmax(s / temperature)_k.

    y = labels / sum(labels). The teacher is not used.

    Args:
        scores, teacher_scores, labels, mask: [B, K], as the module describes them.
        temperature: divides the scores.
        label_smoothing: a mixes y with the uniform distribution over the documents: (1 - a) y + a / K (Appendix C.9).
    """
    target = label_distribution(labels, mask, label_smoothing)
    return -(target * log_softmax(scores, mask, temperature)).sum(dim=1).mean()


def mse(scores: Tensor, teacher_scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Match logits, section 2: sum_k (t_k - s_k)^2 over the documents that the teacher scored."""
    scored = mask & ~teacher_scores.isnan()
    return keep(teacher_scores - scores, scored).square().sum(dim=1).mean()


def margin_mse(scores: Tensor, teacher_scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Match margins, Equation 3 and its extension in section 4.1.

    sum_{i in P} sum_{j in N} ((t_i - t_j) - (s_i - s_j))^2 over documents that the teacher scored. With one positive
    and one negative it is Hofstätter et al.'s loss on triples.
    """
    scored = mask & ~teacher_scores.isnan()
    error = keep(teacher_scores - scores, scored)
    pairs = (scored & (labels > 0))[:, :, None] & (scored & (labels == 0))[:, None, :]
    margins = error[:, :, None] - error[:, None, :]  # [B, P, N]: (t_i - s_i) - (t_j - s_j)
    return keep(margins, pairs).square().sum(dim=(1, 2)).mean()


def m3se(scores: Tensor, teacher_scores: Tensor, labels: Tensor, mask: Tensor, *, hinge_power: int = 1) -> Tensor:
    """Compute the multi-margin MSE, Equation 4.

    sum_{i in P} ((t_i - t_j*) - (s_i - s_j*))^2 + sum_{j in N} [s_j - s_j*]_+^p, where j* is the negative with the
    highest teacher score (the first of equals) and p is `hinge_power`. Only the margin over j* is matched; every other
    negative need only stay below it. A positive without a teacher score is left out of the first sum; negatives
    without one count in the second.

    Args:
        scores, teacher_scores, labels, mask: [B, K], as the module describes them.
        hinge_power: p, 1 or 2.
    """
    scored = mask & ~teacher_scores.isnan()
    positives, negatives = scored & (labels > 0), mask & (labels == 0)
    hardest, has_hardest = hardest_negative(teacher_scores, scored & negatives)
    error = keep(teacher_scores - scores, scored)
    margins = keep(error - error.gather(1, hardest), positives & has_hardest)
    above = keep(scores, negatives & has_hardest) - keep(scores, negatives).gather(1, hardest)
    hinge = keep(above, negatives & has_hardest).relu()  # unlike clamp, no gradient for a negative level with j*
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
    """Compute the softmax cross-entropy to the teacher, sections 2 and 4.2.

    -sum_k softmax(t / T)_k log softmax(s / temperature)_k. A document without a teacher score has teacher probability
    0 and is pushed down like any negative. The gradient is that of KL(teacher || student).

    Args:
        scores, teacher_scores, labels, mask: [B, K], as the module describes them.
        temperature: divides the scores.
        teacher_temperature: T, the teacher's own; None: `temperature`.

    Raises:
        TypeError: T is "auto", which distill.py replaces by a number (see trainers/teacher/temperature.py).
    """
    if isinstance(teacher_temperature, str):
        raise TypeError(
            f"teacher_temperature: expected a number, got {teacher_temperature!r}: see resolve_temperature"
        )
    scored = mask & ~teacher_scores.isnan()
    scale = temperature if teacher_temperature is None else teacher_temperature
    target = log_softmax(teacher_scores, scored, scale).exp() * scored
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
    """Compute RankDistil-B, section 4.3 (Reddi et al., 2021).

    sum_{i in P} (t_i - s_i)^2 + sum_{j in N} [s_j - gamma0]_+^2: positives match the teacher's score, negatives need
    only stay below a threshold. A positive without a teacher score is left out.

    Args:
        scores, teacher_scores, labels, mask: [B, K], as the module describes them.
        gamma0: the threshold; a fixed one presumes that the teacher's scale is the same for all queries.
        margin: the threshold is each query's own then, the lowest teacher score of a positive less `margin` (`gamma0`
            for a query without one).
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
    """Compute the focal loss (Lin et al., 2017; Appendix C.10): -sum_k y_k (1 - p_k)^gamma log p_k.

    p = softmax(s / temperature). Documents that the model already ranks with confidence weigh less.

    Args:
        scores, teacher_scores, labels, mask: [B, K], as the module describes them.
        temperature: divides the scores.
        gamma: 0 is `softmax_ce`.
    """
    log_p = log_softmax(scores, mask, temperature)
    # 1 - p by expm1: exact where p is close to 1; the clamp keeps the power's gradient finite at p = 1
    weight = (-torch.expm1(log_p)).clamp(min=torch.finfo(scores.dtype).tiny) ** gamma
    return -(label_distribution(labels, mask, 0.0) * weight * log_p).sum(dim=1).mean()


LOSSES: dict[str, Loss] = {
    loss.__name__: loss for loss in (softmax_ce, mse, margin_mse, m3se, softmax_distillation, rankdistil_b, focal)
}

NEEDS_TEACHER = {"mse", "margin_mse", "m3se", "softmax_distillation", "rankdistil_b"}


def usable_queries(
    name: str, teacher_scores: Tensor, labels: Tensor, mask: Tensor, one_hot_weight: float = 0.0
) -> Tensor:
    """Tell the queries that loss `name` can learn from, bool [B]: of all others value and gradient are 0.

    Args:
        name: of the loss.
        teacher_scores, labels, mask: [B, K], as the module describes them.
        one_hot_weight: share of `softmax_ce` in a mixture with the loss.
    """
    if one_hot_weight:
        one_hot = usable_queries("softmax_ce", teacher_scores, labels, mask)
        return one_hot | usable_queries(name, teacher_scores, labels, mask)
    scored, several = mask & ~teacher_scores.isnan(), mask.sum(dim=1) > 1
    positives, negatives = mask & (labels > 0), mask & (labels == 0)
    scored_positive, scored_negative = (scored & positives).any(dim=1), (scored & negatives).any(dim=1)
    rules = {
        "mse": scored.any(dim=1),
        "margin_mse": scored_positive & scored_negative,
        "m3se": scored_negative & (scored_positive | (negatives.sum(dim=1) > 1)),
        "softmax_distillation": scored.any(dim=1) & several,
        "rankdistil_b": scored_positive | negatives.any(dim=1),
    }
    return rules.get(name, positives.any(dim=1) & several)


def list_variances(scores: Tensor, teacher_scores: Tensor, mask: Tensor) -> Tensor:
    """Compute the variance of a model's and of the teacher's scores within each list: [B, K] each -> [B, 2].

    Over the documents that the teacher scored; NaN for a list with fewer than two of them.
    """
    scored = mask & ~teacher_scores.isnan()
    count = scored.sum(dim=1, keepdim=True)
    variances = []
    for values in (scores, teacher_scores):
        mean = keep(values, scored).sum(dim=1, keepdim=True) / count
        variances.append(keep(values - mean, scored).square().sum(dim=1, keepdim=True) / count)
    return torch.cat(variances, dim=1).masked_fill(count < 2, torch.nan)


def keep(values: Tensor, where: Tensor) -> Tensor:
    """Return `values` where asked for and 0 elsewhere, with gradient 0 there even if the value is NaN or infinite."""
    return torch.where(where, values, 0.0)


def log_softmax(scores: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Return the log-softmax over the masked-in documents [B, K]; 0, with zero gradient, elsewhere."""
    lowest = torch.finfo(scores.dtype).min
    return keep(torch.where(mask, scores / temperature, lowest).log_softmax(dim=1), mask)


def label_distribution(labels: Tensor, mask: Tensor, label_smoothing: float) -> Tensor:
    """Return labels as probabilities over the masked-in documents; all 0 for a query without a positive."""
    gains = keep(labels, mask).clamp(min=0)
    total = gains.sum(dim=1, keepdim=True)
    target = gains / total.clamp(min=torch.finfo(labels.dtype).tiny)
    real = mask.to(labels.dtype)
    uniform = real / real.sum(dim=1, keepdim=True).clamp(min=1)
    return (1 - label_smoothing) * target + label_smoothing * uniform * (total > 0)


def hardest_negative(teacher_scores: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Find the negative with the highest teacher score, the first of equals: its column [B, 1], and if any is."""
    ranked = torch.where(negatives, teacher_scores, -torch.inf)
    best = ranked.amax(dim=1, keepdim=True)
    first = (negatives & (ranked == best)).int().argmax(dim=1, keepdim=True)  # argmax of 0/1 gives the first
    return first, negatives.any(dim=1, keepdim=True)
