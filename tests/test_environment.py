"""pyproject.toml, environment.yml, the lock file and the imports tell the same story."""

import ast
import re
import sys

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rattler import MatchSpec

from hw3utils import paths

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = paths.project_root()
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib", "pypandoc": "pypandoc-binary"}
IMPORT_NAMES = {
    "rattler": "py-rattler",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "pypandoc": "pypandoc-binary",
}
COME_WITH_ANOTHER = {"distributed", "jupyter_client", "nbclient", "packaging", "pillow", "psutil"}


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(lines):
    named = {canonicalize_name(found.name): found for found in map(Requirement, lines)}
    return {name: found for name, found in named.items() if name != "hw3utils"}


def declared():
    return requirements(
        project()["dependencies"] + sum(project()["optional-dependencies"].values(), [])
    )


def conda():
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    specs = [re.match(r"  - ([\w-]+)(\S*)(\s+# .+)?$", line) for line in lines]
    return {match[1]: match for match in specs if match}


def test_conda_can_read_every_line():
    """Each is a match specification by conda's own rules; the solve itself is not tested."""
    for name, match in conda().items():
        if name in ("conda-forge", "pip"):
            continue
        spec = MatchSpec(name + match[2])
        assert spec.name.normalized == name
        assert (spec.version is None) == (match[2] == "")


def test_conda_and_pip_ask_for_the_same_ranges():
    pip = declared()
    for name, match in conda().items():
        if name in ("python", "pip", "conda-forge", "distributed", "pandoc"):
            continue
        assert str(pip[CONDA_NAMES.get(name, name)].specifier) == match[2], name
    asked = {CONDA_NAMES.get(name, name) for name in conda()}
    assert set(pip) <= asked, "missing in environment.yml"


def test_every_conda_line_says_what_needs_it():
    for name, match in conda().items():
        if name not in ("pip", "conda-forge"):
            assert match[3], f"{name} has no comment"


def test_the_lock_file_satisfies_the_ranges():
    locked = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line)
            locked.setdefault(requirement.name, []).append(requirement)
    for name, requirement in declared().items():
        assert name in locked, f"{name} is not locked"
        for lock in locked[name]:
            (pin,) = lock.specifier
            assert pin.operator == "==" and requirement.specifier.contains(pin.version), str(lock)


def imported(files):
    """Return the packages outside of this project and the standard library, by pip's names."""
    found = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.partition(".")[0])
    own = {"hw3utils", "benchmarks"} | {path.stem for path in (ROOT / "tests").glob("*.py")}
    outside = found - set(sys.stdlib_module_names) - own - {"tomli", "tomllib", "cog"}
    return {IMPORT_NAMES.get(name, name) for name in outside} - COME_WITH_ANOTHER


def test_every_import_is_declared():
    folders = ("hw3utils", "tests", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert imported(files) <= set(declared()), "imported but not declared"


def test_what_a_notebook_imports_needs_no_extra():
    """On Colab only the base is installed; what runs and converts notebooks is for the doors."""
    doors = FLOORS[-1]
    files = [path for path in (ROOT / "hw3utils").rglob("*.py") if path.stem not in doors]
    assert imported(files) <= set(requirements(project()["dependencies"]))


FLOORS = [
    {"checks", "cluster", "paths", "profiles", "storage", "sources", "sources_transfer", "results"},
    {"data", "models", "schedules", "runs", "architectures", "network_costs", "paper_networks",
     "receptive_field", "boxes", "anchors", "detection", "weak_supervision", "pseudo_labels",
     "teacher", "keras_weights", "pretrained", "datasets", "image_folders", "torchvision_sets",
     "inputs", "precision"},
    {"checkpoints", "evaluation", "gradients", "training", "diagnostics", "linear_classifier"},
    {"sweeps", "backbones", "features", "heads", "transfer", "pretraining", "problem1",
     "problem2", "problem3", "problem3_tables", "problem4", "problem4_answers",
     "problem4_students", "problem4_tables", "rpn_example"},
    {"plots", "report_answers", "tables", "tables_problem2"},
    {"execute", "report", "__main__"},
]  # fmt: skip
FLOOR_OF = {name: number for number, floor in enumerate(FLOORS) for name in floor}


def test_imports_never_point_up_the_floors():
    for path in (ROOT / "hw3utils").rglob("*.py"):
        name = path.relative_to(ROOT / "hw3utils").parts[0].removesuffix(".py")
        if name == "__init__":
            continue
        assert name in FLOOR_OF, f"give {name} a floor, in FLOORS"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hw3utils"):
                parts = node.module.split(".")
                used = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
                for other in used:
                    assert FLOOR_OF[other] <= FLOOR_OF[name], f"{name} imports {other}"


def test_the_ground_floor_does_not_load_torch():
    for name in ("paths", "profiles", "storage", "sources"):
        tree = ast.parse((ROOT / "hw3utils" / f"{name}.py").read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [getattr(node, "module", None) or node.names[0].name]
                assert not any(n.startswith("torch") for n in names), name
