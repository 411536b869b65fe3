"""Rules of the code that no linter of ours knows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "metaclaw"
FILES = [path for path in sorted(SOURCE.rglob("*.py")) if not path.name.endswith("_pb2.py")]

# A blind `except` belongs at three boundaries only: a job, a background task, the recording path. Each file that has
# such a boundary, and how many clauses it takes. A new one is argued here.
BOUNDARIES = {
    "clouds/programs/serving.py": 1,
    "gateway/recording_path.py": 2,
    "journal/backlog.py": 1,
    "journal/group_commit.py": 1,
    "learner/backends/tinker_sdk.py": 1,
    "learner/jobs.py": 1,
    "learner/judges/verifier.py": 1,
    "learner/threads.py": 1,
    "training/api/background.py": 1,
    "training/api/jobs.py": 1,
    "training/engine_loop.py": 1,
    "training/samplers/adapter_loading.py": 1,
    "training/samplers/answers.py": 2,
    "training/samplers/decoder.py": 1,
    "training/samplers/process.py": 1,
    "training/samplers/vllm/process.py": 1,
    "training/worker.py": 1,
}
# The loaders of optional packages, the judge's entry point, the commands. Elsewhere an import inside a function hides
# what a module needs.
LOADERS = {
    "clouds/programs/tinker_family.py",  # in another interpreter, after its environment is settled
    "clouds/programs/weaver_sdk.py",
    "cli",
    "extras.py",
    "learner/extras.py",
    "learner/judges/verifier.py",
    "rendering/tokenizer.py",
    "training/api/hub.py",
    "training/worker.py",
}
# What they load reads its settings there; it is told once, before it is used.
CHANGES_ITS_ENVIRONMENT = {
    "clouds/programs/tinker_family.py",
    "clouds/programs/weaver_sdk.py",
    "learner/extras.py",
    "learner/tracking/wandb_runs.py",
}
_LONGEST_NAME = 120  # of a text that names something: "package.module:function"
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_is_short_and_says_what_it_owns(path: Path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 500, "split it by reason to change"
    assert not text.strip() or ast.get_docstring(ast.parse(text)), "a module says what it owns"
    assert path.stem not in VAGUE
    assert path.parent.name not in VAGUE


def test_blind_excepts_are_at_the_known_boundaries_only():
    """PITFALLS B6: 136 of them, at least 15 followed by `pass`."""
    found = {name_of(path): sum(map(_is_blind, ast.walk(ast.parse(path.read_text())))) for path in FILES}
    assert {name: number for name, number in found.items() if number} == BOUNDARIES


def test_nothing_imports_inside_functions_but_the_loaders_and_the_commands():
    """PITFALLS, HEAD lost lazy imports: an optional package that is missing must have one place that says so."""
    found = {name_of(path) for path in FILES if any(map(_loads, ast.walk(ast.parse(path.read_text()))))}
    assert {name for name in found if name.split("/")[0] not in LOADERS and name not in LOADERS} == set()


def test_what_a_module_defines_is_used_by_the_program():
    """PITFALLS B6: whole modules there are used by nothing but their tests."""
    trees = {name_of(path): ast.parse(path.read_text()) for path in FILES}
    entered = re.findall(r"\w+", (ROOT / "pyproject.toml").read_text())
    used = {*entered, *(name for tree in trees.values() for node in ast.walk(tree) for name in _named_by(node))}
    unused = {f"{file}: {name}" for file, tree in trees.items() for name in _defined_by(tree) if name not in used}
    assert unused == set()


def _named_by(node: ast.AST) -> list[str]:
    """The names that ``node`` uses; what is found by a text, or is an annotation in quotes, is used as well."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [node.attr]
    if isinstance(node, ast.ImportFrom):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.findall(r"\w+", node.value) if len(node.value) < _LONGEST_NAME else []
    return []


def _defined_by(tree: ast.Module) -> list[str]:
    names = list[str]()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            # Who has a decorator may be known to that alone.
            if all("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
                names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return [name for name in names if not name.startswith("__")]


def test_nothing_is_pickled_and_no_model_brings_code():
    """PITFALLS S10: a tokenizer was loaded with remote code trusted."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not {"pickle", "dill", "joblib"} & {alias.name for alias in node.names}, name_of(path)
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                assert isinstance(node.value, ast.Constant)
                assert node.value.value is False, name_of(path)
            if isinstance(node, ast.keyword) and node.arg == "shell":
                raise AssertionError(f"{name_of(path)} runs a shell")


def test_a_key_that_was_presented_is_compared_in_constant_time():
    """PITFALLS S11: how long `==` takes says how much of a key was guessed."""
    for name in ("http/auth.py", "gateway/access.py", "training/api/keys.py", "training/api/signing.py"):
        nodes = list(ast.walk(ast.parse((SOURCE / name).read_text())))
        names = [part.attr for part in nodes if isinstance(part, ast.Attribute)]
        assert "compare_digest" in names, name
        for node in nodes:
            if isinstance(node, ast.Compare) and any(isinstance(how, ast.Eq | ast.NotEq) for how in node.ops):
                named = {_spelled(part) for part in ast.walk(node) if isinstance(part, ast.Attribute | ast.Name)}
                assert not named & {"presented", "expected", "digest", "wanted", "signature"}, f"{name}:{node.lineno}"


def test_nobody_changes_the_environment_of_a_running_process():
    """KNOWLEDGE 6: devices switched by os.environ at run time, under the feet of every other model."""
    found = {name_of(path) for path in FILES if any(map(_changes_environment, ast.walk(ast.parse(path.read_text()))))}
    assert found == CHANGES_ITS_ENVIRONMENT


def _changes_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        return _is_environ(node.value)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in ("putenv", "unsetenv"):
            return True
        return node.func.attr in ("update", "setdefault", "pop", "popitem", "clear") and _is_environ(node.func.value)
    return isinstance(node, ast.AugAssign) and _is_environ(node.target)


def _is_environ(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute | ast.Name) and _spelled(node) in ("environ", "environb")


def _is_blind(node: ast.AST) -> bool:
    if not isinstance(node, ast.ExceptHandler):
        return False
    if node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")):
        # `except BaseException: ...; raise` undoes something and lets the error through.
        return not isinstance(node.body[-1], ast.Raise) or node.body[-1].exc is not None
    return False


def _loads(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    inside = list(ast.walk(node))
    imports = any(isinstance(part, ast.Import | ast.ImportFrom) for part in inside)
    calls = any(isinstance(part, ast.Attribute | ast.Name) and _spelled(part) == "import_module" for part in inside)
    return imports or calls


def _spelled(node: ast.Attribute | ast.Name) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id
