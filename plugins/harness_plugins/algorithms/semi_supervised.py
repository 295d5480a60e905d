"""What the methods with unlabelled samples share: sharpening, ramps, balance terms, mixture fits, mixtures of rows.

Formulas are those of the official codes of DivideMix, ELR+, ProMix, CC and UNICON; each is pure. A mixture is drawn by a
CPU generator, so that a trial draws alike on every device.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from harness import HarnessError
from harness.training import seeds
from harness_plugins.algorithms.mixup import draw_beta, mix

REG_COVAR = 5e-4
"""What DivideMix, LongReMix and CC add to a fitted variance."""


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """``p^(1/T)``, normalised over the last axis; as good in float32 for a small ``T`` as for a large one.

    Args:
        probabilities: (B, K) in [0, 1].
        temperature: ``T`` > 0; below 1 sharpens.
    """
    return (probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log() / temperature).softmax(-1)


def linear_ramp(time: float, start: float, length: float) -> float:
    """``clip((t - start) / length, 0, 1)``; a ramp of length 0 is up from ``start`` on."""
    if length == 0:
        return float(time >= start)
    return min(max((time - start) / length, 0.0), 1.0)


def sigmoid_ramp(time: float, length: float) -> float:
    """``exp(-5 (1 - min(t, L) / L)^2)`` (Tarvainen and Valpola, 2017); 1 where ``L`` is 0."""
    if length == 0:
        return 1.0
    return math.exp(-5 * (1 - min(max(time, 0.0), length) / length) ** 2)


def soft_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """``-sum_k t_k log softmax(z)_k`` per row, (R,), of logits and targets (R, K). A target need not sum to 1."""
    return functional.cross_entropy(outputs, targets, reduction="none")


def negative_entropy(outputs: Tensor) -> Tensor:
    """``mean_i sum_k p_ik log p_ik``, a scalar, of logits (B, K): added to a loss it flattens predictions.

    The official codes write ``p * log(p)``, which is NaN in float32 once a probability underflows; here it is 0 there.
    """
    logs = outputs.log_softmax(1)
    return (logs.exp() * logs).sum(1).mean()


def balance(outputs: Tensor) -> Tensor:
    """``KL(uniform || mean prediction)``, a scalar, of logits (R, K): the penalty that keeps all classes predicted."""
    classes = outputs.shape[1]
    mean = outputs.log_softmax(1).logsumexp(0) - math.log(len(outputs))
    return -mean.mean() - math.log(classes)


def minmax(values: Tensor) -> Tensor:
    """Values (N,) moved and scaled to [0, 1]; zeros where all are equal, for then nothing tells them apart."""
    if not len(values):
        return values
    low, high = values.aminmax()
    return torch.where(high > low, (values - low) / (high - low), torch.zeros_like(values))


def small_losses_by_class(losses: Tensor, classes: Tensor, quotas: Tensor) -> Tensor:
    """(N,) bool: of each class the samples with the smallest losses, as many as its quota and at least one.

    Args:
        losses: (N,), of which equal ones are taken in their order.
        classes: (N,) int64.
        quotas: (K,) int64.
    """
    order = losses.argsort(stable=True)
    order = order[classes[order].argsort(stable=True)]
    counts = torch.bincount(classes, minlength=len(quotas))
    own = classes[order]
    rank = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[own]
    chosen = torch.zeros_like(losses, dtype=torch.bool)
    return chosen.index_copy_(0, order, rank < quotas.clamp_min(1)[own])


def fit_seed(seed: int, epoch: int, network: str, *keys: object) -> int:
    """The seed of a mixture fit, from the trial's, the epoch, the network's name and what else sets it apart, such as a
    class; below 2^32. The official codes draw from numpy's unseeded global generator."""
    return seeds.derive(seed, "mixture", epoch, network, *keys) % 2**32


