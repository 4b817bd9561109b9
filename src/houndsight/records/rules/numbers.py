"""The statistics that the rules decide by: robust centres, slopes with intervals, shares with bounds; numpy only."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_T975 = np.array([12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145])


def t975(degrees: float) -> float:
    """The 97.5 % quantile of Student's t; exact to 0.2 % (Abramowitz & Stegun 26.7.5 above 14 degrees of freedom)."""
    if degrees < 1:
        return float("inf")
    if degrees <= len(_T975):
        return float(_T975[int(degrees) - 1])
    z = 1.959964
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def mad(values: ArrayLike) -> tuple[float, float]:
    """Median, and the median absolute deviation times 1.4826 (the standard deviation of a normal); NaN are left out."""
    taken = np.asarray(values, np.float64)
    taken = taken[np.isfinite(taken)]
    if not len(taken):
        return float("nan"), float("nan")
    centre = float(np.median(taken))
    return centre, float(1.4826 * np.median(np.abs(taken - centre)))


def slope(x: ArrayLike, y: ArrayLike) -> tuple[float, float, float]:
    """Theil-Sen slope of y over x with its 95 % interval (Sen 1968, JASA 63): robust to outliers; at most 64 points.

    More points are averaged in 64 blocks first. NaN for all three with fewer than 4 points.
    """
    xs, ys = blocks(x, 64), blocks(y, 64)
    n = len(xs)
    if n < 4:
        return float("nan"), float("nan"), float("nan")
    i, j = np.triu_indices(n, 1)
    run = xs[j] - xs[i]
    every = np.sort((ys[j] - ys[i])[run > 0] / run[run > 0])
    if not len(every):
        return float("nan"), float("nan"), float("nan")
    width = 1.96 * np.sqrt(n * (n - 1) * (2 * n + 5) / 18)  # of Kendall's S
    low = int(max(0, np.floor((len(every) - width) / 2)))
    high = int(min(len(every) - 1, np.ceil((len(every) + width) / 2)))
    return float(np.median(every)), float(every[low]), float(every[high])


def blocks(values: ArrayLike, most: int) -> Floats:
    """The values, or where there are more than `most` the means of that many blocks of neighbours of one length.

    What does not fill a block is left out at the front: the newest values always count.
    """
    taken = np.asarray(values, np.float64)
    if len(taken) <= most:
        return taken
    size = len(taken) // most
    means: Floats = taken[len(taken) - size * most :].reshape(most, size).mean(axis=1)
    return means


def difference(first: ArrayLike, second: ArrayLike) -> tuple[float, float, float]:
    """Mean of the second minus mean of the first, with its 95 % interval (Welch 1947); inf wide below 3 values."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if min(len(a), len(b)) < 3:
        return float("nan"), -float("inf"), float("inf")
    va, vb = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    gap = float(b.mean() - a.mean())
    error = float(np.sqrt(va + vb))
    if error == 0.0:
        return gap, gap, gap
    degrees = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    half = t975(float(degrees)) * error
    return gap, gap - half, gap + half


def share(hits: ArrayLike, n: ArrayLike, z: float = 1.959964) -> tuple[Floats, Floats]:
    """Bounds of the 95 % interval of shares (Wilson 1927), of many at once; 0 and 1 where n is 0."""
    count = np.maximum(np.asarray(n, np.float64), 1e-12)
    p = np.asarray(hits, np.float64) / count
    centre = p + z**2 / (2 * count)
    half = z * np.sqrt(np.maximum(p * (1 - p) / count + z**2 / (4 * count**2), 0))
    low, high = (centre - half) / (1 + z**2 / count), (centre + half) / (1 + z**2 / count)
    empty = np.asarray(n) <= 0
    return np.where(empty, 0.0, np.maximum(low, 0.0)), np.where(empty, 1.0, np.minimum(high, 1.0))


def gap_of_shares(hits: float, n: float, other_hits: float, other_n: float) -> tuple[float, float, float]:
    """Share minus other share with its 95 % interval (Newcombe 1998, method 10)."""
    p, q = hits / n, other_hits / other_n
    (lp,), (hp,) = share([hits], [n])
    (lq,), (hq,) = share([other_hits], [other_n])
    gap = p - q
    return gap, gap - float(np.hypot(p - lp, hq - q)), gap + float(np.hypot(hp - p, q - lq))
