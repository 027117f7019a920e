"""Lengths in the report: the file's own by tensor, and what other codes would take."""

import math
from collections import Counter
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from pyro_sws.assess.report.shapes import Bounds, InUse, RawRow, TensorRow, Variants
from pyro_sws.bounds.rates import (
    empirical_entropy_bits,
    enumerative_bits,
    kt_bits,
    nml_bits,
    rate_distortion_bits,
)
from pyro_sws.codec.coders import tensor_bits
from pyro_sws.codec.container import has_fingerprint, ordered
from pyro_sws.codec.header import header_bytes, raw_codings
from pyro_sws.codec.symbols import Quantized
from pyro_sws.inference.joint import Joint
from pyro_sws.weights.group import Group
from pyro_sws.weights.load import architecture
from pyro_sws.weights.posterior import Posterior, weights_site
from pyro_sws.weights.weight_prior import WeightPrior

MOST = 1 << 22  # weights of a group that are drawn for an estimate


def bounds_on_length(
    quantized: Quantized, tensors: Iterable[TensorRow], cross_entropy_bits: float
) -> Bounds:
    """Lengths in bits that other codes for the same symbols would have, summed over the tensors.

    ``order0_entropy`` is a floor for codes with one static table a tensor, not for all codes.
    ``mixture_cross_entropy`` is sum -log2 proportion of each weight's value under the fitted prior,
    before rewriting: a folded bias need not have one of the prior's values.
    """
    counts = [symbol_counts(quantized, name) for name in quantized.symbols]
    return {
        "order0_entropy_bits": sum(map(empirical_entropy_bits, counts)),
        "enumerative_bits": sum(map(enumerative_bits, counts)),
        "nml_bits": sum(map(nml_bits, counts)),
        "kt_bits": sum(map(kt_bits, counts)),
        "coder_ideal_bits": sum(row["bits"] for row in tensors),
        "mixture_cross_entropy_bits": cross_entropy_bits,
    }


@torch.no_grad()
def fitted_rate_distortion_bits(quantized: Quantized, posterior: Posterior) -> float | None:
    """Shannon's lower bound for weights drawn from the fitted densities, at the file's own error.

    The entropy of each group's density is estimated from draws of as many weights. None where a
    group's snapped weights are the fitted ones, or it has more than MOST.
    """
    bits, values = 0.0, quantized.dequantize()
    for group in posterior.groups.values():
        prior, own = posterior.priors[group.name], posterior.point[weights_site(group.name)]
        if group.size > MOST:
            return None
        snapped = group.flatten({name: torch.from_numpy(values[name]) for name in group.shapes})
        distortion = float((own.reshape(-1).cpu() - snapped.to(own).cpu()).double().square().mean())
        if not distortion > 0:
            return None
        entropy = -float(prior.log_prob(prior.sample(group.size))) / group.size / math.log(2)
        bits += rate_distortion_bits(entropy, distortion, group.size)
    return bits


def symbol_counts(quantized: Quantized, name: str) -> np.ndarray:
    """How many weights of a tensor take each value of its codebook: int (levels,)."""
    levels = len(quantized.codebooks[quantized.codebook_of[name]])
    return np.bincount(quantized.symbols[name].ravel(), minlength=levels)


def cross_entropy_bits(quantized: Quantized, posterior: Posterior) -> float:
    """Bits of all coded weights under the prior's own proportions; see ``bounds_on_length``."""
    bits = 0.0
    for group in posterior.groups.values():
        prior = posterior.priors[group.name]
        for name, part in group.slices.items():
            book = quantized.codebooks[quantized.codebook_of[name]].astype(float)
            mass = np.maximum(_masses(prior, part, book), 1e-300)
            counts = symbol_counts(quantized, name)
            bits -= float((counts * np.log2(mass)).sum())
            if hasattr(prior, "zero_proportions"):
                zeros = prior.zero_proportions(part).double().cpu().numpy()
                at_zero = book[quantized.symbols[name].ravel()] == 0
                bits += _own_zero_bits(zeros, at_zero, float(mass[book == 0].sum()))
    return bits + 0.0  # no -0.0


