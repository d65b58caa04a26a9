"""Templates of tenants, run where they can reach nothing but their variables and cost no more than they may.

Three walls: only a part of the language is let in at all (`dialect`), every operation is counted and what it makes is
measured (`meter`, `filters`), and names lead to elements of JSON values, never to attributes of Python objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from types import TracebackType
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, Undefined, nodes, pass_context
from jinja2.lexer import Lexer
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from service.notification_templates.dialect import CONCAT, LOOP, TICK, NotInDialect, check, instrumented
from service.notification_templates.filters import (
    FAULTS,
    FILTERS,
    TESTS,
    MeteredContext,
    counted_loop,
    joined,
    limited_range,
    meter_of,
)
from service.notification_templates.meter import LimitReached, Meter, check_length, made

MAXIMUM_SOURCE = 64 * 1024
ERROR_LENGTH = 300
# Compiled ones that a process keeps: the largest take some megabytes each.
KEPT = 64

LOOP_WORDS = frozenset(
    {"cycle", "depth", "first", "index", "index0", "last", "length", "nextitem", "previtem", "revindex", "revindex0"}
)
_UNREADABLE = (TemplateSyntaxError, NotInDialect, ValueError, OverflowError, RecursionError, MemoryError, SyntaxError)


class SourceRefused(Exception):
    """A template that cannot be compiled or may not run; the message says why and in which line."""


class RenderingFailed(Exception):
    """A template did not come to its end with these variables; the message says why and in which line."""


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja without Python."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%"})
    context_class = MeteredContext

    def __init__(self, *, html: bool) -> None:
        super().__init__(
            autoescape=html,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            # Both are what keeps Jinja from computing constants while it compiles, where nothing is counted.
            optimized=False,
            finalize=_counted_output,
        )
        self._own_lexer = Lexer(self)
        self.globals = {"range": limited_range}
        self.filters = {**FILTERS, LOOP: _counted_loop, CONCAT: _counted_concat, TICK: _counted_value}
        self.tests = dict(TESTS)

    @property
    def lexer(self) -> Lexer:
        """Jinja's own cache of lexers has a lock that real threads beside eventlet may not share."""
        return self._own_lexer

    def getitem(self, obj: Any, argument: Any) -> Any:
        """An element of a JSON value, or what a loop knows of itself."""
        # Undefined raises by itself.
        if isinstance(obj, (dict, list, tuple, str, Undefined)):
            try:
                return obj[argument]
            except (LookupError, TypeError):
                pass
        elif isinstance(obj, LoopContext) and argument in LOOP_WORDS:
            return getattr(obj, argument)
        return self.undefined(obj=obj, name=argument)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """As `getitem`: `user.name` is `user["name"]`."""
        return self.getitem(obj, attribute)

    def is_safe_callable(self, obj: Any) -> bool:
        """Only what the dialect lets be called."""
        return obj is limited_range or getattr(obj, "__func__", None) is LoopContext.cycle

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic with numbers; texts are put together by `~` or `+`."""
        meter_of(context).tick()
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            check_length(len(left) + len(right))
        elif not (isinstance(made(left), (int, float)) and isinstance(made(right), (int, float))):
            raise TypeError(f"{operator} takes numbers")
        return made(self.binop_table[operator](left, right))


@pass_context
def _counted_output(context: Context, value: Any) -> Any:
    meter_of(context).tick()
    # As people read it: what is null is nothing.
    return "" if value is None else value


@pass_context
def _counted_value(context: Context, value: Any) -> Any:
    meter_of(context).tick()
    return value


@pass_context
def _counted_loop(context: Context, values: Any) -> Any:
    return counted_loop(meter_of(context), values)


@pass_context
def _counted_concat(context: Context, values: list[Any]) -> str:
    return joined(context, values)


def names_in(source: str, *, html: bool) -> frozenset[str]:
    """The names that a source takes from its variables; raises SourceRefused unless it can be run."""
    if len(source) > MAXIMUM_SOURCE:
        raise SourceRefused(f"It is longer than {MAXIMUM_SOURCE} characters.")
    _compiled(source, html)
    return frozenset(find_undeclared_variables(_sandbox(html).parse(source)))


def rendered(source: str, variables: Mapping[str, Any], meter: Meter, *, html: bool) -> str:
    """The text that a source makes of variables, which are values of JSON; raises SourceRefused, RenderingFailed."""
    template = _compiled(source, html)
    context = template.new_context(dict(variables))
    assert isinstance(context, MeteredContext)
    context.meter = meter
    meter.next_part()
    pieces = []
    try:
        for piece in template.root_render_func(context):
            meter.written(piece)
            pieces.append(piece)
    except (LimitReached, RecursionError, MemoryError, *FAULTS) as error:
        raise RenderingFailed(_said(error, _line_of(error.__traceback__, template))) from None
    return "".join(pieces)


@cache
def _sandbox(html: bool) -> Sandbox:
    return Sandbox(html=html)


@lru_cache(maxsize=KEPT)
def _compiled(source: str, html: bool) -> Template:
    sandbox = _sandbox(html)
    return _readable(lambda: sandbox.from_string(instrumented(_checked(sandbox.parse(source)))))


def _checked(tree: nodes.Template) -> nodes.Template:
    check(tree)
    return tree


def _readable(read: Callable[[], Template]) -> Template:
    try:
        return read()
    except _UNREADABLE as error:
        line = {TemplateSyntaxError: "lineno", NotInDialect: "line"}
        where = next((getattr(error, name) for kind, name in line.items() if isinstance(error, kind)), None)
        # What Python says of the code that Jinja made of it would tell nobody anything.
        is_ours = isinstance(error, (TemplateSyntaxError, NotInDialect))
        raise SourceRefused(_said(error if is_ours else "It cannot be compiled.", where)) from None


def _said(error: Exception | str, line: int | None) -> str:
    message = str(error)[:ERROR_LENGTH] or type(error).__name__
    return message if line is None else f"Line {line}: {message}"


def _line_of(trace: TracebackType | None, template: Template) -> int | None:
    """The line of the source where an error came from: the innermost that belongs to it."""
    line = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == template.root_render_func.__code__.co_filename:
            line = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return line
