"""Lays one 32 x 32 miniature over another as well as scaling and shifting can; the proof stage of `data.duplicates`.

Gauss-Newton steps on four numbers (scale and shift of each axis), as Lucas and Kanade 1981, with the gradient of the
fixed picture throughout (Baker and Matthews 2004), so that a step costs two batched matrix products. The warp is
separable: no rotation, hence `rows @ picture @ columns`.
Shapes: P pairs, S = 32 pixels a side, K = 4 parameters (scale x, shift x, scale y, shift y) in half sides.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

SIDE = 32
"""Side of a miniature, in pixels."""
STEPS = 8
"""Gauss-Newton steps; crops of 5 % a side settle after five."""
REACH = 0.35
"""Farthest change of scale or shift, in half sides: crops beyond it are not looked for."""

_GRID = ((np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2) / (SIDE / 2)).astype(np.float32)
"""Pixel centres from -1 to 1."""


def agreement(moving_PSS: Floats, fixed_PSS: Floats) -> Floats:
    """Correlation of each pair where the two overlap, after the best scale and shift; (P,) float32 in [-1, 1].

    The moving picture is searched for the fixed one, so that a crop belongs on the fixed side.
    """
    fixed_PSS = fixed_PSS.astype(np.float32)
    moving_PSS = moving_PSS.astype(np.float32)
    slopes_PKN, inverse_PKK = _slopes(fixed_PSS)
    warp_PK = np.zeros((len(fixed_PSS), 4), np.float32)
    best_P = np.full(len(fixed_PSS), -1.0, np.float32)
    for step in range(STEPS + 1):
        moved_PSS, seen_PSS = _warp(moving_PSS, warp_PK)
        left_PSS, right_PSS = _standard(moved_PSS, seen_PSS), _standard(fixed_PSS, seen_PSS)
        best_P = np.maximum(best_P, (left_PSS * right_PSS).sum((1, 2)))
        if step < STEPS:
            scale_P = np.sqrt(((fixed_PSS - fixed_PSS.mean((1, 2), keepdims=True)) ** 2).sum((1, 2))) + 1e-3
            off_PN = ((right_PSS - left_PSS) * scale_P[:, None, None]).reshape(len(best_P), SIDE * SIDE, 1)
            change_PK = (inverse_PKK @ (slopes_PKN @ off_PN))[..., 0]
            warp_PK = np.clip(warp_PK + np.clip(change_PK, -0.1, 0.1), -REACH, REACH)
    return best_P


def correlation(one_PSS: Floats, other_PSS: Floats) -> Floats:
    """Correlation of each pair as they lie, (P,) float32: a twentieth of the cost of `agreement`."""
    everywhere_PSS = np.ones_like(one_PSS)
    return np.asarray((_standard(one_PSS, everywhere_PSS) * _standard(other_PSS, everywhere_PSS)).sum((1, 2)))


def _slopes(fixed_PSS: Floats) -> tuple[Floats, Floats]:
    """How the fixed picture changes with each parameter (P, K, S * S); inverse of its normal matrix (P, K, K)."""
    down_PSS, across_PSS = np.gradient(fixed_PSS, axis=1), np.gradient(fixed_PSS, axis=2)
    across_PSS, down_PSS = across_PSS * (SIDE / 2), down_PSS * (SIDE / 2)
    each = (across_PSS * _GRID, across_PSS, down_PSS * _GRID[:, None], down_PSS)
    slopes_PKN = np.stack(each, 1).reshape(len(fixed_PSS), 4, SIDE * SIDE).astype(np.float32)
    slopes_PKN = slopes_PKN - slopes_PKN.mean(2, keepdims=True)
    normal_PKK = slopes_PKN @ slopes_PKN.transpose(0, 2, 1)
    ridge_P = np.trace(normal_PKK, axis1=1, axis2=2) * 2.5e-4 + 1e-3
    inverse_PKK = np.linalg.inv(normal_PKK + np.eye(4, dtype=np.float32) * ridge_P[:, None, None])
    return slopes_PKN, inverse_PKK.astype(np.float32)


def _warp(moving_PSS: Floats, warp_PK: Floats) -> tuple[Floats, Floats]:
    """The moving pictures under the warp, and 1 where the result lies inside them, else 0."""
    at_PS = _GRID * (1 + warp_PK[:, 0:1]) + warp_PK[:, 1:2]
    down_PS = _GRID * (1 + warp_PK[:, 2:3]) + warp_PK[:, 3:4]
    columns_PSS, rows_PSS = _weights(at_PS), _weights(down_PS)
    inside_PSS = (np.abs(down_PS) <= 1)[:, :, None] & (np.abs(at_PS) <= 1)[:, None, :]
    moved_PSS: Floats = np.matmul(rows_PSS @ moving_PSS, columns_PSS.transpose(0, 2, 1), dtype=np.float32)
    return moved_PSS, inside_PSS.astype(np.float32)


def _weights(at_PS: Floats) -> Floats:
    """Linear interpolation as a matrix: row = place in the result, column = pixel of the source."""
    pixel_PS = np.clip(at_PS * (SIDE / 2) + (SIDE - 1) / 2, 0, SIDE - 1)
    distance_PSS = np.abs(pixel_PS[:, :, None] - np.arange(SIDE, dtype=np.float32))
    weights_PSS: Floats = np.maximum(0, 1 - distance_PSS)
    return weights_PSS


def _standard(picture_PSS: Floats, seen_PSS: Floats) -> Floats:
    """Zero mean and unit length over what is seen, zero elsewhere."""
    mean_P = (picture_PSS * seen_PSS).sum((1, 2)) / np.maximum(seen_PSS.sum((1, 2)), 1)
    centred_PSS = (picture_PSS - mean_P[:, None, None]) * seen_PSS
    length_P = np.sqrt((centred_PSS**2).sum((1, 2))) + 1e-3
    return np.asarray(centred_PSS / length_P[:, None, None], np.float32)
