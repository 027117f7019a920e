"""The zones and their borders: who may import whom, held by the source itself."""

import ast
import inspect
import json
import re
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
TREES = {module: ast.parse(path.read_text()) for module, path in MODULES.items()}
# Values flow from left to right: a zone imports itself and what stands here.
MAY_IMPORT = {
    "codec": set(),
    "bounds": set(),
    "weights": {"codec"},
    "rewriting": {"weights", "codec"},
    "inference": {"weights"},
    "assess": {"inference", "rewriting", "weights", "codec", "bounds"},
}
# Above the zones: they may import all of these, and each other without a cycle of modules.
DRIVERS = {
    "compression", "recipes", "runs", "tuning", "diagnosis", "certification",
    "cli", "cli_tables", "__main__",
}  # fmt: skip
LEAVES = {"files", "suggestions"}  # of a few lines, that anything may import
FORBIDDEN = {
    "codec": {"torch", "pyro", "scipy", "arviz", "matplotlib"},
    "bounds": {"torch", "pyro", "arviz", "matplotlib"},
    "weights": {"pyro", "arviz", "matplotlib"},
    "rewriting": {"pyro", "arviz", "matplotlib"},
    "inference": {"arviz", "matplotlib"},
}


def imports(module):
    """Every module that a file imports, at its top or inside its functions."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute here"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(module):
    return {name for name in imports(module) if name.split(".")[0] == "pyro_sws"}


def place_of(module):
    """The zone, driver or leaf that a module is in; None for the package itself."""
    return module.split(".")[1] if "." in module else None


def test_every_module_is_in_a_zone_a_driver_or_a_leaf_that_is_named_here():
    known = {None, *MAY_IMPORT, *DRIVERS, *LEAVES}
    assert not [module for module in MODULES if place_of(module) not in known]
    assert {*MAY_IMPORT, *DRIVERS, *LEAVES} <= {place_of(module) for module in MODULES}


def test_at_most_four_modules_lie_at_the_top():
    assert len([path for path in ROOT.glob("*.py") if not path.name.startswith("__")]) <= 4


def test_a_zone_imports_only_what_lies_before_it():
    offenders = [
        f"{module} imports {name}"
        for module in MODULES
        if (zone := place_of(module)) in MAY_IMPORT
        for name in own(module)
        if place_of(name) not in {None, zone, *MAY_IMPORT[zone], *LEAVES}
    ]
    assert not offenders


def test_a_leaf_imports_nothing_of_the_package():
    assert not [module for module in MODULES if place_of(module) in LEAVES and own(module)]


def test_a_zone_leans_only_on_its_own_libraries():
    offenders = {
        module: libraries & FORBIDDEN[zone]
        for module in MODULES
        if (zone := place_of(module)) in FORBIDDEN
        for libraries in [{name.split(".")[0] for name in imports(module)}]
        if libraries & FORBIDDEN[zone]
    }
    assert not offenders


def test_nothing_imports_the_models_or_the_scripts():
    outside = {"models", "scripts", "tests"}
    roots = {module: {name.split(".")[0] for name in imports(module)} for module in MODULES}
    assert not [module for module, found in roots.items() if found & outside]


def test_only_the_command_line_prints():
    printing = {
        module
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    }
    assert {place_of(module) for module in printing} <= {"cli"}


def test_no_two_modules_import_each_other():
    graph = {m: {n for n in own(m) if n in MODULES} for m in MODULES}
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
    docs = {module: ast.get_docstring(tree) or "" for module, tree in TREES.items()}
    assert not [m for m, doc in docs.items() if not doc.partition("\n")[0].endswith((".", ":"))]


def test_no_module_at_the_top_bears_the_name_of_a_public_name():
    # Importing it would put the module in that name's place.
    assert not {place_of(module) for module in MODULES} & set(pyro_sws.__all__)


@pytest.mark.parametrize("name", pyro_sws.__all__)
def test_a_public_name_is_what_its_spelling_says(name):
    value = getattr(pyro_sws, name)
    if name.isupper():
        assert isinstance(value, dict)  # a table to extend
    elif name.islower():
        assert inspect.isfunction(value) and value.__name__ == name
    else:
        assert isinstance(value, type) and value.__name__ == name


def test_every_public_name_is_typed_and_no_other_is():
    typed = re.findall(r"import (\w+) as (\w+)", (ROOT / "__init__.pyi").read_text())
    assert sorted(name for name, _ in typed) == sorted(pyro_sws.__all__)
    assert all(name == exported for name, exported in typed)
    assert set(pyro_sws.__all__) <= set(dir(pyro_sws))


# A process does its lines in this order, so that what an earlier one loads counts for a later one.
LIGHT = [
    {
        "import pyro_sws.codec.container": ["torch", "pyro", "scipy", "matplotlib"],
        "pyro_sws.decode": ["torch", "pyro", "matplotlib"],
        "import pyro_sws.cli": ["torch", "pyro", "matplotlib"],
        "import pyro_sws.bounds.occam, pyro_sws.bounds.rates": ["torch", "pyro"],
        "pyro_sws.load": ["pyro", "matplotlib"],
        "pyro_sws.search": ["optuna", "sklearn"],
    },
    {
        "import pyro_sws.assess.draws.inference_data": ["torch", "pyro", "arviz"],
        "import pyro_sws.assess.draws.scalar_draws": ["torch", "pyro", "arviz"],
        "import pyro_sws.assess.draws.prior_sensitivity": ["torch", "pyro"],
        "import pyro_sws.assess.figures.draws": ["torch", "pyro"],
        "import pyro_sws.assess.figures.simulation_based_calibration": ["torch", "pyro"],
    },
]


@pytest.fixture(scope="module")
def loaded():
    """By line: the modules that were there after it."""
    return {line: there for lines in LIGHT for line, there in loaded_after(list(lines)).items()}


def loaded_after(lines):
    program = (
        "import json, sys\n"
        "found = {}\n"
        f"for line in {lines}:\n"
        "    exec(line)\n"
        "    found[line] = list(sys.modules)\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.integration
@pytest.mark.parametrize(("line", "absent"), [item for lines in LIGHT for item in lines.items()])
def test_light_parts_stay_light_when_run(loaded, line, absent):
    there = set(loaded[line])
    assert "pyro_sws" in there and not there & set(absent)
