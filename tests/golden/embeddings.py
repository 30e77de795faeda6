"""embeddings.json: measures of embeddings, for the tests of crates/s5cl-eval.

`features` [48, 6] are three clouds that overlap, a few rows repeated (ties) and a class of one
sample; `labels` and `groups` belong to them. `query` [20, 6] has a class that the gallery lacks.

- `logistic`: scikit-learn's LogisticRegression on the features themselves: coefficients and
  intercepts by C, and for two classes.
- `silhouette`: silhouette_score by distance.
- `nearest_class_mean`: predictions of NearestCentroid for the queries.
- `k_means`: the inertia of KMeans, the best of 2000 starts.
- `pca`: components, variances, their ratios and coordinates, of all rows and of the first four.
- `t_sne`: the divergence that TSNE(method="exact") ends at.
- `retrieval`: pytorch-metric-learning's AccuracyCalculator with a search that sorts by cosine and
  keeps the order of equally similar items. `own_group` asks for every query alone, as the
  calculator knows no groups, and takes the mean. Precision and recall at k are counted here.

Made with scikit-learn 1.9.1, pytorch-metric-learning 2.9.0, torch 2.15.0, numpy 2.4.6.
Run: python tests/golden/embeddings.py
"""

import numpy as np
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestCentroid

from golden_files import FOLDER, fix_threads, versions, write_json

OUTPUT = FOLDER.parent.parent / "crates" / "s5cl-eval" / "tests" / "golden" / "embeddings.json"
GENERATOR = np.random.default_rng(4)
WIDTH = 6
K = 5


def clouds(labels: np.ndarray) -> np.ndarray:
    """Rows of two decimals around the centers of their classes."""
    centers = np.random.default_rng(9).normal(size=(6, WIDTH)) * 1.2
    rows = centers[labels] + GENERATOR.normal(size=(len(labels), WIDTH))
    return rows.round(2).astype(np.float32)


def logistic(features, labels, c) -> dict:
    model = LogisticRegression(C=c, tol=1e-12, max_iter=100_000)
    model.fit(features.astype(np.float64), labels)
    return {"c": c, "coefficients": model.coef_, "intercepts": model.intercept_}


def stable_search(query, k, reference, ref_includes_query):
    """Nearest by cosine; of equally similar items the earlier one first."""
    unit = lambda rows: rows.double() / rows.double().norm(dim=1, keepdim=True)
    # Rounded, so that directions that are equal are ties here too.
    similarity = (unit(query) @ unit(reference).T).mul(1e7).round()
    if ref_includes_query:
        similarity.fill_diagonal_(-torch.inf)
    order = torch.argsort(-similarity, dim=1, stable=True)[:, :k]
    return torch.gather(similarity, 1, order), order


METRICS = (
    "precision_at_1",
    "r_precision",
    "mean_average_precision",
    "mean_average_precision_at_r",
    "mean_reciprocal_rank",
)


def accuracy(query, query_labels, *gallery) -> dict:
    tensors = [torch.from_numpy(array) for array in (query, query_labels, *gallery)]
    calculator = AccuracyCalculator(
        include=METRICS, k=None, device=torch.device("cpu"), knn_func=stable_search
    )
    return calculator.get_accuracy(*tensors)


def at_k(query, query_labels, gallery, gallery_labels, admits) -> dict:
    """Means over the queries that have something to find."""
    precision, recall, hit_rate, left_out = [], [], [], 0
    _, order = stable_search(
        torch.from_numpy(query), len(gallery), torch.from_numpy(gallery), False
    )
    for i, ranking in enumerate(order.numpy()):
        hits = np.array([gallery_labels[j] == query_labels[i] for j in ranking if admits(i, j)])
        if not hits.any():
            left_out += 1
            continue
        precision.append(hits[:K].sum() / K)
        recall.append(hits[:K].sum() / hits.sum())
        hit_rate.append(float(hits[:K].any()))
    return {
        "n_queries": len(precision),
        "n_left_out": left_out,
        "precision_at_k": np.mean(precision),
        "recall_at_k": np.mean(recall),
        "hit_rate_at_k": np.mean(hit_rate),
    }


def own_group(features, labels, groups) -> dict:
    found = []
    for i in range(len(features)):
        rest = groups != groups[i]
        if (labels[rest] == labels[i]).any():
            one = slice(i, i + 1)
            found.append(accuracy(features[one], labels[one], features[rest], labels[rest]))
    return {name: np.mean([values[name] for values in found]) for name in METRICS}


def pca(features, n_components) -> dict:
    model = PCA(n_components, svd_solver="full").fit(features.astype(np.float64))
    return {
        "components": model.components_,
        "explained_variance": model.explained_variance_,
        "explained_variance_ratio": model.explained_variance_ratio_,
        "coordinates": model.transform(features.astype(np.float64)),
    }


def main() -> None:
    fix_threads()
    labels = np.append(np.arange(47) % 3, 3)
    groups = np.arange(48) // 4 % 7
    features = clouds(labels)
    # The same rows again, in the same and in another class, and twice as long.
    features[20], features[30], features[31] = features[2], features[5] * 2, features[4]
    query_labels = np.arange(20) % 5
    query = clouds(query_labels)
    query[7] = features[2]
    few = (labels < 2).nonzero()[0]
    inertia = KMeans(5, n_init=2000, tol=0, random_state=0).fit(features.astype(np.float64)).inertia_
    in_order = (query, query_labels, features, labels)
    itself = (features, labels, features, labels)
    golden = {
        "versions": versions("scikit-learn", "pytorch-metric-learning", "torch", "numpy"),
        "features": features,
        "labels": labels,
        "groups": groups,
        "query": query,
        "query_labels": query_labels,
        "logistic": [logistic(features, labels, c) for c in (0.01, 1.0, 30.0)],
        "logistic_two_classes": logistic(features[few], labels[few], 0.5),
        "silhouette": {
            name: silhouette_score(features.astype(np.float64), labels, metric=name)
            for name in ("cosine", "euclidean")
        },
        "nearest_class_mean": NearestCentroid().fit(features, labels).predict(query),
        "k_means": {"n_clusters": 5, "inertia": inertia},
        "pca": pca(features, 4),
        "pca_of_few": pca(features[:4], 3),
        "t_sne": {
            "perplexity": 10.0,
            "kl_divergence": TSNE(
                perplexity=10.0, method="exact", init="pca", random_state=0
            ).fit(features.astype(np.float64)).kl_divergence_,
        },
        "retrieval": {
            "k": K,
            "gallery": accuracy(*in_order) | at_k(*in_order, lambda i, j: True),
            "own": accuracy(features, labels) | at_k(*itself, lambda i, j: i != j),
            "own_group": own_group(features, labels, groups)
            | at_k(*itself, lambda i, j: groups[i] != groups[j]),
        },
    }
    write_json(OUTPUT, golden)


if __name__ == "__main__":
    main()