def mixture_posterior(
    values: Tensor,
    seed: int,
    component: Literal["lower", "upper"] = "lower",
    iterations: int = 10,
    tolerance: float = 1e-2,
) -> Tensor:
    """Each value's posterior of belonging to the lower or the upper of two Gaussians fitted to all of them.

    scikit-learn's ``GaussianMixture(2)`` with full covariance, one start from k-means and ``reg_covar`` 5e-4, on one
    thread in float64 (the official codes: float32). Where all values are equal, or there is but one, nothing is to be
    told apart and the posterior is 1 (scikit-learn raises).

    Args:
        values: (N,) losses or scores, finite.
        seed: of the k-means start; see :func:`fit_seed`.
        component: whose posterior, by the fitted mean.
        iterations, tolerance: of the EM algorithm. DivideMix: 10 and 1e-2; CC on its scores: 100 and 1e-1.

    Returns:
        (N,) in [0, 1], of the values' type and on their device, without gradient.
    """
    column = values.detach().double().cpu().numpy()[:, None]
    if not len(column) or column.min() == column.max():
        return torch.ones_like(values, requires_grad=False)
    from sklearn.exceptions import ConvergenceWarning  # seconds, which a worker of another method need not pay
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    mixture = GaussianMixture(
        2, max_iter=iterations, tol=tolerance, reg_covar=REG_COVAR, random_state=seed, covariance_type="full"
    )
    with warnings.catch_warnings(), threadpool_limits(1):  # several threads would add up in an order of their own
        warnings.simplefilter("ignore", ConvergenceWarning)  # ten iterations are the methods' choice
        mixture.fit(column)
        posterior = mixture.predict_proba(column)
    means = mixture.means_[:, 0]
    which = means.argmin() if component == "lower" else means.argmax()
    return torch.from_numpy(posterior[:, which].copy()).to(values.device, values.dtype)


@dataclasses.dataclass(frozen=True)
class Blend:
    """One convex combination for all rows of a batch: ``lam * row + (1 - lam) * row[partners]``.

    Attributes:
        lam: in [0.5, 1], so that every row keeps most of itself and is still owned by its own sample.
        partners: (R,) int64, a permutation of the rows.
    """

    lam: float
    partners: Tensor

    @classmethod
    def draw(cls, rows: int, alpha: float, generator: torch.Generator, device: torch.device | str = "cpu") -> Blend:
        """``lam = max(b, 1 - b)`` with ``b ~ Beta(alpha, alpha)``, and partners among ``rows`` rows (MixMatch, Berthelot et
        al., 2019)."""
        drawn = draw_beta(alpha, generator)
        partners = torch.randperm(rows, generator=generator)
        return cls(max(drawn, 1 - drawn), partners.to(device, non_blocking=True))

    def __call__(self, values: Tensor, rows: int | None = None) -> Tensor:
        """(R, ...) mixed inputs or targets; of the first ``rows`` only, whose partners are among all R."""
        if rows is None:
            return mix(values, self.partners, self.lam)
        return torch.lerp(values.index_select(0, self.partners[:rows]), values[:rows], self.lam)


def refuse_tokens(inputs: Tensor, algorithm: str) -> None:
    """Refuse inputs that cannot be mixed, in the name of an algorithm."""
    if not inputs.is_floating_point():
        where = f"algorithms.{algorithm}"
        raise HarnessError("mixes real-valued inputs, these are tokens", where, "remove it from the stack")


def fmix_mask(
    height: int,
    width: int,
    lam: float,
    generator: torch.Generator,
    decay: float = 3.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A mask of 0 and 1 whose ones form few large patches and fill a share ``lam`` of the image (FMix, Harris et al., 2020).

    As in the official codes of FMix and ProMix, which take the first two *rows* of the random spectrum for real and
    imaginary part, so that only the two lowest vertical frequencies enter; the other rows are not drawn. Whether the
    number of ones is rounded up or down is decided by a coin. Of equal pixels the first are taken.

    Args:
        height, width: of the image.
        lam: share of ones, in [0, 1].
        generator: on the CPU.
        decay: exponent of the spectrum's decay.

    Returns:
        (height, width) on the CPU.
    """
    columns = width // 2 + (2 if width % 2 else 1)
    noise = torch.randn(2, columns, 2, generator=generator, dtype=torch.float64)
    up = bool(torch.randint(2, (), generator=generator))
    return binary_mask(low_frequencies(noise, height, width, decay), lam, up).to(dtype)


def low_frequencies(noise: Tensor, height: int, width: int, decay: float = 3.0) -> Tensor:
    """(height, width) real image in [0, 1] from normal noise (2, columns, 2), the first two rows of FMix's spectrum."""
    vertical = torch.fft.fftfreq(height, dtype=torch.float64)[:2, None]
    horizontal = torch.fft.fftfreq(width, dtype=torch.float64)[: noise.shape[1]]
    radius = (vertical.square() + horizontal.square()).sqrt().clamp_min(1 / max(height, width))
    real, imaginary = noise / radius.pow(decay)[..., None]
    image: Tensor = torch.fft.irfft2(torch.complex(real, imaginary), s=(height, width))
    return minmax(image.flatten()).view(height, width)


def binary_mask(image: Tensor, lam: float, up: bool) -> Tensor:
    """1 at the ``ceil`` (``up``) or ``floor`` of ``lam`` times as many pixels as there are, the largest ones, else 0."""
    count = (math.ceil if up else math.floor)(lam * image.numel())
    mask = torch.zeros(image.numel(), dtype=image.dtype)
    mask[torch.argsort(image.flatten(), descending=True, stable=True)[:count]] = 1
    return mask.view_as(image)
