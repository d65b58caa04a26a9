"""The filters and tests that templates have: those of Jinja whose cost is known before they run, or made so.

What is not here does not exist for templates: `attr`, `safe`, `center`, `xmlattr` and their like.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any, cast

from jinja2 import TemplateRuntimeError, Undefined, pass_context
from jinja2.filters import FILTERS as OF_JINJA
from jinja2.runtime import Context
from jinja2.tests import TESTS as TESTS_OF_JINJA
from markupsafe import Markup, escape

from service.notification_templates.meter import MAXIMUM_ITEMS, LimitReached, Meter, check_length, made

Filter = Callable[..., Any]

MAXIMUM_DIGITS = 15
MAXIMUM_INDENT = 40
# `%-10.2f`: widths of two digits at most, and none that is computed.
_CONVERSION = re.compile(r"%[-+ 0#]*[0-9]{0,2}(?:\.[0-9]{1,2})?[sdifgeoxX%]")

# Linear in what they are given, and never much longer than it.
_AS_THEY_ARE = (
    "abs",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "int",
    "items",
    "last",
    "length",
    "list",
    "lower",
    "max",
    "min",
    "reverse",
    "sort",
    "string",
    "title",
    "tojson",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "wordcount",
)
_TESTS_AS_THEY_ARE = (
    "boolean",
    "defined",
    "false",
    "float",
    "integer",
    "iterable",
    "mapping",
    "none",
    "number",
    "sequence",
    "string",
    "true",
    "undefined",
)


class MeteredContext(Context):
    """The variables of a rendering, and what it has cost."""

    meter: Meter


def meter_of(context: Context) -> Meter:
    """The meter of a rendering."""
    return cast(MeteredContext, context).meter


def _metered(function: Filter) -> Filter:
    """A filter of the sandbox: counted, and never with a text or a list that is too long, before or after."""
    passed = getattr(function, "jinja_pass_arg", None)

    @pass_context
    @wraps(function)
    def counted(context: Context, *args: Any, **kwargs: Any) -> Any:
        meter_of(context).tick()
        for each in (*args, *kwargs.values()):
            if isinstance(each, str):
                check_length(len(each))
        # Jinja's own ask for the environment or for what is escaped at present.
        first = {"context": (context,), "environment": (context.environment,), "eval_context": (context.eval_ctx,)}
        result = function(*first.get(passed.name if passed else "", ()), *args, **kwargs)
        return made(_taken(meter_of(context), result) if isinstance(result, Iterator) else result)

    return cast(Filter, counted)


def _taken(meter: Meter, found: Iterator[Any]) -> list[Any]:
    return list(counted_loop(meter, found))


def counted_loop(meter: Meter, found: Iterable[Any]) -> Iterator[Any]:
    """The elements, each of them a step."""
    for each in found:
        meter.tick()
        yield each


def limited_range(*args: int) -> range:
    """`range`, for as many numbers as a list may have."""
    numbers = range(*args)
    if len(numbers) > MAXIMUM_ITEMS:
        raise LimitReached(f"It makes a list of more than {MAXIMUM_ITEMS} elements.")
    return numbers


def joined(context: Context, values: Iterable[Any], separator: Any = "") -> str:
    """The values as one text, in HTML with everything escaped that is not yet."""
    to_text: Callable[[Any], str] = escape if context.eval_ctx.autoescape else str
    between, texts, length = to_text(separator), [], 0
    for each in counted_loop(meter_of(context), values):
        texts.append(to_text(each))
        length += len(texts[-1]) + len(between)
        check_length(length)
    text = str(between).join(texts)
    return Markup(text) if context.eval_ctx.autoescape else text  # noqa: S704 - each of them is escaped


@pass_context
def _join(context: Context, value: Iterable[Any], d: Any = "", attribute: str | None = None) -> str:
    values = value if attribute is None else _map(context, value, attribute=attribute)
    return joined(context, values, d)


@pass_context
def _map(context: Context, value: Iterable[Any], *, attribute: str, default: Any = None) -> Iterator[Any]:
    """One field of each; Jinja's own can also call filters."""
    # A list that holds another many times over is what this language has none of.
    if not isinstance(default, (str, int, float, type(None))):
        raise TypeError("the default of map is a text or a number")
    for each in value:
        found = context.environment.getitem(each, attribute)
        if isinstance(found, Undefined):
            # As text it raises what was missing; a list would only hide it.
            found = str(found) if default is None else default
        yield found


