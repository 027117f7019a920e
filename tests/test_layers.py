"""The zones and their borders: who may import whom, held by the source itself."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pyro_sws

ROOT = Path(pyro_sws.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
ZONES = ("inference", "weights", "codec", "bounds", "assess")
DRIVERS = {
    "pipeline",
    "pretraining",
    "runs",
    "run_folder",
    "recipe",
    "recipe_schema",
    "families",
    "sources",
    "specs",
    "cli",
    "cli_tables",
    "comparison",
    "diagnosis",
    "diagnosis_folder",
    "examined",
    "spread_file",
    "component_count",
    "description",
    "refinement",
    "differences",
    "dominance",
    "tuning",
    "search_space",
    "search_plan",
    "search_study",
    "search_trials",
    "search_results",
    "search_importances",
}
# Values flow from left to right: a zone imports itself and what stands here.
MAY_IMPORT = {
    "codec": set(),
    "bounds": set(),
    "weights": {"codec"},
    "inference": {"weights"},
    "assess": {"inference", "weights", "codec", "bounds"},
}
FORBIDDEN = {
    "codec": {"torch", "pyro", "scipy", "arviz", "matplotlib"},
    "bounds": {"torch", "pyro", "arviz", "matplotlib"},
    "weights": {"pyro", "arviz", "matplotlib"},
    "inference": {"arviz", "matplotlib"},
}


def imports(path):
    """Every module that a file imports, at its top or inside its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(path):
    return {name for name in imports(path) if name.split(".")[0] == "pyro_sws"}


def zone_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ZONES else None


@pytest.mark.parametrize("module", [m for m in MODULES if zone_of(m)])
def test_a_zone_imports_only_what_lies_before_it(module):
    zone = zone_of(module)
    for name in own(MODULES[module]):
        target = name.split(".")[1] if "." in name else None
        if target in ZONES:
            assert target == zone or target in MAY_IMPORT[zone], f"{module} imports {name}"
        assert target not in DRIVERS, f"{module} imports the driver {name}"


@pytest.mark.parametrize("module", [m for m in MODULES if zone_of(m) in FORBIDDEN])
def test_a_zone_leans_only_on_its_own_libraries(module):
    libraries = {name.split(".")[0] for name in imports(MODULES[module])}
    assert not libraries & FORBIDDEN[zone_of(module)], module


@pytest.mark.parametrize("module", MODULES)
def test_nothing_imports_the_models_or_the_scripts(module):
    roots = {name.split(".")[0] for name in imports(MODULES[module])}
    assert not roots & {"models", "scripts", "tests"}


@pytest.mark.parametrize("module", MODULES)
def test_only_the_command_line_prints(module):
    called = {
        node.func.id
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert module == "pyro_sws.cli" or "print" not in called


def test_no_two_modules_import_each_other():
    graph = {m: {n for n in own(path) if n in MODULES} for m, path in MODULES.items()}
    done: set[str] = set()

    def visit(module, above):
        assert module not in above, " -> ".join([*above, module])
        if module not in done:
            for target in graph[module] - {module}:
                visit(target, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_every_file_says_in_its_first_line_what_it_is():
    for path in MODULES.values():
        doc = ast.get_docstring(ast.parse(path.read_text()))
        assert doc and doc.splitlines()[0].endswith((".", ":")), path


def test_no_module_at_the_top_bears_the_name_of_a_public_function():
    # Importing it would put the module in the function's place.
    tops = {module.split(".")[1] for module in MODULES if module.count(".") == 1}
    assert not tops & set(pyro_sws.__all__)


def test_every_public_name_is_there_and_typed():
    typed = (ROOT / "__init__.pyi").read_text()
    for name in pyro_sws.__all__:
        assert getattr(pyro_sws, name).__name__ if name.islower() else True
        assert f" {name} as {name}" in typed
    assert set(pyro_sws.__all__) <= set(dir(pyro_sws))


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import pyro_sws.codec.container", ["torch", "pyro", "scipy", "matplotlib"]),
        ("import pyro_sws; pyro_sws.decode", ["torch", "pyro", "matplotlib"]),
        ("import pyro_sws; pyro_sws.load", ["pyro", "matplotlib"]),
        ("import pyro_sws.bounds.occam, pyro_sws.bounds.rates", ["torch", "pyro"]),
        ("import pyro_sws.cli", ["torch", "pyro", "matplotlib"]),
        ("import pyro_sws; pyro_sws.search", ["optuna", "sklearn"]),
    ],
)
def test_light_parts_stay_light_when_run(statement, absent):
    check = f"import sys; {statement}; sys.exit(str([m for m in {absent} if m in sys.modules]))"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert found.stderr.strip() == "[]"
