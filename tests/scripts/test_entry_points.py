"""Every script is run by its path, from any folder, and says with --help what it does."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "scripts").rglob("*.py"))
ENTRIES = [path for path in FILES if '__name__ == "__main__"' in path.read_text()]


def named(path: Path) -> str:
    return path.relative_to(ROOT / "scripts").as_posix()


@pytest.mark.parametrize("path", ENTRIES, ids=named)
def test_a_script_says_what_it_does(path, script, monkeypatch, capsys):
    main = script(named(path).removesuffix(".py").replace("/", ".")).main
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {path.name}")


def test_a_script_that_uses_its_neighbours_says_first_where_they_are():
    alone = [
        named(path)
        for path in ENTRIES
        if re.search(r"^from scripts\.", text := path.read_text(), re.MULTILINE)
        and f"Path(__file__).parents[{len(path.relative_to(ROOT).parts) - 1}]" not in text
    ]
    assert not alone


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_script_that_is_named_in_another_is_there(path):
    names = set(re.findall(r"scripts/[\w/]+\.(?:py|c)\b", path.read_text()))
    assert not [name for name in names if not (ROOT / name).exists()]
