"""The folder of parts beside a file that is being written: what is in it need not be made again."""

import os
import shutil
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyro_sws.codec.envelope import CRC, NewPart, write_table
from pyro_sws.compression.checkpoints.part import Made, ShrunkTensor, Unit
from pyro_sws.files import read_json, write_whole

BLOCK = 1 << 20  # bytes that are copied or checked at once
PATIENCE = 0.1, 2.0  # seconds between looks for parts of other processes, at first and at most


@dataclass(frozen=True)
class Folder:
    """Parts by their keys, each a .sws file and a .json of its rows; the file is written last."""

    path: Path

    @staticmethod
    def beside(out: Path) -> "Folder":
        return Folder(out.with_name(f".{out.name}.parts"))

    def file(self, unit: Unit) -> Path:
        return self.path / f"{unit.key}.sws"

    def has(self, unit: Unit) -> bool:
        """Whether the part is there, whole."""
        file = self.file(unit)
        return file.exists() and self.notes(unit).exists() and _is_whole(file)

    def notes(self, unit: Unit) -> Path:
        return self.path / f"{unit.key}.json"

    def put(self, unit: Unit, part: Made) -> None:
        """Write a part; its notes are there before it is."""
        write_whole(self.notes(unit), part.notes())
        write_whole(self.file(unit), part.data)

    def drop(self, units: Iterable[Unit]) -> None:
        """Remove parts, so that they are made again."""
        for unit in units:
            self.file(unit).unlink(missing_ok=True)
            self.notes(unit).unlink(missing_ok=True)

    def wait(self, units: Sequence[Unit]) -> None:
        """Until all parts are there, whoever makes them."""
        pause, most = PATIENCE
        while not all(self.file(unit).exists() for unit in units):
            time.sleep(pause)
            pause = min(most, 2 * pause)

    def rows(self, units: Iterable[Unit]) -> list[ShrunkTensor]:
        """Of all tensors, in order."""
        found = []
        for unit in units:
            for row in read_json(self.notes(unit))["rows"]:
                found.append(ShrunkTensor(**(row | {"shape": tuple(row["shape"])})))
        return found

    def assemble(self, units: Sequence[Unit], aliases: Mapping[str, str], out: Path) -> None:
        """Write the table and all parts to ``out``, in the folder first: it goes with all else."""
        parts = [self._new_part(unit) for unit in units]
        table = write_table(parts, self._places(units, aliases))
        with open(self.path / "whole.sws", "wb") as file:
            file.write(table)
            for unit in units:
                with open(self.file(unit), "rb") as part:
                    shutil.copyfileobj(part, file, BLOCK)
        os.replace(self.path / "whole.sws", out)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _new_part(self, unit: Unit) -> NewPart:
        with open(self.file(unit), "rb") as file:
            length = file.seek(-CRC, os.SEEK_END) + CRC
            checksum = file.read()
        return NewPart(length, checksum, read_json(self.notes(unit))["dtypes"])

    def _places(self, units: Sequence[Unit], aliases: Mapping[str, str]) -> dict[str, int]:
        """The place of each further name's tensor, in the order in which parts have tensors."""
        order: list[str] = []
        for unit in units:
            order += read_json(self.notes(unit))["order"]
        place = {name: i for i, name in enumerate(order)}
        return {name: place[first] for name, first in aliases.items()}


def _is_whole(file: Path) -> bool:
    checksum, last = 0, b""
    with open(file, "rb") as opened:
        while block := opened.read(BLOCK):
            known = last + block
            last, rest = known[-CRC:], known[:-CRC]
            checksum = zlib.crc32(rest, checksum)
    return checksum.to_bytes(CRC, "little") == last
