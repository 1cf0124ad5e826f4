"""The rules of the house, read from the code itself."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
FLOORS = {
    "errors": 0,
    "arrays": 0,
    "machine": 0,
    "files": 1,
    "digests": 1,
    "table": 1,
    "manifest": 2,
    "predictions": 2,
    "settings": 3,
    "study": 4,
    "metrics": 4,
    "losses": 4,
    "models": 4,
    "transforms": 4,
    "read": 4,
    "lattice": 5,
    "scan": 6,
    "split": 5,
    "survey": 7,
    "slides": 8,
    "simulate": 5,
    "decide": 5,
    "audit": 6,
    "combine": 6,
    "train": 6,
    "predict": 7,
    "targets": 7,
    "task": 8,
    "launch": 8,
    "doctor": 9,
    "members": 9,
    "ship": 9,
    "stages": 10,
    "options": 10,
    "grades": 11,
    "labels": 11,
    "recipes": 12,
    "cli": 13,
    "__main__": 14,
}
SHELVES = {"read", "transforms", "models", "losses", "metrics"}
WITHOUT_TORCH = {
    *(
        "errors",
        "arrays",
        "files",
        "digests",
        "table",
        "manifest",
        "predictions",
        "settings",
        "study",
    ),
    *("metrics", "split", "audit", "decide", "combine", "targets", "task", "stages"),
}
HEAVY_INSIDE_FUNCTIONS = {"polars", "scipy", "sklearn", "timm", "torch", "pydantic", "ruamel"}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports(path: Path, *, top_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_only else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def ours(path: Path) -> set[str]:
    known = modules()
    return {name for name in imports(path) if name in known and name != "foveal"}


def test_imports_point_down() -> None:
    for module, path in modules().items():
        if room(module) and path.name != "__init__.py":
            for other in ours(path):
                same = room(other) == room(module)
                assert same or FLOORS[room(other)] < FLOORS[room(module)], (module, other)


def test_no_circles_even_inside_functions() -> None:
    graph = {m: ours(p) - {m} for m, p in modules().items() if p.name != "__init__.py"}
    for start in graph:
        seen, waiting = set(), list(graph[start])
        while waiting:
            one = waiting.pop()
            if one not in seen:
                seen.add(one)
                waiting += graph.get(one, ())
        assert start not in seen, f"{start} imports itself in the end"


def test_shelves_do_not_know_each_other() -> None:
    for module, path in modules().items():
        if room(module) in SHELVES and path.name != "__init__.py":
            others = {room(m) for m in ours(path)} - {room(module)}
            assert not others & SHELVES, (module, others)


def test_train_and_predict_take_callables() -> None:
    for module, path in modules().items():
        if room(module) in {"train", "predict"}:
            known = {room(m) for m in ours(path)}
            assert not known & {"losses", "models", "recipes", "task", "transforms"}, module


def test_only_recipes_name_recipes() -> None:
    for module, path in modules().items():
        assert not any(m.startswith("foveal.recipes") for m in ours(path)), module


def test_decisions_and_stages_load_no_torch() -> None:
    for module, path in modules().items():
        if room(module) in WITHOUT_TORCH:
            direct = {name.split(".")[0] for name in imports(path, top_only=True)}
            assert "torch" not in direct, module
            assert not {room(m) for m in ours(path)} & {"models", "losses", "transforms"}, module


def test_decisions_know_nothing_of_pictures() -> None:
    pictures = {"read", "transforms", "models", "losses", "train", "predict", "members"}
    for module, path in modules().items():
        if room(module) in {"metrics", "split", "audit", "decide", "combine"}:
            assert not {name.split(".")[0] for name in imports(path)} & {"torch", "timm"}, module
            assert not {room(m) for m in ours(path)} & pictures, module


def test_nothing_of_ours_comes_through_a_face() -> None:
    faces = {module for module, path in modules().items() if path.name == "__init__.py"}
    for module, path in modules().items():
        if module in faces or module == "foveal.cli.verbs":  # `stages` is what a user calls
            continue
        for name in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(name, ast.ImportFrom) and name.module in faces - {"foveal"}:
                parts = {f"{name.module}.{a.name}" for a in name.names}
                assert parts <= set(modules()), (module, name.module)


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    for module, path in modules().items():
        if room(module) in {"cli", "stages", "manifest", "study", "task", "launch", "decide"}:
            top = {name.split(".")[0] for name in imports(path, top_only=True)}
            assert not top & HEAVY_INSIDE_FUNCTIONS, (module, top & HEAVY_INSIDE_FUNCTIONS)


def test_nobody_reads_the_environment_or_keeps_globals() -> None:
    for module, path in modules().items():
        text = path.read_text(encoding="utf-8")
        assert "os.environ" not in text, module
        assert "getenv" not in text, module
        assert "import pickle" not in text, module
        assert not any(isinstance(n, ast.Global) for n in ast.walk(ast.parse(text))), module


def test_faces_only_hand_names_on() -> None:
    for module, path in modules().items():
        if path.name != "__init__.py" or module == "foveal":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        handed = [a.asname for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names]
        listed = [
            ast.literal_eval(n.value)
            for n in tree.body
            if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "__all__"
        ]
        assert sorted(handed) == (listed[0] if listed else []), module
        kinds = {type(n) for n in tree.body} - {ast.Expr, ast.ImportFrom, ast.Assign}
        assert not kinds, (module, kinds)


def test_public_names_resolve() -> None:
    import foveal

    for name in foveal.__all__:
        assert getattr(foveal, name) is not None
    with pytest.raises(AttributeError):
        _ = foveal.nonsense


@pytest.mark.parametrize("module", ["foveal", "foveal.cli", "foveal.stages", "foveal.decide"])
def test_importing_brings_no_torch(module: str) -> None:
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