@pass_context
def _sum(context: Context, value: Iterable[Any], attribute: str | None = None) -> Any:
    numbers = value if attribute is None else _map(context, value, attribute=attribute)
    return sum(_number(each) for each in counted_loop(meter_of(context), numbers))


def _number(value: Any) -> Any:
    if not isinstance(value, (int, float)):
        raise TypeError(f"{type(value).__name__} is no number")
    return made(value)


def _replace(value: Any, old: str, new: str) -> str:
    text = _text(value)
    # What is escaped would escape them itself, after they were counted.
    to_text: Callable[[Any], str] = escape if isinstance(text, Markup) else str
    old, new = to_text(old), to_text(new)
    check_length(len(text) + text.count(old) * len(new))
    return text.replace(old, new)


def _indent(value: Any, width: int = 4, first: bool = False) -> str:
    if not isinstance(width, int) or not 0 <= width <= MAXIMUM_INDENT:
        raise ValueError(f"indent takes 0 to {MAXIMUM_INDENT} spaces")
    text = _text(value)
    check_length(len(text) + (text.count("\n") + 1) * width)
    space = " " * width
    indented = text.replace("\n", "\n" + space)
    return type(text)(space) + indented if first else indented


def _format(value: Any, *args: Any) -> str:
    """`"%.2f"|format(price)`, with widths of two digits."""
    text = _text(value)
    if "%" in _CONVERSION.sub("", text):
        raise ValueError("format takes %s, %d, %.2f and their like, with widths of two digits at most")
    given = tuple(made(each) if isinstance(each, (str, int, float)) else str(each) for each in args)
    check_length(len(text) + sum(len(str(each)) for each in given))
    return text % given


def _round(value: Any, precision: int = 0, method: str = "common") -> float:
    if not isinstance(precision, int) or not -MAXIMUM_DIGITS <= precision <= MAXIMUM_DIGITS:
        raise ValueError(f"round takes {MAXIMUM_DIGITS} digits at most")
    rounded: float = OF_JINJA["round"](_number(value), precision, method)
    return rounded


def _trim(value: Any) -> str:
    return _text(value).strip()


def _text(value: Any) -> str:
    """A text, with what is escaped still known for it; raises UndefinedError."""
    return value if isinstance(value, str) else str(value)


def _divisible(value: Any, by: Any) -> bool:
    return bool(_number(value) % _number(by) == 0)


FILTERS: Mapping[str, Filter] = {name: _metered(OF_JINJA[name]) for name in _AS_THEY_ARE} | {
    "format": _metered(_format),
    "indent": _metered(_indent),
    "join": _metered(_join),
    "map": _metered(_map),
    "replace": _metered(_replace),
    "round": _metered(_round),
    "sum": _metered(_sum),
    "trim": _metered(_trim),
}

# Jinja's own of these begin with `value % number`, which of a text makes another text, as long as it asks for.
_OWN_TESTS: Mapping[str, Callable[..., Any]] = {
    "divisibleby": _divisible,
    "even": lambda value: _divisible(value, 2),
    "odd": lambda value: not _divisible(value, 2),
}
_JINJAS_TESTS: Mapping[str, Any] = TESTS_OF_JINJA
TESTS: Mapping[str, Callable[..., Any]] = {
    **{name: _JINJAS_TESTS[name] for name in _TESTS_AS_THEY_ARE},
    **_OWN_TESTS,
}

# What goes wrong in a template by its own doing.
FAULTS = (TemplateRuntimeError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, AssertionError)
