# SPDX-License-Identifier: Apache-2.0
"""The rules of the structure: directions of import, sizes, documentation, closed unions."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("hw", "mixq_jax", "experiments")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60
# What each package may import besides the standard library.
ALLOWED = {
    "hw": {"hw", "numpy", "scipy"},
    "mixq_jax": {"mixq_jax", "hw", "numpy", "jax", "flax", "optax", "orbax", "jaxtyping", "PIL"},
    "experiments": {
        *("experiments", "mixq_jax", "hw", "numpy", "jax", "jaxtyping"),
        *("tyro", "rich", "matplotlib", "PIL"),
    },
}
# What one file alone may import: libraries of optional extras, and what takes long to load.
ALONE = {
    "experiments/bench_torch.py": {"torch"},
    "experiments/synth_packing.py": {"pyosys"},
    "hw/packing/heatmap.py": {"matplotlib"},
    "hw/packing/smt.py": {"z3"},
}
COMMANDS = ("hw/__main__.py",)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add(node.module)
            assert all(alias.name != "*" for alias in node.names), "no star imports"
    return found


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_imports_flow_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    tops = {name.split(".")[0] for name in imports(ast.parse(path.read_text()))}
    own = ALLOWED[package] | ALONE.get(relative(path), set())
    foreign = tops - own - set(sys.stdlib_module_names)
    assert not foreign, f"{relative(path)} imports {foreign}"


def test_there_are_no_import_cycles():
    modules = {relative(p)[:-3].replace("/", ".").removesuffix(".__init__"): p for p in SOURCES}
    edges = {name: imported_modules(path, set(modules)) for name, path in modules.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]):
        assert name not in trail, f"import cycle: {' -> '.join((*trail, name))}"
        if name not in done:
            for other in sorted(edges[name]):
                visit(other, (*trail, name))
            done.add(name)

    for name in sorted(modules):
        visit(name, ())


def imported_modules(path: Path, modules: set[str]) -> set[str]:
    """Modules of ours that `path` imports when it is loaded (a submodule, not its package)."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & modules if names <= modules else {node.module, *names}
    return found & modules


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_sizes(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES, f"{relative(path)}: split by concept"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{relative(path)}: {node.name} has {lines} lines"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_documentation(path):
    text = path.read_text()
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    tree = ast.parse(text)
    if path.name != "__init__.py":
        assert ast.get_docstring(tree), f"{relative(path)} has no docstring"
    for node in tree.body:
        public = isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        if public:
            assert ast.get_docstring(node), f"{relative(path)}: {node.name} has no docstring"


LIBRARIES = [
    path for path in SOURCES if path.parent.name != "experiments" and relative(path) not in COMMANDS
]


@pytest.mark.parametrize("path", LIBRARIES, ids=relative)
def test_libraries_do_not_print_or_exit(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "exit", "breakpoint"), relative(path)
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in ("sys.exit", "os.environ"), relative(path)


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout.strip()


def test_hw_never_imports_jax():
    names = ", ".join(
        relative(p)[:-3].replace("/", ".").removesuffix(".__init__")
        for p in SOURCES
        if p.parts[len(ROOT.parts)] == "hw"
    )
    assert run_python(f"import {names}, sys; print('jax' in sys.modules)") == "False"


def test_help_is_light():
    code = (
        "import sys, contextlib, io\n"
        "from experiments.command_line import main\n"
        "from experiments import cifar, dacsdc\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    for module in (cifar, dacsdc):\n"
        "        try: main(module.PROGRAM, ['--help'])\n"
        "        except SystemExit: pass\n"
        "print([m for m in ('jax', 'matplotlib', 'numpy', 'flax') if m in sys.modules])"
    )
    assert run_python(code) == "[]"


def test_every_backend_handles_every_op():
    """Each backend's `match` over graph nodes names every op of the closed union."""
    from hw.ir import OPS

    for path in ("hw/ir_verify.py", "hw/execute.py", "mixq_jax/integer.py"):
        tree = ast.parse((ROOT / path).read_text())
        cases = {
            node.cls.id
            for node in ast.walk(tree)
            if isinstance(node, ast.MatchClass) and isinstance(node.cls, ast.Name)
        }
        assert {op.__name__ for op in OPS} <= cases, path


def test_normative_text_lists_every_op():
    from hw.ir import OPS, VERSION

    text = (ROOT / "docs/IR.md").read_text()
    assert f"VERSION {VERSION}." in text
    for op in OPS:
        assert f"| {op.__name__}(" in text, op.__name__
