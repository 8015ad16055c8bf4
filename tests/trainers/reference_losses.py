"""The formulas of docs/losses.md for one query, in plain Python loops: what `trainers.losses` is compared with.

`documents` is a list of (score, teacher score, label) of the real documents only; an unknown teacher score is NaN.
"""

from math import exp, isnan, log


def log_softmax(values: list[float]) -> list[float]:
    highest = max(values)
    total = highest + log(sum(exp(value - highest) for value in values))
    return [value - total for value in values]


def one_hot(documents, label_smoothing=0.0):
    total = sum(y for _, _, y in documents)
    return [(1 - label_smoothing) * y / total + label_smoothing / len(documents) for _, _, y in documents]


def softmax_ce(documents, temperature=1.0, label_smoothing=0.0):
    if not any(y > 0 for _, _, y in documents):
        return 0.0
    log_p = log_softmax([s / temperature for s, _, _ in documents])
    return -sum(y * p for y, p in zip(one_hot(documents, label_smoothing), log_p, strict=True))


def mse(documents):
    return sum((t - s) ** 2 for s, t, _ in documents if not isnan(t))


def margin_mse(documents):
    known = [document for document in documents if not isnan(document[1])]
    positives, negatives = [d for d in known if d[2] > 0], [d for d in known if d[2] == 0]
    return sum(((ti - tj) - (si - sj)) ** 2 for si, ti, _ in positives for sj, tj, _ in negatives)


def m3se(documents, hinge_power=1):
    hardest = None
    for s, t, y in documents:
        if y == 0 and not isnan(t) and (hardest is None or t > hardest[1]):
            hardest = s, t
    if hardest is None:
        return 0.0
    s_star, t_star = hardest
    margins = sum(((t - t_star) - (s - s_star)) ** 2 for s, t, y in documents if y > 0 and not isnan(t))
    return margins + sum(max(s - s_star, 0.0) ** hinge_power for s, _, y in documents if y == 0)


def softmax_distillation(documents, temperature=1.0, teacher_temperature=None):
    scale = temperature if teacher_temperature is None else teacher_temperature
    known = [t for _, t, _ in documents if not isnan(t)]
    if not known:
        return 0.0
    teacher = iter(log_softmax([t / scale for t in known]))
    log_p = log_softmax([s / temperature for s, _, _ in documents])
    return -sum(exp(next(teacher)) * p for (_, t, _), p in zip(documents, log_p, strict=True) if not isnan(t))


def rankdistil_b(documents, gamma0=0.0, margin=None):
    positives = [(s, t) for s, t, y in documents if y > 0 and not isnan(t)]
    threshold = gamma0 if margin is None or not positives else min(t for _, t in positives) - margin
    hinge = sum(max(s - threshold, 0.0) ** 2 for s, _, y in documents if y == 0)
    return sum((t - s) ** 2 for s, t in positives) + hinge


def focal(documents, temperature=1.0, gamma=2.0):
    if not any(y > 0 for _, _, y in documents):
        return 0.0
    log_p = log_softmax([s / temperature for s, _, _ in documents])
    return -sum(y * (1 - exp(p)) ** gamma * p for y, p in zip(one_hot(documents), log_p, strict=True))


REFERENCES = {
    function.__name__: function
    for function in (softmax_ce, mse, margin_mse, m3se, softmax_distillation, rankdistil_b, focal)
}
