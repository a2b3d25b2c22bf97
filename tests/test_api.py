"""What others may call: each public name has its words and its types, and means one thing everywhere.

Public is what `__all__` lists; a cell `# | exporti` of a notebook exports what only its own room uses.
"""

import ast
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

import mambamuse

PACKAGE = Path(mambamuse.__file__).parent
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name not in ("_modidx.py", "__init__.py")]


def public(path):
    "`(name, definition)` of the public functions and classes of a module."
    tree = ast.parse(path.read_text())
    lists = [
        n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"
    ]
    names = {name for found in lists for name in ast.literal_eval(found)}
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [(n.name, n) for n in tree.body if isinstance(n, kinds) and n.name in names]


def callables(name, definition):
    "The function itself, or the public methods of a class: `(name, function, first argument to look at)`."
    if isinstance(definition, ast.FunctionDef):
        return [(name, definition, 0)]
    found = []
    for n in definition.body:
        if isinstance(n, ast.FunctionDef) and (n.name == "__init__" or not n.name.startswith("_")):
            static = any(ast.unparse(d) == "staticmethod" for d in n.decorator_list)
            found.append((f"{name}.{n.name}", n, 0 if static else 1))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_public_functions_have_words_and_types(path):
    missing = []
    for name, definition in public(path):
        if not ast.get_docstring(definition):
            missing.append(f"{name}: no docstring")
        for whole, f, first in callables(name, definition):
            if not ast.get_docstring(f) and f.name != "__init__":
                missing.append(f"{whole}: no docstring")
            arguments = [*f.args.posonlyargs, *f.args.args][first:] + f.args.kwonlyargs
            missing += [f"{whole}: {a.arg} has no type" for a in arguments if a.annotation is None]
            if f.returns is None and f.name != "__init__":
                missing.append(f"{whole}: no type of what it returns")
    assert not missing


def test_a_public_name_means_one_thing():
    count = Counter(name for path in FILES for name, _ in public(path))
    assert count and not [name for name, n in count.items() if n > 1]


def test_what_the_face_offers_is_there():
    assert {"InputError", "MambaMuse", "Stream", "Style", "transfer", "selective_scan"} <= set(
        mambamuse.__all__
    )
    for name in mambamuse.__all__:
        found = getattr(mambamuse, name)
        home = import_module(found.__module__) if hasattr(found, "__module__") else mambamuse
        assert name in home.__all__, name


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").exists()
