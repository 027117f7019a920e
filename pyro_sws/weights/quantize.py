"""Weights to symbols: each snaps to its most probable value. Torch in, numpy out."""

import dataclasses
import math
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from pyro_sws.codec.folded_norms import statistics_last
from pyro_sws.codec.symbols import Quantized
from pyro_sws.weights.group import Group
from pyro_sws.weights.posterior import Posterior, check_posterior, weights_site
from pyro_sws.weights.weight_prior import WeightPrior

CODEBOOK_DTYPES = {"float16": torch.float16, "float32": torch.float32}
WORKING = torch.float32  # in which a decoder multiplies values by scales
LOSS = 0.01  # of a value, by rounding: float16 below its normal range, 6e-5


def quantize(
    posterior: Posterior, codebook_dtype: str = "float16", signal_to_noise: float | None = None
) -> Quantized:
    """Snap every weight to the value of largest responsibility (Ullrich et al. 2017, sec. 4.3).

    The means and scales are rounded first, once, to what is stored, so that assignments are made
    between the values that a decoder will see. Values that no weight takes are dropped from the
    codebook.

    Args:
        posterior: a fitted one, merged or not.
        codebook_dtype: of the stored values and scales, "float16" or "float32"; scales beyond
            float16's normal range are float32.
        signal_to_noise: weights whose |mean| / posterior deviation is below it become 0 (Graves
            2011; Blundell et al. 2015), whatever their responsibilities; None: none do.

    Raises:
        ValueError: for an unknown dtype, and a ``signal_to_noise`` where weights have no
            deviations, or a group has no value 0.
        CodebookRangeError: a ValueError, for values that the dtype cannot hold: too large ones, and
            ones so near 0 that a tensor's weights lose more than LOSS of them (see
            ``check_underflow``).
    """
    check_posterior(posterior)
    check_codebook_dtype(codebook_dtype)
    check_signal_to_noise(signal_to_noise)
    symbols: dict[str, np.ndarray] = {}
    codebooks: dict[str, np.ndarray] = {}
    codebook_of: dict[str, str] = {}
    scales: dict[str, np.ndarray] = {}
    for group in posterior.groups.values():
        prior = rounded(posterior.priors[group.name], CODEBOOK_DTYPES[codebook_dtype])
        flat = posterior.point[weights_site(group.name)].reshape(-1)
        indices = prior.assign(flat)
        check_underflow(posterior.priors[group.name], group, flat, codebook_dtype)
        books = {name: prior.codebook(part) for name, part in group.slices.items()}
        if signal_to_noise is not None:
            noisy = flat.abs() < signal_to_noise * _deviations(posterior, group)
            for name, part in group.slices.items():
                indices[part] = indices[part].where(~noisy[part], _zero_in(books[name], group))
        for owner, names in _sharing(group, books).items():
            book, used = _used(books[names[0]], indices, [group.slices[n] for n in names])
            codebooks[owner] = book.cpu().numpy().astype(codebook_dtype)
            for name, index in zip(names, used, strict=True):
                symbols[name] = index.view(group.shapes[name]).cpu().numpy().astype(np.uint16)
                codebook_of[name] = owner
        for name, part in group.slices.items():
            scale = prior.scale(part)
            own = codebooks[codebook_of[name]][symbols[name]]
            if scale is not None and own.any():  # a tensor of zeros has no size to say
                scales[name] = _narrowest(scale.view(group.shapes[name]))
    raw = {name: tensor.detach().cpu().numpy() for name, tensor in posterior.raw.items()}
    raw = statistics_last(raw, {name: own.shape for name, own in symbols.items()})
    return Quantized(symbols, codebooks, codebook_of, raw, scales, posterior.base)


class CodebookRangeError(ValueError):
    """A codebook's values do not fit its dtype."""


def check_underflow(prior: WeightPrior, group: Group, flat: Tensor, codebook_dtype: str) -> None:
    """Raise CodebookRangeError where a file loses the values that the weights (N,) snap to.

    A value is lost if rounding moves it by more than LOSS of itself, away from its weight, and by
    more than rounding moves the largest value of its tensor anyway: beside 0.5, the float16 0 is as
    good as 2e-8. Scales, and values times them, are rounded as a decoder does, to float32.
    """
    dtype = CODEBOOK_DTYPES[codebook_dtype]
    indices = None
    for name, part in group.slices.items():
        book, scale = prior.codebook(part), prior.scale(part)
        if not _may_be_lost(book, scale, dtype):
            continue
        indices = prior.assign(flat) if indices is None else indices
        own, values = flat[part].double(), book[indices[part]]
        wanted = values.double() if scale is None else values.double() * scale.double()
        given = _decoded(values, scale, dtype)
        error = (given - wanted).abs()
        lost = _lost(given, wanted) & (error > torch.finfo(dtype).eps * wanted.abs().max())
        lost &= (given - own).abs() > (wanted - own).abs()
        if lost.any():
            worst = int((error * lost).argmax())
            single = _decoded(values, scale, torch.float32)
            raise CodebookRangeError(
                f"{name}: {int(lost.sum())} of {len(lost)} weights take values too near 0 for "
                f"{_format(codebook_dtype, scale)}, such as {wanted[worst]:.3g}, which becomes "
                f"{given[worst]:.3g}; {_remedy(bool(_lost(single, wanted)[lost].any()))}"
            )


