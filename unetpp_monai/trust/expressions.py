"""Check the syntax trees of config expressions for unlisted names, calls and attributes. Evaluates nothing."""

import ast
from collections.abc import Iterable, Iterator
from typing import Any

from monai.bundle import ReferenceResolver

from ..json_files import clipped
from .names import BUILTINS, CALLABLE, ENVIRONMENT, KEYWORDS, MEMBERS, READERS, VALUES, components

LONGEST = 1000  # most characters of an expression
LARGEST = 1_000_000  # whole number in an expression, to limit memory and time
REFERENCES = "__local_refs"  # MONAI's name for values of references
PREIMPORTED = {"monai": "monai", "torch": "torch", "np": "numpy", "numpy": "numpy"}  # by MONAI
OBJECTS = frozenset((*CALLABLE, *VALUES, *READERS))
CALLS = frozenset((*CALLABLE, *READERS))
MODULES = frozenset(
    ".".join(parts[:count])
    for parts in (name.split(".") for name in (*OBJECTS, *components()))
    for count in range(1, len(parts))
)  # prefixes of listed names
OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
PLAIN = (  # nodes of which only the parts are checked
    *(ast.BoolOp, ast.Compare, ast.IfExp, ast.List, ast.Tuple, ast.Set, ast.Slice, ast.UnaryOp, ast.JoinedStr),
    *(ast.boolop, ast.cmpop, ast.unaryop, ast.operator, ast.expr_context),
)
LOOPS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)
Function = ast.Name | ast.Attribute


class NotListed(Exception):  # noqa: N818 - no error: an answer
    """An unlisted part of an expression."""


class Everything(dict[str, Any]):
    """A dictionary with every key, to see how MONAI replaces references."""

    def __contains__(self, key: object) -> bool:
        return True


class Imports:
    """Names imported by configs."""

    def __init__(self, others: dict[str, set[str]] | None = None) -> None:
        self.others = others or {}  # of other configs of the bundle, which may be merged
        self.names: dict[str, set[str]] = {name: {full} for name, full in PREIMPORTED.items()}

    def add_all(self, texts: Iterable[str]) -> None:
        """Add the imports in texts."""
        for name, full in filter(None, map(_imported, texts)):
            self.names.setdefault(name, set()).add(full)

    def of(self, texts: Iterable[str]) -> "Imports":
        """Return the imports of one config, with these as fallback."""
        own = Imports(self.names)
        own.add_all(texts)
        return own

    def full(self, name: str) -> str | None:
        """Return the full name of an imported name; None if unknown.

        Raises:
            NotListed: the name is ambiguous.
        """
        found = self.names.get(name) or self.others.get(name, set())
        if len(found) > 1:
            raise NotListed(f"{name}, which is both {' and '.join(sorted(found))}")
        return next(iter(found), None)


