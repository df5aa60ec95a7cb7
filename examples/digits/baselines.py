"""What everybody can do without a network: zero, mean, ridge and kNN, chosen on validation.

Once chosen, they are fitted to training and validation rows, as ours are.
"""

from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from examples.digits.data import Part, source_pixels, target_pixels, together

Imputer = Callable[[np.ndarray], np.ndarray]  # source pixels -> target pixels

ALPHAS = np.logspace(-3, 3, 25)
NEIGHBOURS = (3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30)
MINKOWSKI = (1.0, 1.5, 2.0)
# Weights 1 / distance^s: 0 is scikit-learn's "uniform" and 1 its "distance".
SHARPNESS = (0, 1, 2, 4, 6)


def mse(reconstructed: np.ndarray, target: np.ndarray) -> float:
    """The mean squared error over images and pixels, in float64."""
    return float(np.mean((reconstructed.astype(np.float64) - target) ** 2))


def inverse_distance(distances: np.ndarray, sharpness: int) -> np.ndarray:
    return 1 / np.maximum(distances, 1e-9) ** sharpness


def fit_baselines(
    train: Part, validation: Part, missing: str
) -> tuple[dict[str, Imputer], dict[str, dict[str, float]]]:
    """Fits on both parts, once the validation rows have chosen every hyperparameter.

    Returns:
        The imputers by name, and the hyperparameters that were chosen.
    """
    x, y = source_pixels(train.images, missing), target_pixels(train.images, missing)
    x_valid = source_pixels(validation.images, missing)
    y_valid = target_pixels(validation.images, missing)

    ridges = [Ridge(alpha=float(alpha)).fit(x, y) for alpha in ALPHAS]
    ridge = min(ridges, key=lambda model: mse(model.predict(x_valid), y_valid))
    knn, chosen = _best_knn(x, y, x_valid, y_valid)
    both = together(train, validation)
    x, y = source_pixels(both.images, missing), target_pixels(both.images, missing)
    ridge, knn = ridge.fit(x, y), knn.fit(x, y)
    imputers: dict[str, Imputer] = {
        "zero": partial(_constant, np.zeros(y.shape[1])),
        "mean": partial(_constant, y.mean(axis=0)),
        "ridge": ridge.predict,
        "knn": knn.predict,
    }
    return imputers, {"ridge": {"alpha": ridge.alpha}, "knn": chosen}


def _constant(values: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    return np.tile(values, (len(pixels), 1))


def _best_knn(
    x: np.ndarray, y: np.ndarray, x_valid: np.ndarray, y_valid: np.ndarray
) -> tuple[KNeighborsRegressor, dict[str, float]]:
    errors = {}
    for p in MINKOWSKI:
        # The neighbours are the slow part: found once, they serve all numbers and weights.
        model = KNeighborsRegressor(max(NEIGHBOURS), p=p, algorithm="brute").fit(x, y)
        distances, rows = model.kneighbors(x_valid)
        for k, sharpness in product(NEIGHBOURS, SHARPNESS):
            weights = inverse_distance(distances[:, :k], sharpness)
            weights /= weights.sum(axis=1, keepdims=True)
            guess = np.einsum("nk,nkd->nd", weights, y[rows[:, :k]])
            errors[k, p, sharpness] = mse(guess, y_valid)
    k, p, sharpness = min(errors, key=errors.__getitem__)
    weights = partial(inverse_distance, sharpness=sharpness)
    model = KNeighborsRegressor(k, p=p, weights=weights, algorithm="brute").fit(x, y)
    return model, {"n_neighbors": k, "p": p, "sharpness": sharpness}


def fit_classifier(train: Part) -> Pipeline:
    """The one fixed classifier: trained on complete training images, never on imputed ones."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return model.fit(train.images.reshape(len(train.images), -1), train.labels)
