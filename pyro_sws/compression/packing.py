"""How a fit becomes a file: merging, stored values, rewriting, folding, names. A value."""

from dataclasses import dataclass
from typing import Literal

from pyro_sws.inference.typed_fields import check_fields
from pyro_sws.weights.merge import MERGE_THRESHOLD, check_threshold
from pyro_sws.weights.quantize import check_signal_to_noise
from pyro_sws.weights.raw import check_rounding


@dataclass(frozen=True)
class Packing:
    """How a fit becomes a file. Raises ValueError for unknown names and numbers out of range.

    TypeError for what should be True or False, and is not.
    """

    __pydantic_config__ = {"extra": "forbid"}
    merge_threshold: float = MERGE_THRESHOLD  # nats: components closer than this become one
    # Whether components merge by their closeness alone, or also where that shortens the whole
    # description, which is the file and the error cost.
    merge_by: Literal["divergence", "description"] = "divergence"
    codebook_dtype: Literal["float16", "float32"] = "float16"  # of the stored values
    signal_to_noise: float | None = None  # weights below it, in posterior deviations, become 0
    rewrite: bool = True  # units reordered and dropped, where the network stays the same
    nonnegative_inputs: bool = False  # a promise about the data that lets more units be dropped
    # Batch norms' running statistics made constants before the fit, where that is exact in eval
    # mode: the file has a scale and a shift a channel. False for a network that is trained further.
    fold: bool = True
    # What no prior covers, such as buffers, rounded before the fit: "float16" where no value loses
    # more than 2^-11 of itself, "int8" with an error that the report states, "exact" not at all.
    raw: Literal["float16", "int8", "exact"] = "float16"
    fingerprint: bool = False  # a file without names and shapes, for this architecture alone

    def __post_init__(self) -> None:
        check_fields(self)
        check_threshold(self.merge_threshold)
        check_signal_to_noise(self.signal_to_noise)
        check_rounding(self.raw)
