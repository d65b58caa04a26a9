"""The part of Jinja's language that templates may use, and how each operation in it comes to be counted.

Everything is refused that is not listed. There are no calls but `range()` and `loop.cycle()`, no macros, no blocks,
nothing from other templates, and no lists but of constants: a list could otherwise hold itself twice, and that list
itself twice, and so on, until its text is longer than any memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from service.notification_templates.filters import FILTERS, TESTS

MAXIMUM_DEPTH = 60
# Compiling takes longer than rendering.
MAXIMUM_NODES = 5_000

# Filters that only `instrumented` can name: in a template the name of a filter has no dash.
LOOP, CONCAT, TICK = "counted-loop", "counted-concat", "counted-tick"

_ALLOWED = frozenset(
    {
        nodes.Template,
        nodes.Output,
        nodes.TemplateData,
        nodes.Const,
        nodes.Name,
        nodes.Getattr,
        nodes.Getitem,
        nodes.Slice,
        nodes.Filter,
        nodes.Test,
        nodes.Keyword,
        nodes.If,
        nodes.For,
        nodes.Assign,
        nodes.With,
        nodes.CondExpr,
        nodes.Compare,
        nodes.Operand,
        nodes.Concat,
        nodes.And,
        nodes.Or,
        nodes.Not,
        nodes.Neg,
        nodes.Pos,
        nodes.Add,
        nodes.Sub,
        nodes.Mul,
        nodes.Div,
        nodes.FloorDiv,
        nodes.Mod,
        nodes.List,
        nodes.Tuple,
        nodes.Call,
    }
)
_NAMES: Mapping[type[nodes.Node], str] = {
    nodes.AssignBlock: "set blocks",
    nodes.CallBlock: "call blocks",
    nodes.Extends: "extends",
    nodes.FilterBlock: "filter blocks",
    nodes.FromImport: "import",
    nodes.NSRef: "namespaces",
    nodes.Pow: "**",
    nodes.ScopedEvalContextModifier: "autoescape",
}
# Words with a meaning of their own; `self` is the template.
RESERVED = frozenset({"caller", "kwargs", "loop", "range", "self", "super", "varargs"})


class NotInDialect(Exception):
    """A template uses what templates may not use; `line` is where."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def check(template: nodes.Template) -> None:
    """Refuse (NotInDialect) what templates may not use."""
    for count, (node, depth) in enumerate(_walk(template)):
        if depth > MAXIMUM_DEPTH:
            raise NotInDialect("It is nested too deeply.", node.lineno)
        if count > MAXIMUM_NODES:
            raise NotInDialect("It has too many parts.", node.lineno)
        if fault := _fault(node):
            raise NotInDialect(fault, node.lineno)


def _walk(template: nodes.Template) -> Iterator[tuple[nodes.Node, int]]:
    # Not by recursion: a thousand terms of a sum are nested a thousand deep.
    waiting: list[tuple[nodes.Node, int]] = [(template, 0)]
    while waiting:
        node, depth = waiting.pop()
        yield node, depth
        waiting.extend((child, depth + 1) for child in node.iter_child_nodes())


def _fault(node: nodes.Node) -> str | None:
    """Why a node may not be where it is."""
    kind = type(node)
    if kind not in _ALLOWED:
        return f"Templates have no {_NAMES.get(kind, kind.__name__.lower())}."
    if getattr(node, "dyn_args", None) is not None or getattr(node, "dyn_kwargs", None) is not None:
        return "Arguments are given one by one, without * and **."
    check_kind = _CHECKS.get(kind)
    return check_kind(node) if check_kind else None


def _of_name(node: Any) -> str | None:
    if node.name in RESERVED - {"loop", "range"} or (node.ctx == "store" and node.name in RESERVED):
        return f"The name {node.name} is reserved."
    return "Names that begin with __ are reserved." if node.name.startswith("__") else None


def _of_const(node: Any) -> str | None:
    # Jinja writes what is beyond any float as the name `inf`.
    return "This number is too large." if isinstance(node.value, float) and math.isinf(node.value) else None


def _of_getattr(node: Any) -> str | None:
    return f"There is no attribute {node.attr}." if node.attr.startswith("__") else None


def _of_filter(node: Any) -> str | None:
    return None if node.name in FILTERS else f"There is no filter {node.name}."


def _of_test(node: Any) -> str | None:
    return None if node.name in TESTS else f"There is no test {node.name}."


def _of_loop(node: Any) -> str | None:
    return "Loops are not recursive." if node.recursive else None


def _of_list(node: Any) -> str | None:
    if getattr(node, "ctx", "load") == "store":
        return None
    constant = all(isinstance(each, (nodes.Const, nodes.List, nodes.Tuple)) for each in node.items)
    return None if constant else "Lists hold constants only."


def _of_call(node: Any) -> str | None:
    called = node.node
    is_range = isinstance(called, nodes.Name) and called.name == "range"
    is_cycle = isinstance(called, nodes.Getattr) and called.attr == "cycle" and _is_loop(called.node)
    return None if is_range or is_cycle else "Only range() and loop.cycle() can be called; use filters."


def _is_loop(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == "loop"


_CHECKS: Mapping[type[nodes.Node], Any] = {
    nodes.Const: _of_const,
    nodes.Name: _of_name,
    nodes.Getattr: _of_getattr,
    nodes.Filter: _of_filter,
    nodes.Test: _of_test,
    nodes.For: _of_loop,
    nodes.List: _of_list,
    nodes.Tuple: _of_list,
    nodes.Call: _of_call,
}


def instrumented(template: nodes.Template) -> nodes.Template:
    """The template with each operation counted that Jinja would do by itself; arithmetic asks the environment."""
    counted: nodes.Template = _Instruments().visit(template)
    return counted


class _Instruments(NodeTransformer):
    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - the visitor's word
        self.generic_visit(node)
        node.iter = _filtered(LOOP, node.iter)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _filtered(TICK, node.expr)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(CONCAT, nodes.List(node.nodes, lineno=node.lineno))

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(TICK, node) if isinstance(node.arg, nodes.Slice) else node


def _filtered(name: str, node: nodes.Node) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