def check_expression(text: str, imports: Imports) -> None:
    """Check a text that begins with `$`.

    Args:
        text: from a config, with references.
        imports: of the config.

    Raises:
        NotListed: an unlisted part, or not a Python expression.
    """
    if len(text) > LONGEST:
        raise NotListed(f"an expression of more than {LONGEST} characters")
    plain = ReferenceResolver.normalize_id(text)
    if "import" in plain and isinstance(_first(plain[1:]), ast.Import | ast.ImportFrom):
        _check_import(plain[1:])
        return
    code = str(ReferenceResolver.update_refs_pattern(plain, Everything()))[1:].lstrip()
    try:
        tree = ast.parse(code, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotListed(f"not a Python expression, {clipped(text, 60)}") from error
    _Check(imports).visit(tree.body, frozenset())


def called(text: str, imports: Imports) -> str | None:
    """Return the full name of the function if an expression is a single call; else None."""
    if not text.startswith("$") or len(text) > LONGEST:
        return None
    statement = _first(str(ReferenceResolver.update_refs_pattern(text, Everything()))[1:].lstrip())
    call = statement.value if isinstance(statement, ast.Expr) else None
    name = call.func.id if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else None
    return None if name is None else imports.full(name)


def _first(code: str) -> ast.stmt | None:
    try:
        return next(iter(ast.parse(code).body), None)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _imported(text: str) -> tuple[str, str] | None:
    """Return the name that a text imports, and its full name."""
    if not text.startswith("$") or "import" not in text or len(text) > LONGEST:
        return None
    statement = _first(ReferenceResolver.normalize_id(text)[1:])
    if not isinstance(statement, ast.Import | ast.ImportFrom):
        return None
    alias = statement.names[0]
    full = alias.name if isinstance(statement, ast.Import) else f"{statement.module}.{alias.name}"
    return alias.asname or alias.name, full


def _check_import(code: str) -> None:
    statements = ast.parse(code).body
    statement = statements[0]
    if len(statements) > 1 or not isinstance(statement, ast.Import | ast.ImportFrom) or len(statement.names) > 1:
        raise NotListed(f"more than one import, {clipped(code, 60)}")
    if isinstance(statement, ast.ImportFrom) and (statement.level or not statement.module):
        raise NotListed(f"a relative import, {clipped(code, 60)}")
    alias = statement.names[0]
    full = alias.name if isinstance(statement, ast.Import) else f"{statement.module}.{alias.name}"
    if full not in OBJECTS and full not in MODULES:
        raise NotListed(f"import of {full}")
    if (alias.asname or alias.name).startswith("_"):
        raise NotListed(f"the name {alias.asname or alias.name}")


class _Check:
    """Visits every node of a tree; refuses unknown ones."""

    def __init__(self, imports: Imports) -> None:
        self.imports = imports

    def visit(self, node: ast.AST, bound: frozenset[str]) -> None:
        """Check a node and its parts.

        Args:
            node: of an expression.
            bound: names of arguments and loop variables.

        Raises:
            NotListed: at the first unlisted part.
        """
        if isinstance(node, Function):
            self._value(node, bound)
        elif isinstance(node, LOOPS):
            self._loop(node, bound)
        elif isinstance(node, PLAIN):
            self._parts(node, bound)
        else:
            name = f"_{type(node).__name__.lower()}"
            if not hasattr(self, name):
                raise NotListed(f"{type(node).__name__}")
            getattr(self, name)(node, bound)

    def _parts(self, node: ast.AST, bound: frozenset[str]) -> None:
        for part in ast.iter_child_nodes(node):
            self.visit(part, bound)

    def _constant(self, node: ast.Constant, _: frozenset[str]) -> None:
        if not isinstance(node.value, str | int | float | None):
            raise NotListed(repr(node.value))
        if isinstance(node.value, int) and abs(node.value) > LARGEST:
            raise NotListed(f"a whole number above {LARGEST}")

    def _value(self, node: Function, bound: frozenset[str]) -> None:
        full = self._full(node, bound)
        if full is not None:
            if full not in OBJECTS:
                raise NotListed(full)
        elif isinstance(node, ast.Attribute):
            self.visit(node.value, bound)
            if node.attr not in MEMBERS:
                raise NotListed(f"attribute {node.attr}")
        elif node.id not in bound and node.id not in BUILTINS:
            raise NotListed(node.id)

    def _full(self, node: ast.AST, bound: frozenset[str]) -> str | None:
        """Return the full dotted name if it starts with an import; else None."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id in bound:
            return None
        full = self.imports.full(node.id)
        return None if full is None else ".".join((full, *parts))

    def _call(self, node: ast.Call, bound: frozenset[str]) -> None:
        function = node.func
        full = self._full(function, bound)
        if not isinstance(function, Function) or (full is not None and full not in CALLS):
            raise NotListed(f"call of {full or ast.unparse(function)}")
        if isinstance(function, ast.Name) and function.id in bound:
            raise NotListed(f"call of the argument {function.id}")
        self._value(function, bound)
        for keyword in node.keywords:
            allowed = KEYWORDS.get(full or "")
            if keyword.arg is None or (keyword.arg not in allowed if allowed else keyword.arg.startswith("_")):
                raise NotListed(f"argument {keyword.arg or '**'} of {ast.unparse(function)}")
            self.visit(keyword.value, bound)
        if full in KEYWORDS and node.args:
            raise NotListed(f"unnamed arguments of {full}")
        for argument in node.args:
            self.visit(argument, bound)

    def _subscript(self, node: ast.Subscript, bound: frozenset[str]) -> None:
        if isinstance(node.value, ast.Name) and node.value.id == REFERENCES:
            if not (isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str)):
                raise NotListed(REFERENCES)
            return
        if self._full(node.value, bound) == "os.environ":
            if not (isinstance(node.slice, ast.Constant) and node.slice.value in ENVIRONMENT):
                raise NotListed("os.environ")
            return
        self.visit(node.value, bound)
        self.visit(node.slice, bound)

    def _binop(self, node: ast.BinOp, bound: frozenset[str]) -> None:
        if not isinstance(node.op, OPERATORS):
            raise NotListed(f"operator {type(node.op).__name__}")
        if isinstance(node.op, ast.Mod) and isinstance(node.left, ast.Constant | ast.JoinedStr):
            raise NotListed("a format")
        if isinstance(node.op, ast.Mult) and any(_multiplies(side) for side in (node.left, node.right)):
            raise NotListed("a product of products")
        self._parts(node, bound)

    def _formattedvalue(self, node: ast.FormattedValue, bound: frozenset[str]) -> None:
        if node.format_spec is not None:
            raise NotListed("a format")
        self.visit(node.value, bound)

    def _dict(self, node: ast.Dict, bound: frozenset[str]) -> None:
        if None in node.keys:
            raise NotListed("**")
        self._parts(node, bound)

    def _lambda(self, node: ast.Lambda, bound: frozenset[str]) -> None:
        a = node.args
        if a.posonlyargs or a.kwonlyargs or a.vararg or a.kwarg or a.defaults:
            raise NotListed("a lambda with other than simple arguments")
        self.visit(node.body, bound | _sound(argument.arg for argument in a.args))

    def _loop(self, node: Any, bound: frozenset[str]) -> None:
        first, *others = node.generators
        inner = [part for part in ast.walk(node) if isinstance(part, LOOPS)]
        if others or first.is_async or len(inner) > 1:
            raise NotListed("a nested loop")
        self.visit(first.iter, bound)
        inside = bound | _sound(_targets(first.target))
        for part in (*first.ifs, *([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])):
            self.visit(part, inside)


def _multiplies(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Mult) for part in ast.walk(node))


def _targets(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Tuple):
        for element in node.elts:
            yield from _targets(element)
    else:
        raise NotListed(f"a loop over {ast.unparse(node)}")


def _sound(names: Iterable[str]) -> frozenset[str]:
    found = frozenset(names)
    if wrong := [name for name in found if name.startswith("_")]:
        raise NotListed(f"the name {wrong[0]}")
    return found