def _masses(prior: WeightPrior, part: slice, book: np.ndarray) -> np.ndarray:
    """How probable the prior makes a codebook's values in a tensor; they sum to 1."""
    values = prior.codebook(part).double().cpu().numpy()
    proportions = prior.proportions(part).double().cpu().numpy()
    # The stored values are rounded, and some of the prior's may have been dropped.
    nearest = np.abs(values[:, None] - book).argmin(1)
    return np.bincount(nearest, proportions / proportions.sum(), minlength=len(book))


def _own_zero_bits(zeros: np.ndarray, at_zero: np.ndarray, mean: float) -> float:
    """What it costs more, or less, that a weight has a zero proportion of its own."""
    own = np.where(at_zero, zeros, 1 - zeros)
    shared = np.where(at_zero, mean, 1 - mean)
    return float(np.log2(np.maximum(shared, 1e-300) / np.maximum(own, 1e-300)).sum())


def tensor_rows(quantized: Quantized) -> list[TensorRow]:
    """Of each coded tensor: shape, counts, codebook, and its share of the payload in bits."""
    rows: list[TensorRow] = []
    lengths = tensor_bits(*ordered(quantized))
    for (name, symbols), length in zip(quantized.symbols.items(), lengths, strict=True):
        book = quantized.codebooks[quantized.codebook_of[name]]
        rows.append(
            {
                "name": name,
                "shape": list(symbols.shape),
                "weights": int(symbols.size),
                "nonzero": int((book[symbols] != 0).sum()),
                "bits": length,
            }
        )
    return rows


def raw_rows(model: Joint, stored: Quantized) -> list[RawRow]:
    """Of each raw tensor in the file: dtypes, bytes, and what rounding it before the fit cost."""
    rows: list[RawRow] = []
    found = raw_codings(stored)
    for name, values in stored.raw.items():
        error = share = 0.0
        if name in model.exact:
            exact = model.exact[name].double()
            errors = (model.stored[name].to(exact) - exact).abs()[exact.isfinite()]
            sizes = exact.abs()[exact.isfinite()]
            error = float(errors.max()) if len(errors) else 0.0
            share = float((errors / sizes)[sizes > 0].max()) if sizes.any() else 0.0
        rows.append(
            {
                "name": name,
                "shape": list(values.shape),
                "given": str(model.given_dtypes[name]).removeprefix("torch."),
                "stored": values.dtype.name,
                "coding": found[name][0],
                "bytes": found[name][1],
                "largest_error": error,
                "largest_relative_error": share,
            }
        )
    return rows


def variants(net: nn.Module, stored: Quantized, data: bytes) -> Variants:
    """Bytes of the file, and of the other kind: the two differ in their header alone."""
    own = header_bytes(stored, None), header_bytes(stored, architecture(net))
    rest = len(data) - own[has_fingerprint(data)]
    return {"self_contained": rest + own[0], "fingerprint": rest + own[1]}


def value_counts(quantized: Quantized, group: Group) -> dict[float, int]:
    """Value -> how many of the group's weights have it; of those that any has, before scaling."""
    counts: Counter[float] = Counter()
    for name in group.shapes:
        book = quantized.codebooks[quantized.codebook_of[name]].astype(float).tolist()
        counts.update(dict(zip(book, symbol_counts(quantized, name).tolist(), strict=True)))
    return {value: count for value, count in counts.items() if count}


def components_in_use(quantized: Quantized, group: Group) -> InUse:
    """How many values the group's weights take, 0 included, and how many they amount to without it.

    The effective number is exp of the entropy, in nats, of the shares of the values other than 0:
    K for K values that are equally common; 0 where every weight is 0. Values are those before
    rewriting and before scaling.
    """
    used = value_counts(quantized, group)
    others = np.array([count for value, count in used.items() if value != 0])
    effective = 2 ** (empirical_entropy_bits(others) / others.sum()) if len(others) else 0.0
    return {"used_components": len(used), "effective_components": float(effective)}
