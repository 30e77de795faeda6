"""supcon.json: contrastive and triplet losses with their gradients.

`cases`: one batch each; every reduction gives a loss and its gradient with respect to the raw
embeddings (cosine similarity, so normalization is inside the gradient).

- `pml_avg_nonzero`: pytorch-metric-learning's SupConLoss as it comes: mean over the anchors whose
  loss is above zero; 0 for a batch without positive pairs or without negative pairs.
- `supcontrast_mean_all`: the formula of HobbitLong/SupContrast: mean over all anchors, an anchor
  without positives counts 0, times temperature / base_temperature.
- `mean_valid`: mean over the anchors that have a positive; 0 where there is none.

The last two are written here from the formula, twice (numpy loops for the value, torch for the
gradient), and must agree before anything is stored.

`triplet`: TripletMarginLoss with BatchHardMiner and the library's defaults, named in each case.

`cross`: queries against keys, with one positive or several, soft ones, weights of queries and
keys, and a key that each query leaves out (-1: none), from the formula, pair by pair.

Inputs are float32 values, all arithmetic is float64. Made with torch 2.15.0 and
pytorch-metric-learning 2.9.0. Run: python tests/golden/supcon.py
"""

import numpy as np
import torch
from pytorch_metric_learning import losses, miners

from golden_files import FOLDER, fix_threads, versions, write_json

BASE_TEMPERATURE = 0.07
AGREEMENT = 1e-12  # two float64 evaluations of one formula


def draw(n, dim, seed, scale=1.0):
    values = np.random.default_rng(seed).normal(size=(n, dim)) * scale
    return torch.tensor(values.astype(np.float32).round(4))


