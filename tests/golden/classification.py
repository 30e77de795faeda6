"""classification.json: metrics of classification and calibration.

`cases`: labels and probabilities each, among them ties (probabilities are multiples of 1/16),
classes that are absent from the labels or from the predictions, a single class, two classes. What
scikit-learn has is scikit-learn's, on the float32 probabilities as float64; where a class has no
positives or no negatives its AUROC and average precision are null, and kappa is null where
scikit-learn gives NaN. Written here from the formula: reliability bins and expected calibration
error (Guo et al. 2017), area under the error-coverage curve, conformal thresholds and sets.

`temperature`: scikit-learn's temperature scaling, within its own precision of SciPy's minimum of
the same formula.

Made with scikit-learn 1.9.1 and SciPy 1.17.1. Run: python tests/golden/classification.py
"""

import warnings

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn import metrics
from sklearn.calibration import _TemperatureScaling

from golden_files import FOLDER, fix_threads, versions, write_json

N_BINS = 15
AGREEMENT = 1e-6  # two minimizers of one function, whose minimum is flat


def sixteenths(rng, n, n_classes):
    """Probabilities in steps of 1/16: exact in float32, and often equal."""
    return rng.multinomial(16, np.full(n_classes, 1 / n_classes), size=n) / 16


def softmax(rng, n, n_classes, sharpness):
    logits = rng.normal(size=(n, n_classes)) * sharpness
    values = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (values / values.sum(axis=1, keepdims=True)).astype(np.float32).round(5)


def drawn(rng, probabilities):
    """A label for each sample, drawn from its own probabilities, more evenly."""
    weights = np.float64(probabilities) + 0.1
    weights /= weights.sum(axis=1, keepdims=True)
    return np.array([rng.choice(len(row), p=row) for row in weights])


def ranking(labels, probabilities, metric):
    of_class = []
    for class_idx, scores in enumerate(probabilities.T):
        positive = labels == class_idx
        defined = positive.any() and not positive.all()
        of_class.append(metric(positive, scores) if defined else None)
    return of_class


def mean(values):
    values = [value for value in values if value is not None]
    return float(np.mean(values)) if values else None


def number(value):
    return None if np.isnan(value) else float(value)


def reliability(labels, probabilities):
    confidences, hits = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.arange(1, N_BINS) / N_BINS
    bins = np.digitize(np.float32(confidences), np.float32(edges), right=True)
    counts, error = [], 0.0
    for index in range(N_BINS):
        inside = bins == index
        counts.append(int(inside.sum()))
        if inside.any():
            error += inside.mean() * abs(hits[inside].mean() - confidences[inside].mean())
    return counts, error


def area_under_coverage(labels, probabilities):
    confidences, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != labels
    return np.mean([wrong[confidences >= own].mean() for own in confidences])


def conformal_scores(probabilities, score):
    if score == "lac":
        return 1 - probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sums = np.cumsum(np.take_along_axis(probabilities, order, axis=1), axis=1)
    scores = np.empty_like(sums)
    np.put_along_axis(scores, order, sums, axis=1)
    return scores


def conformal(labels, probabilities, score, level):
    """The threshold of the first half of the samples, and its sets on the second."""
    n = len(labels) // 2
    scores = conformal_scores(probabilities, score)
    of_label = np.sort(scores[np.arange(n), labels[:n]])
    rank = int(np.ceil(round((n + 1) * level, 9)))
    threshold = of_label[rank - 1] if rank <= n else np.inf
    sets = scores[n:] <= threshold
    return {
        "score": score,
        "level": level,
        "threshold": number(threshold) if np.isfinite(threshold) else None,
        "coverage": sets[np.arange(len(sets)), labels[n:]].mean(),
        "sizes": np.bincount(sets.sum(axis=1), minlength=sets.shape[1] + 1),
    }


