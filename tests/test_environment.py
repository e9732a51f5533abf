"""pyproject.toml, environment.yml, the lock file and the imports tell the same story."""

import ast
import re
import subprocess
import sys

from importlinter.cli import lint_imports
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
    "IPython": "ipython",
    "rattler": "py-rattler",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "importlinter": "import-linter",
    "torch_lr_finder": "torch-lr-finder",
    "pypandoc": "pypandoc-binary",
}
COME_WITH_ANOTHER = {
    "bleach", "distributed", "jupyter_client", "mistune", "nbclient", "packaging", "pillow",
    "psutil",
}  # fmt: skip


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(lines):
    named = {canonicalize_name(found.name): found for found in map(Requirement, lines)}
    return {name: found for name, found in named.items() if name != "hw3utils"}


def declared(benchmark=False):
    """Return what is asked for; the benchmark's peers are neither locked nor in conda's file."""
    extras = project()["optional-dependencies"]
    wanted = [lines for name, lines in extras.items() if benchmark or name != "benchmark"]
    return requirements(project()["dependencies"] + sum(wanted, []))


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


def test_the_citation_names_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {project()['version']}\n" in citation


def imported(files):
    """Return the packages outside of this project and the standard library, by pip's names."""
    found = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.partition(".")[0])
    own = {"hw3utils", "benchmarks", "course"} | {
        path.stem for path in (ROOT / "tests").rglob("*.py")
    }
    outside = found - set(sys.stdlib_module_names) - own - {"tomli", "tomllib", "cog"}
    return {IMPORT_NAMES.get(name, name) for name in outside} - COME_WITH_ANOTHER


def test_every_import_is_declared():
    folders = ("hw3utils", "course", "tests", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert imported(files) <= set(declared(benchmark=True)), "imported but not declared"


def test_only_the_benchmarks_need_its_peers():
    peers = set(declared(benchmark=True)) - set(declared())
    files = [path for folder in ("hw3utils", "course") for path in (ROOT / folder).rglob("*.py")]
    assert peers and not imported(files) & peers


def test_what_a_notebook_imports_needs_no_extra():
    """On Colab only the base is installed; what runs and converts notebooks is for the doors."""
    doors = {"report", "__main__.py"}
    inside = ROOT / "hw3utils"
    files = [
        path for path in inside.rglob("*.py") if path.relative_to(inside).parts[0] not in doors
    ]
    assert imported(files) <= set(requirements(project()["dependencies"]))


def test_imports_point_down_and_problems_do_not_know_each_other():
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


def test_the_hall_does_not_load_torch():
    program = "import sys; from hw3utils import {}; sys.exit('torch' in sys.modules)"
    names = "checks, files, paths, settings, style, text"
    assert subprocess.run([sys.executable, "-c", program.format(names)]).returncode == 0
