"""Trees for ArviZ by name, which know what is not among them and why."""

from collections.abc import Mapping
from typing import Any, NoReturn


class Trees(dict[str, Any]):
    """Name -> tree: "mixture", or of several groups "mixture.<group>" each; and "network".

    ``without`` says of each tree that is missing why it is; so does the KeyError for its name.
    """

    def __init__(
        self, trees: Mapping[str, Any], mixtures: Mapping[str, str], without: Mapping[str, str]
    ):
        super().__init__(trees)
        self.without = dict(without)  # name -> reason
        self._names = dict(mixtures)  # group -> name

    @property
    def mixtures(self) -> dict[str, Any]:
        """The mixtures by their groups' names, however many there are."""
        return {group: self[name] for group, name in self._names.items() if name in self}

    def __missing__(self, name: str) -> NoReturn:
        if name in self.without:
            raise KeyError(f"no tree {name!r}: {self.without[name]}")
        raise KeyError(f"no tree {name!r}; there are {', '.join(self) or 'none'}")