def case(name, labels, probabilities):
    n_classes = probabilities.shape[1]
    classes = range(n_classes)
    single = np.float32(probabilities)
    p = np.float64(single)
    predictions = p.argmax(axis=1)
    area = ranking(labels, p, metrics.roc_auc_score)
    precision = ranking(labels, p, metrics.average_precision_score)
    counts, error = reliability(labels, p)
    costs = np.abs(np.subtract.outer(np.arange(n_classes), np.arange(n_classes))) ** 1.5
    confusion = metrics.confusion_matrix(labels, predictions, labels=classes)
    # Of equally probable classes scikit-learn takes the last one first; reversed, the first one.
    last = n_classes - 1 - np.asarray(labels)
    top_k = lambda k: metrics.top_k_accuracy_score(last, p[:, ::-1], k=k, labels=classes)
    kappa = lambda **options: number(metrics.cohen_kappa_score(labels, predictions, **options))
    halves = [(score, level) for score in ("lac", "aps") for level in (0.8, 0.95)]
    return {
        "name": name,
        "labels": labels,
        "probabilities": list(single),
        "costs": list(costs),
        "accuracy": metrics.accuracy_score(labels, predictions),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, predictions),
        "macro_f1": metrics.f1_score(labels, predictions, average="macro"),
        "weighted_f1": metrics.f1_score(labels, predictions, average="weighted"),
        "micro_f1": metrics.f1_score(labels, predictions, average="micro"),
        "kappa": kappa(),
        "quadratic_kappa": kappa(weights="quadratic", labels=classes),
        "mcc": metrics.matthews_corrcoef(labels, predictions),
        "top_k": {str(k): top_k(k) for k in (3, 5) if k < n_classes},
        "top_1": top_k(1) if n_classes > 2 else None,
        "auroc": mean(area),
        "average_precision": mean(precision),
        "loss": metrics.log_loss(labels, single, labels=classes),
        "brier": metrics.brier_score_loss(labels, p, labels=classes, scale_by_half=False),
        "ece": error,
        "class_auroc": area,
        "class_average_precision": precision,
        "confusion": list(confusion),
        "normalized": list(
            metrics.confusion_matrix(labels, predictions, labels=classes, normalize="true")
        ),
        "mean_cost": (confusion * costs).sum() / len(labels),
        "bin_counts": counts,
        "aurc": area_under_coverage(labels, p),
        "conformal": [conformal(labels, p, score, level) for score, level in halves],
    }


def temperature(name, labels, probabilities):
    single = np.float32(probabilities)
    p = np.float64(single)
    of_sample = np.arange(len(labels))
    loss = lambda log_t: -log_softmax(np.log(p) / np.exp(log_t), axis=1)[of_sample, labels].mean()
    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), options={"xatol": 1e-12})
    theirs = 1 / _TemperatureScaling().fit(np.log(p), labels).beta_
    assert abs(np.exp(found.x) / theirs - 1) < AGREEMENT, (np.exp(found.x), theirs)
    return {
        "name": name,
        "labels": labels,
        "probabilities": list(single),
        "temperature": float(theirs),
        "loss": loss(np.log(theirs)),
    }


def main():
    fix_threads()
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(4)
    tied = sixteenths(rng, 60, 5)
    few = rng.choice([0, 2, 3], size=40)
    never = sixteenths(rng, 40, 4)
    never[:, 3] += never[:, 1]
    never[:, 1] = 0
    two = sixteenths(rng, 40, 2)
    many = softmax(rng, 120, 9, 2.0)
    cases = [
        case("ties", drawn(rng, tied), tied),
        case("absent_from_labels", few, sixteenths(rng, 40, 5)),
        case("absent_from_predictions", rng.integers(4, size=40), never),
        case("one_class", np.full(12, 2), sixteenths(rng, 12, 3)),
        case("one_class_all_right", np.full(3, 1), np.array([[0.25, 0.75], [0, 1], [0.375, 0.625]])),
        case("two_classes", drawn(rng, two), two),
        case("many_classes", drawn(rng, many), many),
    ]
    sharp, flat = softmax(rng, 60, 4, 3.0) + 1e-5, softmax(rng, 60, 4, 0.4)
    temperatures = [
        temperature("too_sure", drawn(rng, sharp), sharp / sharp.sum(axis=1, keepdims=True)),
        temperature("too_cautious", flat.argmax(axis=1) * (np.arange(60) % 3 > 0), flat),
    ]
    made_with = versions("scikit-learn", "scipy", "numpy")
    golden = {"made_with": made_with, "cases": cases, "temperature": temperatures}
    write_json(FOLDER / "classification.json", golden)


if __name__ == "__main__":
    main()
