"""A network shrunk without data: one file, as of any network, for ``load``."""

import time
from dataclasses import replace

import torch
from torch import nn

from pyro_sws.codec.container import encode
from pyro_sws.codec.folded_norms import statistics_last
from pyro_sws.codec.loops import expecting
from pyro_sws.compression.checkpoints.part import (
    DECISIONS,
    as_array,
    error_of,
    kept,
    shrunk_tensors,
)
from pyro_sws.compression.checkpoints.shrink import Shrunk
from pyro_sws.compression.checkpoints.source import check_usable, checkpoint
from pyro_sws.compression.packing import Packing
from pyro_sws.compression.post_training.without_data import TOLERANCE, check_tolerance
from pyro_sws.inference.plain_numbers import instance, real
from pyro_sws.inference.progress import Callback, Progress, check_callback, ignore
from pyro_sws.weights.batch_norm import folded
from pyro_sws.weights.load import architecture, tensors_of
from pyro_sws.weights.network import check_network, plain
from pyro_sws.weights.raw import rounded_raw


@torch.inference_mode(False)
@torch.no_grad()
def shrink_network(
    net: nn.Module,
    tolerance: float | None = None,
    packing: Packing = Packing(),  # noqa: B008  (frozen)
    callback: Callback | None = None,
) -> Shrunk:
    """The network's file, its outputs unseen; the network itself is left as it is.

    Parameters of two dimensions or more are multiples of steps of their own, see ``shrink``. Batch
    norms are folded, all else is rounded, and the file has a fingerprint, as ``packing`` says; what
    it says of merging, codebooks and rewriting is for fits.

    Raises:
        TypeError: for what is no module.
        ValueError: for a tolerance outside [1e-6, 1), a network that no file can hold, see
            ``check_network``, and a weight that is NaN or inf.
    """
    began = time.perf_counter()
    tolerance = real("tolerance", TOLERANCE if tolerance is None else tolerance)
    check_tolerance(tolerance)
    instance("packing", packing, Packing)
    check_callback(callback)
    own = plain(net)
    check_network(own)
    own = folded(own) if packing.fold else own
    names = architecture(own)
    tensors = {name: tensor for name, tensor in tensors_of(own).items() if name in names}
    stored = checkpoint(tensors).stored
    parameters = dict(own.named_parameters())
    coded = [each for each in stored if each.coded and each.name in parameters]
    for each in coded:
        check_usable(tensors[each.name], each)
    held = kept({each.name: tensors[each.name] for each in coded}, tolerance)
    shapes = {name: values.shape for name, values in held.quantized.symbols.items()}
    raw = {n: torch.from_numpy(as_array(t)) for n, t in tensors.items() if n not in held.dtypes}
    rounded = {n: t.numpy() for n, t in (raw | rounded_raw(raw, shapes, packing.raw)).items()}
    errors = {name: error_of(raw[name].numpy(), rounded[name]) for name in raw}
    quantized = replace(
        held.quantized, raw=statistics_last({**held.quantized.raw, **rounded}, shapes)
    )
    with expecting(DECISIONS * quantized.size):
        data = encode(quantized, architecture=names if packing.fingerprint else None)
    size = sum(tensor.numel() for tensor in tensors.values())
    (callback or ignore)(Progress("shrink", size, size))
    seconds = time.perf_counter() - began
    dtypes = {each.name: each.dtype for each in stored}
    whole = replace(held, quantized=quantized, errors={**held.errors, **errors}, dtypes=dtypes)
    rows = shrunk_tensors(whole, len(data), seconds)
    return Shrunk(
        bytes=len(data),
        weights=size,
        rows=tuple(rows[each.name] for each in stored),
        seconds=seconds,
        tolerance=tolerance,
        content=data,
    )
