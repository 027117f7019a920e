"""Sources: the functions and classes that a recipe names, in a Python file or a module."""

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from pyro_sws.suggestions import nearest


@dataclass(frozen=True, eq=False)
class Source:
    """A function or class in a Python file ("lenet.py:lenet_300_100") or module, its arguments.

    A file's path is relative to ``folder``; a module is looked for there, then in the current
    directory, then where Python looks. Calling, checking or looking at the function runs the
    code in that file, and in files beside it that it imports ("from .layers import Block"); making
    the value runs nothing. Two are equal if they mean the same, even from
    two folders. A Source read in a run folder, which the user did not name, is not ``trusted``:
    running it raises ValueError.
    """

    path: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    folder: Path = Path()
    trusted: bool = field(default=True, compare=False, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Source):
            return NotImplemented
        return self._home == other._home and dict(self.arguments) == dict(other.arguments)

    def __hash__(self) -> int:  # without the arguments: lists and tables have no hash
        return hash(self._home)

    def __call__(self, **more: object) -> Any:
        """Call it, with more arguments."""
        self.check(**more)
        return self.function()(**{**self.arguments, **more})

    def bound(self) -> Callable:
        """The function with these arguments filled in. Raises ValueError for no function."""
        return partial(self.function(), **self.arguments)

    def check(self, **more: object) -> None:
        """Raise ValueError where it is not there, or does not take these arguments."""
        signature = inspect.signature(self.function())
        try:
            signature.bind(**{**self.arguments, **more})
        except TypeError as error:
            takes = ", ".join(signature.parameters) or "nothing"
            raise ValueError(f"{self.path}: {error}; it takes {takes}") from None

    def function(self) -> Callable:
        """The function itself. Raises ValueError where there is none, or it may not be run."""
        if not self.trusted:
            raise ValueError(
                f"{self.path} is code that a run folder names; it is run only for a recipe that "
                "you name yourself, such as the folder's recipe.toml"
            )
        module = _module(self.where, self.folder)
        function = getattr(module, self.name, None)
        if not callable(function):
            hint = f"; that is of type {type(function).__name__}"
            if not hasattr(module, self.name):
                known = [n for n, value in vars(module).items() if callable(value)]
                hint = nearest(self.name, known) or "; look at the name after the ':'"
            raise ValueError(f"{self.where} has no function or class {self.name!r}{hint}")
        return function

    @property
    def where(self) -> str:
        """The file or module that it is in."""
        return self.path.rpartition(":")[0]

    @property
    def name(self) -> str:
        """The function's name."""
        return self.path.rpartition(":")[2]

    def path_from(self, folder: Path) -> str:
        """The path for a recipe in another folder."""
        home = relative(self.where, self.folder, folder) if self._is_file else self.where
        return f"{home}:{self.name}"

    def table(self, folder: Path) -> dict[str, object]:
        """What a recipe in ``folder`` says of it."""
        return {"source": self.path_from(folder), **self.arguments}

    @property
    def _is_file(self) -> bool:
        return self.where.endswith(".py")

    @property
    def _home(self) -> tuple[str, str]:
        """The whole path of its file, or its module, and its name: the same from every folder."""
        home = str((self.folder / self.where).resolve()) if self._is_file else self.where
        return home, self.name


def path_of(value: object, folder: Path) -> str:
    """What names a function or class in a recipe in ``folder``: "file.py:name", "module:name".

    Raises ValueError for what no recipe can find again: a lambda, or a function inside another.
    """
    home, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if home is None or not name.isidentifier():
        home, name = _find_home(value)
    if home == "__main__":
        file = getattr(sys.modules["__main__"], "__file__", None)
        home = file and os.path.abspath(file)
    if home is None:
        raise ValueError(
            f"{value!r} has no name that a recipe can hold; "
            "put it in a file, at its top level, such as 'own.py:name'"
        )
    # A module from a file is named by its path, and by what follows it a neighbour that it imports;
    # see _file_module.
    file, neighbour, dotted = home.rpartition(".py.")
    if neighbour:
        home = f"{Path(file).parent.joinpath(*dotted.split('.'))}.py"
    return f"{relative(home, Path(), folder) if home.endswith('.py') else home}:{name}"


def relative(path: str, old: Path, new: Path) -> str:
    """A path of one folder, as another folder has it."""
    return Path(os.path.relpath((old / path).resolve(), new)).as_posix()


def _find_home(value: object) -> tuple[str | None, str]:
    """Module and name of a value that has no ``__module__`` or name of its own."""
    own = sys.modules.get(getattr(value, "__module__", None) or "")
    files = [module for path, module in sys.modules.items() if path.endswith(".py")]
    for module in ([own] if own else []) + files:
        for name, member in vars(module).items():
            if member is value:
                return module.__name__, name
    return None, ""


def _module(where: str, folder: Path) -> ModuleType:
    if not where.endswith(".py"):
        with _looked_for_in(folder.resolve(), Path.cwd()) as places:
            _check_not_another(where.partition(".")[0], places)
            try:
                return importlib.import_module(where)
            except ModuleNotFoundError as error:
                if error.name != where and not where.startswith(f"{error.name}."):
                    raise  # the module is there; what it imports is not
                raise ValueError(
                    f"no module {where!r} in {' or '.join(places)}, nor where Python looks; write "
                    "'file.py:name' for a file"
                ) from None
    path = (folder / where).resolve()
    if not path.is_file():
        raise ValueError(f"no file {path}; paths in a recipe are relative to it")
    return _file_module(path, path.stat().st_mtime_ns)


@contextmanager
def _looked_for_in(*folders: Path) -> Iterator[list[str]]:
    """Inside, Python looks for modules in these folders first; afterwards where it did before."""
    before, places = list(sys.path), list(dict.fromkeys(map(str, folders)))
    sys.path[:0] = places
    importlib.invalidate_caches()  # a file may be newer than what the finders remember
    try:
        yield places
    finally:
        # What the module itself has added stays.
        sys.path[:] = [*before, *(p for p in sys.path if p not in before and p not in places)]


def _check_not_another(name: str, places: list[str]) -> None:
    """Raise ValueError where a module of this name was imported, and a place has another one."""
    there, own = sys.modules.get(name), PathFinder.find_spec(name, places)
    imported = getattr(there, "__file__", None)
    if own is None or own.origin is None or imported is None:
        return
    if Path(own.origin).resolve() != Path(imported).resolve():
        raise ValueError(
            f"a module {name!r} was imported already, from {imported}, and {own.origin} is another "
            "of that name; give one of them a name of its own, or write 'file.py:name'"
        )


@lru_cache
def _file_module(path: Path, changed: int) -> ModuleType:
    """The module in a file, run once for each state of the file; so are neighbours it imports."""
    # Its path is its name: files of one stem do not meet, and a class can say where it is from. As
    # a package whose modules lie beside it, it can write "from .neighbour import function".
    spec = importlib.util.spec_from_file_location(
        str(path), path, submodule_search_locations=[str(path.parent)]
    )
    assert spec is not None and spec.loader is not None
    for name in [name for name in sys.modules if name.startswith(f"{path}.")]:
        del sys.modules[name]
    module = importlib.util.module_from_spec(spec)
    sys.modules[str(path)] = module  # dataclasses look their annotations' names up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[str(path)]
        raise
    return module