def _may_be_lost(book: Tensor, scale: Tensor | None, dtype: torch.dtype) -> bool:
    """Whether a codebook's value may be, of itself or times a scale; quick to see."""
    sizes = book[book != 0].abs().double()
    if not len(sizes):
        return False
    if _lost(_decoded(book, None, dtype), book.double()).any():
        return True
    smallest = 1.0 if scale is None else scale.min().double()
    return bool(sizes.min() * smallest < torch.finfo(WORKING).tiny)


def _decoded(values: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The values as a decoder makes them of a codebook in ``dtype`` and of scales, exactly."""
    given = values.to(dtype).to(WORKING)
    return (given if scale is None else given * scale.to(WORKING)).double()


def _lost(given: Tensor, wanted: Tensor) -> Tensor:
    return (given - wanted).abs() > LOSS * wanted.abs()


def _format(codebook_dtype: str, scale: Tensor | None) -> str:
    return codebook_dtype if scale is None else f"{codebook_dtype} times a float32 scale"


def _remedy(beyond_single: bool) -> str:
    """What holds them: float32, or else no file, whose weights are float32 at most."""
    if not beyond_single:
        return "use codebook_dtype='float32'"
    return "a file's weights are float32 at most: bring these into its range by a constant factor"


def check_codebook_dtype(codebook_dtype: str) -> None:
    """Raise ValueError for a dtype that no codebook can have."""
    if not isinstance(codebook_dtype, str) or codebook_dtype not in CODEBOOK_DTYPES:
        choices = ", ".join(CODEBOOK_DTYPES)
        raise ValueError(f"unknown codebook_dtype {codebook_dtype!r}; choose from {choices}")


def check_signal_to_noise(threshold: float | None) -> None:
    """Raise ValueError for a threshold that is negative or not finite; None is none."""
    if threshold is None:
        return
    if not isinstance(threshold, Real | Tensor) or not 0 <= threshold < math.inf:
        raise ValueError(f"signal_to_noise must be a number >= 0, or None, got {threshold!r}")


def _deviations(posterior: Posterior, group: Group) -> Tensor:
    site = weights_site(group.name)
    if posterior.deviations is None or site not in posterior.deviations:
        raise ValueError(
            f"signal_to_noise needs posterior deviations, and the weights of group {group.name!r} "
            "have none; fit a guide that gives them: normal, low_rank or laplace"
        )
    return posterior.deviations[site]


def _zero_in(book: Tensor, group: Group) -> Tensor:
    """The index of 0, a scalar."""
    zeros = (book == 0).nonzero()
    if not len(zeros):
        raise ValueError(
            f"signal_to_noise makes weights 0, which is no value of group {group.name!r}; give its "
            "prior a spike"
        )
    return zeros[0, 0]


def rounded(prior: WeightPrior, dtype: torch.dtype) -> WeightPrior:
    """The prior with its means, and scales, rounded to ``dtype``.

    Scales that it does not hold as exactly as numbers near 1 keep float32. Raises ValueError where
    a mean overflows it.
    """
    means = prior.mixture.means.to(dtype).to(prior.mixture.means.dtype) + 0.0  # no -0.0
    if not means.isfinite().all():
        worst = prior.mixture.means.abs().max()
        remedy = _remedy(not worst.to(WORKING).isfinite())
        raise CodebookRangeError(f"a mean of {worst.item():g} does not fit {dtype}; {remedy}")
    mixture = dataclasses.replace(prior.mixture, means=means)
    scales = getattr(prior, "scales", None)
    own = {} if scales is None else {"scales": _rounded_scales(scales, dtype)}
    return dataclasses.replace(prior, mixture=mixture, **own)  # type: ignore[type-var]


def _rounded_scales(scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Each in the first of ``dtype`` and float32 in whose normal range it is, if it is in one."""
    result = scales
    for narrow in (WORKING, dtype):
        fits = (scales >= torch.finfo(narrow).tiny) & scales.to(narrow).isfinite()
        result = torch.where(fits, scales.to(narrow).to(scales.dtype), result)
    return result


def _sharing(group: Group, books: dict[str, Tensor]) -> dict[str, list[str]]:
    """Codebook name -> its tensors: one for the group if all agree, else one a tensor."""
    first, *others = books.values()
    if all(torch.equal(first, book) for book in others):
        return {group.name: list(books)}
    return {f"{group.name}.{name}": [name] for name in books}


def _used(book: Tensor, indices: Tensor, parts: list[slice]) -> tuple[Tensor, list[Tensor]]:
    """The codebook without the values that no weight takes, and the indices into that."""
    counts = sum(torch.bincount(indices[part], minlength=len(book)) for part in parts)
    used = torch.as_tensor(counts) > 0
    renumbered = used.cumsum(0) - 1
    return book[used], [renumbered[indices[part]] for part in parts]


def _narrowest(scale: Tensor) -> np.ndarray:
    """The smallest array that broadcasts to ``scale``, in the narrowest dtype that holds it.

    Constant dimensions shrink to one.
    """
    for dim in range(scale.dim()):
        start = scale.narrow(dim, 0, 1)
        if torch.equal(start.expand_as(scale), scale):
            scale = start
    dtypes = (*CODEBOOK_DTYPES.values(), scale.dtype)
    exact = next(d for d in dtypes if torch.equal(scale.to(d).to(scale.dtype), scale))
    return scale.to(exact).cpu().numpy()