def anchor_losses_numpy(embeddings, labels, temperature):
    """Per-anchor loss, or None for an anchor without positives."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    result = []
    for i in range(len(labels)):
        others = [j for j in range(len(labels)) if j != i]
        positives = [j for j in others if labels[j] == labels[i]]
        if not positives:
            result.append(None)
            continue
        logits = {j: float(unit[i] @ unit[j]) / temperature for j in others}
        log_sum = np.logaddexp.reduce(list(logits.values()))
        result.append(-sum(logits[p] - log_sum for p in positives) / len(positives))
    return result


def anchor_losses_torch(embeddings, labels, temperature):
    unit = torch.nn.functional.normalize(embeddings, dim=1)
    logits = unit @ unit.T / temperature
    own = torch.eye(len(labels), dtype=torch.bool)
    positive = (labels[:, None] == labels[None, :]) & ~own
    log_sum = logits.masked_fill(own, -torch.inf).logsumexp(dim=1, keepdim=True)
    count = positive.sum(dim=1)
    log_prob = torch.where(positive, logits - log_sum, 0.0).sum(dim=1)
    return -log_prob / count.clamp(min=1), count > 0


def supcontrast_mean_all(embeddings, labels, temperature):
    values, _ = anchor_losses_torch(embeddings, labels, temperature)
    expected = [v or 0.0 for v in anchor_losses_numpy(embeddings.detach().numpy(), labels.numpy(), temperature)]
    factor = temperature / BASE_TEMPERATURE
    return factor * values.mean(), factor * np.mean(expected)


def mean_valid(embeddings, labels, temperature):
    values, valid = anchor_losses_torch(embeddings, labels, temperature)
    expected = anchor_losses_numpy(embeddings.detach().numpy(), labels.numpy(), temperature)
    expected = [value for value in expected if value is not None]
    loss = (values * valid).sum() / valid.sum().clamp(min=1)
    return loss, np.mean(expected) if expected else 0.0


def pml_avg_nonzero(embeddings, labels, temperature):
    loss = losses.SupConLoss(temperature=temperature)(embeddings, labels)
    return loss, loss.item()


def case(name, embeddings, labels, temperature):
    labels = torch.tensor(labels)
    reductions = {}
    for reduction in (pml_avg_nonzero, supcontrast_mean_all, mean_valid):
        leaf = embeddings.double().requires_grad_()
        loss, check = reduction(leaf, labels, temperature)
        assert abs(loss.item() - check) <= AGREEMENT * max(1.0, abs(check)), (name, reduction.__name__)
        loss.backward()
        reductions[reduction.__name__] = {"loss": loss.double(), "gradient": short(leaf.grad)}
    return {
        "name": name,
        "temperature": temperature,
        "base_temperature": BASE_TEMPERATURE,
        "labels": labels,
        "embeddings": embeddings,
        "reductions": reductions,
    }


def short(gradient):
    """Gradients at float32 precision: the tests compare float32 results."""
    return gradient.float()


def triplet_case(name, embeddings, labels, margin):
    labels = torch.tensor(labels)
    leaf = embeddings.double().requires_grad_()
    miner = miners.BatchHardMiner()
    function = losses.TripletMarginLoss(margin=margin)
    anchors, positives, negatives = miner(leaf, labels)
    loss = function(leaf, labels, (anchors, positives, negatives))
    loss.backward()
    distances = [miner.distance, function.distance]
    for distance in distances:
        assert type(distance).__name__ == "LpDistance", distance
        assert (distance.p, distance.power, distance.normalize_embeddings) == (2, 1, True)
    return {
        "name": name,
        "margin": margin,
        "distance": "LpDistance(p=2, power=1, normalize_embeddings=True), miner and loss: "
        "Euclidean, not squared, between normalized embeddings",
        "reducer": type(function.reducer).__name__ + ": mean over the triplets whose loss is above zero",
        "labels": labels,
        "embeddings": embeddings,
        "anchors": anchors,
        "positives": positives,
        "negatives": negatives,
        "loss": loss.double(),
        "gradient": short(leaf.grad),
    }


def cross_formula(queries, keys, case):
    """The weighted sum over queries of log sum_j beta_j exp(s_ij) - sum_j w_ij s_ij / sum_j w_ij."""
    losses, weights = [], []
    for i, query in enumerate(queries):
        others = [j for j in range(len(keys)) if case["excluded"] is None or case["excluded"][i] != j]
        similarities = torch.stack([query @ keys[j] for j in others]) / case["temperatures"][i]
        if case["query_shares"] is None:
            affinities = torch.tensor([float(case["query_labels"][i] == case["key_labels"][j]) for j in others])
        else:
            affinities = torch.stack([case["query_shares"][i].double() @ case["key_shares"][j].double() for j in others])
        if affinities.sum() == 0:
            continue
        beta = torch.ones(len(keys)) if case["key_weights"] is None else case["key_weights"]
        log_sum = (similarities + beta[others].double().log()).logsumexp(0)
        losses.append(log_sum - (affinities.double() * similarities).sum() / affinities.double().sum())
        weights.append(1.0 if case["query_weights"] is None else case["query_weights"][i].double())
    if case["query_weights"] is None:
        weights = [1.0 / len(losses)] * len(losses)
    return sum(weight * loss for weight, loss in zip(weights, losses))


def cross_case(name, n, n_keys, dim, seed, temperatures, labels=None, classes=None, weights=False, excluded=None):
    """`labels` of queries and keys, or soft labels of so many `classes`."""
    shares = (lambda rows, at: draw(rows, classes, seed + at).abs()) if classes else (lambda rows, at: None)
    key_weights = draw(1, n_keys, seed + 5)[0].abs() if weights else None
    if weights:
        key_weights[1] = 0.0  # a place of the queue that is not filled yet
    case = {
        "name": name,
        "temperatures": temperatures * n if len(temperatures) == 1 else temperatures,
        "queries": draw(n, dim, seed),
        "keys": draw(n_keys, dim, seed + 1),
        "query_labels": labels[0] if labels else None,
        "key_labels": labels[1] if labels else None,
        "query_shares": shares(n, 2),
        "key_shares": shares(n_keys, 3),
        "query_weights": draw(1, n, seed + 4)[0].abs() if weights else None,
        "key_weights": key_weights,
        "excluded": excluded,
    }
    queries, keys = (case[which].double().requires_grad_() for which in ("queries", "keys"))
    loss = cross_formula(queries, keys, case)
    loss.backward()
    gradients = {"query_gradient": short(queries.grad), "key_gradient": short(keys.grad)}
    return {**case, "loss": loss.double(), **gradients}


def main():
    fix_threads()
    balanced = [0, 1, 2, 3] * 6
    cases = [
        case("smallest", draw(4, 3, 0), [0, 0, 1, 1], 0.2),
        case("balanced", draw(12, 4, 1), [0, 1, 2] * 4, 0.07),
        case("singletons", draw(9, 5, 2), [0, 0, 0, 1, 1, 2, 3, 4, 0], 0.2),
        case("singletons_warm", draw(9, 5, 2), [0, 0, 0, 1, 1, 2, 3, 4, 0], 0.7),
        case("all_singletons", draw(6, 4, 3), [5, 0, 3, 1, 4, 2], 0.2),
        case("single_class", draw(6, 4, 4), [7] * 6, 0.2),
        case("nt_xent", draw(16, 8, 5), list(range(8)) * 2, 0.7),
        case("nt_xent_cold", draw(10, 6, 6), list(range(5)) * 2, 0.07),
        case("widest", draw(24, 8, 7), balanced, 0.2),
        case("long_embeddings", draw(8, 3, 8, scale=50.0), [0, 0, 1, 1, 1, 0, 2, 2], 0.07),
        case("sharp", draw(14, 5, 10), [0, 1] * 5 + [2] * 4, 0.01),
        case("imbalanced", draw(15, 6, 9), [0] * 10 + [1, 1, 2, 2, 3], 0.7),
    ]
    triplets = [
        triplet_case("balanced", draw(12, 4, 20), [0, 1, 2] * 4, 0.05),
        triplet_case("singletons", draw(9, 5, 21), [0, 0, 0, 1, 1, 2, 3, 4, 0], 0.2),
        triplet_case("well_separated", separated(), [0, 0, 1, 1, 2, 2], 0.1),
    ]
    cross = [
        cross_case("one_positive", 4, 6, 5, 30, [0.2], labels=([0, 1, 2, 3], [3, 2, 1, 0, 4, 5])),
        cross_case("without_positives", 5, 7, 4, 40, [0.3], labels=([0, 1, 0, 9, 2], [0, 0, 1, 1, 2, 3, 3])),
        cross_case("excluded", 3, 5, 4, 50, [0.2], labels=([0, 1, 2], [0, 1, 0, 1, 2]), excluded=[0, 1, 4]),
        cross_case("soft", 4, 6, 5, 60, [0.1, 0.2, 0.5, 1.0], classes=3),
        cross_case("soft_weighted_excluded", 6, 9, 5, 70, [0.2], classes=4, weights=True, excluded=[0, 1, 8, -1, 3, 3]),
        cross_case(
            "weighted", 4, 6, 3, 80, [0.2], labels=([0, 1, 1, 2], [1, 0, 1, 0, 2, 2]), weights=True, excluded=[-1, 0, 5, 4]
        ),
    ]
    write_json(
        FOLDER / "supcon.json",
        {"versions": versions("torch", "pytorch-metric-learning"), "cases": cases, "triplet": triplets, "cross": cross},
    )


def separated():
    """Two classes far apart and a third that violates the margin: some triplets are inactive."""
    return torch.tensor(
        [[1.0, 0.1, 0.0], [1.0, -0.1, 0.0], [-1.0, 0.2, 0.1], [-1.0, 0.1, 0.0], [-0.9, 0.6, 0.2], [-0.8, -0.5, 0.9]]
    )


if __name__ == "__main__":
    main()
