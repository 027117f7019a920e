"""A run: a plan and all that came of it, as one value that a folder can hold."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from pyro_sws.compression.packing import Packing
from pyro_sws.compression.plan import Unnamed
from pyro_sws.files import write_whole
from pyro_sws.inference.plain_numbers import instance
from pyro_sws.inference.priors import Prior
from pyro_sws.inference.priors.rules import Rule
from pyro_sws.runs.inputs import fitted_start, given_data, given_network
from pyro_sws.runs.parts import RunParts
from pyro_sws.suggestions import nearest
from pyro_sws.weights.load import load

if TYPE_CHECKING:  # its parts draw on libraries that a run does without
    from pyro_sws.assess.draws.trees import Trees


# Names of files that hold a network in another form: a folder of such a name is no one's wish.
OF_OTHERS = {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".safetensors", ".npz", ".onnx"}


@dataclass(frozen=True, eq=False)
class Run(RunParts):
    """What ``compress`` returns, and what a run folder holds."""

    def save(self, path: str | os.PathLike) -> None:
        """Write the .sws file, or for any other path a folder with the whole run.

        It is written whole or not at all: an older file or run stays until the new one is complete.
        Draws and pictures of a diagnosis stay where the run is saved over its own folder; a copy in
        another folder has the diagnosis' numbers alone.
        ``Run.open`` is the inverse for a folder; networks and batches that were given
        in Python have no name there, and come back as ``Unnamed``, and weights given by ``start``
        are not kept: the report says that there were some. Raises ValueError for a folder
        that holds other things than a run, and for a name such as net.pt; BlockingIOError, which
        says who, for a folder that another process is writing.
        """
        folder = Path(path)
        if folder.suffix.lower() in OF_OTHERS:
            raise ValueError(
                f"{path}: a run is saved as a file whose name ends in .sws, or a folder; "
                "sws.export writes its network for other programs"
            )
        if folder.suffix.lower() == ".sws":
            write_whole(path, self.data)
            return
        from pyro_sws.runs.folder import holds_run, write_folder, writing  # it draws the figures

        with writing(folder, overwrite=holds_run(folder)):
            write_folder(self, folder)

    @staticmethod
    def open(folder: str | os.PathLike) -> "Run":
        """The run that a folder holds; nothing that its recipe names is run.

        Raises ValueError where no run was finished there, or its files are damaged.
        """
        from pyro_sws.runs.reading import read_folder

        return Run(**vars(read_folder(Path(folder))))

    @cached_property
    def network(self) -> nn.Module:
        """The network as it was given; of a recipe's run, made by the function that it names.

        Raises ValueError for a run from a folder: either its network has no name there, or its code
        would have to be run, which opening a folder never does. ``load`` puts the file's weights
        into a network of yours.
        """
        return given_network(self.plan, self.given)

    @cached_property
    def decoded(self) -> nn.Module:
        """A new network with the weights read back from the file; raises as ``network``."""
        return load(self.data, into=self.network)

    def to_arviz(self, **options: Any) -> "Trees":
        """Draws of the mixture given the weights and of the network; see ``sws.to_arviz``."""
        import pyro_sws  # not from its module, which imports this one

        return pyro_sws.to_arviz(self, **options)

    def with_prior(self, prior: Prior | Sequence[Rule], **changes: Any) -> "Run":
        """The same call of ``compress`` under another prior, starting at the fitted weights.

        The fitted weights are the posterior's, before snapping; "before" in the report is still the
        network as given. ``changes`` are keywords of ``compress``; everything else stays as it was:
        data, tau, epochs, rates and all. Tensors that the new prior does not cover are stored as
        the network has them. Raises TypeError for a change that ``compress`` does not know, and
        what ``compress`` raises.
        """
        import pyro_sws  # not from its module, which imports this one

        if isinstance(self.plan.network, Unnamed):
            raise ValueError(
                f"the network, {self.plan.network.what}, was given in Python and is not in the "
                "folder. Go on with yours: compress(net, train, prior=..., "
                "start=run.posterior.weights), at the settings of run.plan"
            )
        data = given_data(self.plan)
        arguments = replace(self.plan, data=data).arguments() | {"train": data.train}
        known = sorted({*arguments, "epochs", "tau", "ranks", "callback"} - {"prior"})
        for name in changes:
            if name not in known:
                raise TypeError(
                    f"unknown change {name!r}{nearest(name, known)}; known are {', '.join(known)}"
                )
        if self.plan.makes_files and {"epochs", "tau", "refinement", "guide"} & changes.keys():
            for of_a_walk in ("fit", "tolerance", "budget"):
                del arguments[of_a_walk]
        packing = changes.get("packing", self.plan.packing)
        instance("packing", packing, Packing)
        start = fitted_start(
            self.network,
            prior,
            self.posterior.weights,
            folded=self.plan.packing.fold,
            fold=packing.fold,
        )
        whole = {**arguments, "prior": prior, "start": start, **changes}
        return pyro_sws.compress(self.network, **whole)
