"""The product's style: small functions, flat expressions, docstrings that say what one needs."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("realcompo_core", "nodes", "demo/toy")
FILES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
}
PACKED = "realcompo_core/planner/lexicon.py"  # tables of words, made by comprehensions
LONGEST_FILE = 400
MOST_COMPLEX = 10
MOST_UNFORMATTED = 10

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = Function | ast.ClassDef
Check = Callable[[ast.Module], Iterator[str]]
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BRANCHES = (
    *(ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While),
    *(ast.ExceptHandler, ast.match_case, ast.comprehension),
)
NODE_METHODS = {"define_schema", "execute", "run", "validate_inputs", "fingerprint_inputs"}


def nested_comprehensions(tree: ast.AST) -> Iterator[str]:
    """Yield the place of each comprehension that holds another one."""
    for node in ast.walk(tree):
        if isinstance(node, COMPREHENSIONS):
            inner = [one for one in ast.walk(node) if isinstance(one, COMPREHENSIONS)]
            if len(inner) > 1:
                yield f"line {node.lineno}"


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """Yield what stands in a function, but not what stands in functions defined in it."""
    waiting: list[ast.AST] = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, FUNCTIONS):
            waiting += ast.iter_child_nodes(node)


def complexity(function: Function) -> int:
    """Return 1, and 1 for each branch, loop, handler, case, comprehension, its ifs, `and`, `or`."""
    total = 1
    for node in own_nodes(function):
        if isinstance(node, BRANCHES):
            total += 1
        if isinstance(node, ast.comprehension):
            total += len(node.ifs)
        if isinstance(node, ast.BoolOp):
            total += len(node.values) - 1
    return total


def complex_functions(tree: ast.AST) -> Iterator[str]:
    """Yield each function above the limit, with its complexity."""
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS) and complexity(node) > MOST_COMPLEX:
            yield f"line {node.lineno}: {node.name} has a complexity of {complexity(node)}"


def public(tree: ast.Module) -> Iterator[tuple[Documented, str]]:
    """Yield each public class, function and method, with its docstring and that of its class."""
    for node in tree.body:
        if not isinstance(node, Documented) or node.name.startswith("_"):
            continue
        text = ast.get_docstring(node) or ""
        yield node, text
        if isinstance(node, ast.ClassDef):
            yield from public_methods(node, text)


def public_methods(of: ast.ClassDef, text: str) -> Iterator[tuple[Function, str]]:
    """Yield a class's public methods, with their docstrings and the class's ``text``."""
    is_node = any(ast.unparse(base).endswith("Node") for base in of.bases)
    overrides = NODE_METHODS if is_node else set()
    for node in of.body:
        named = isinstance(node, FUNCTIONS) and not node.name.startswith("_")
        if named and node.name not in overrides:
            yield node, f"{ast.get_docstring(node) or ''}\n{text}"


def takes_or_gives_tensor(function: Function) -> bool:
    """Whether an annotation of the signature names a Tensor."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    annotations = [argument.annotation for argument in every] + [function.returns]
    return any("Tensor" in ast.unparse(one) for one in annotations if one is not None)


def raises_input_error(function: Function) -> bool:
    """Whether a ``raise InputError`` stands in the function itself."""
    raised = [node.exc for node in own_nodes(function) if isinstance(node, ast.Raise)]
    return any(ast.unparse(exc).startswith("InputError(") for exc in raised if exc is not None)


def missing_words(tree: ast.Module) -> Iterator[str]:
    """Yield what docstrings should say and don't."""
    for node, text in public(tree):
        place = f"line {node.lineno}: {node.name}"
        if ast.get_docstring(node) is None:
            yield f"{place} has no docstring"
        if isinstance(node, ast.ClassDef):
            continue
        if takes_or_gives_tensor(node) and not ("[" in text and "]" in text):
            yield f"{place} has a tensor in its signature and no shape [...] in its docstring"
        if raises_input_error(node) and "InputError" not in text:
            yield f"{place} raises InputError and its docstring does not say so"


def test_nested_comprehensions_are_found() -> None:
    assert list(nested_comprehensions(ast.parse("[{b for b in a} for a in c]"))) == ["line 1"]
    assert list(nested_comprehensions(ast.parse("[a for a in sorted(b for b in c)]"))) == ["line 1"]
    assert not list(nested_comprehensions(ast.parse("[a for b in c for a in b]")))


def test_complexity_counts_what_a_reader_must_keep_in_mind() -> None:
    source = """
def f(x):
    for y in x or ():                         # a loop, an `or`
        if y and x and not y:                 # a branch, two `and`s
            return 1 if y else 2              # a choice
    try:
        return [z for z in x if z if z > 1]   # a comprehension, two ifs
    except ValueError:                        # a handler
        def g():
            return x if x else None           # another function's
    match x:
        case 1:                               # two cases
            return 2
        case _:
            return 3
"""
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert complexity(function) == 1 + 2 + 3 + 1 + 3 + 1 + 2


def test_missing_words_are_found() -> None:
    source = '''
class Maps:
    """Maps [B, H, W]."""
    def mean(self) -> Tensor:
        """Return the mean."""
    def _own(self): ...
    def __len__(self): ...
    def undocumented(self): ...
class Sampler(io.ComfyNode):
    """A node."""
    def execute(cls, x: Tensor): ...
def shapeless(maps: Sequence[Tensor]) -> int:
    """Count."""
def failing(x: int):
    """Fail."""
    raise InputError("x", "y", "z", "w")
def honest(x: int):
    """Raise :class:`InputError`."""
    raise InputError("x", "y", "z", "w") from None
'''
    found = [line.split()[2] for line in missing_words(ast.parse(source))]
    assert found == ["undocumented", "shapeless", "failing"]


@pytest.mark.parametrize("check", [nested_comprehensions, complex_functions, missing_words])
def test_the_product_keeps_its_style(check: Check) -> None:
    packed = {PACKED} if check is nested_comprehensions else set()
    found = [
        f"{name}, {place}"
        for name, text in FILES.items()
        if name not in packed
        for place in check(ast.parse(text))
    ]
    assert not found, "\n".join(found)


def test_files_are_short() -> None:
    lengths = {name: len(text.splitlines()) for name, text in FILES.items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_the_formatter_is_obeyed() -> None:
    marks = ("fmt: " + "skip", "fmt: " + "off")
    rooms = (*ROOMS, "demo", "benchmarks", "testkit", "tests")
    files = {path for room in rooms for path in (ROOT / room).rglob("*.py")}
    texts = [path.read_text(encoding="utf-8") for path in files]
    assert sum(text.count(mark) for text in texts for mark in marks) < MOST_UNFORMATTED
