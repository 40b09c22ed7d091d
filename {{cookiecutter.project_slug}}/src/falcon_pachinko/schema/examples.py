"""Example payloads, derived from their types."""

from __future__ import annotations

import copy
import datetime
import decimal
import uuid
import weakref
from typing import Any

import msgspec
from msgspec import inspect

# The default example of each type without bounds.
DEFAULT_EXAMPLES: dict[type[inspect.Type], Any] = {
    inspect.AnyType: {},
    inspect.BoolType: True,
    inspect.NoneType: None,
    inspect.BytesType: b"bytes",
    inspect.ByteArrayType: b"bytes",
    inspect.MemoryViewType: b"bytes",
    inspect.DateTimeType: datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC),
    inspect.DateType: datetime.date(2026, 1, 31),
    inspect.TimeType: datetime.time(12),
    inspect.TimeDeltaType: datetime.timedelta(hours=1),
    inspect.UUIDType: uuid.UUID("2f1a7b1e-6c52-4f0e-9d3b-5b1f0c6f7a10"),
    inspect.DecimalType: decimal.Decimal(1),
}

# PERF: routes share classes. By identity, so that another class of the same name has its own example.
EXAMPLES: weakref.WeakKeyDictionary[type, Any] = weakref.WeakKeyDictionary()


def example_of(payload_type: Any) -> Any:
    """Return a JSON value of the type, from the examples of its fields or else default values.

    That of a ``msgspec.Struct`` is made once; each caller gets a copy.

    Optional fields without an example (``msgspec.Meta(examples=[...])``) are omitted.

    Raises:
        ValueError: The result does not match the type: a field has a pattern and no example.
    """
    # NOTE: an alias such as list[int] may be another object in the next application.
    if not isinstance(payload_type, type(msgspec.Struct)):
        return make_example(payload_type)
    if payload_type not in EXAMPLES:
        EXAMPLES[payload_type] = make_example(payload_type)
    return copy.deepcopy(EXAMPLES[payload_type])


def make_example(payload_type: Any) -> Any:
    """Return a JSON value of the type.

    Raises:
        ValueError: The result does not match the type.
    """
    example = msgspec.to_builtins(value_of(inspect.type_info(payload_type), ()), str_keys=True)
    try:
        msgspec.json.decode(msgspec.json.encode(example), type=payload_type)
    except msgspec.ValidationError as error:
        raise ValueError(f"{example!r} does not match: {error}") from error
    return example


def value_of(info: inspect.Type, parents: tuple[type, ...]) -> Any:
    """Return an example value of a type.

    Args:
        info: The type.
        parents: The enclosing classes; recursive types are not followed.
    """
    match info:
        case inspect.Metadata():
            given = (info.extra_json_schema or {}).get("examples")
            return given[0] if given else value_of(info.type, parents)
        case inspect.UnionType():
            others = [each for each in info.types if getattr(each, "cls", None) not in parents]
            return value_of((others or info.types)[0], parents)
        case inspect.LiteralType():
            return info.values[0]
        case inspect.EnumType():
            return next(iter(info.cls))
        case inspect.IntType() | inspect.FloatType():
            return number_within(info)
        case inspect.StrType():
            return "text".ljust(info.min_length or 0, ".")[: info.max_length]
        case inspect.TupleType():
            return [value_of(each, parents) for each in info.item_types]
        case inspect.CollectionType():
            least = 0 if getattr(info.item_type, "cls", None) in parents else 1
            count = max(info.min_length or 0, least)
            return [value_of(info.item_type, parents) for _ in range(count)]
        case inspect.NamedTupleType():
            return [value_of(each.type, parents) for each in info.fields]
        case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
            return object_of(info, (*parents, info.cls))
    return DEFAULT_EXAMPLES.get(type(info), {})


def object_of(
    info: inspect.StructType | inspect.DataclassType | inspect.TypedDictType,
    parents: tuple[type, ...],
) -> Any:
    """Return an object with the required fields and those with an example."""
    fields = {
        each.encode_name: value_of(each.type, parents)
        for each in info.fields
        if each.required or has_example(each.type)
    }
    if isinstance(info, inspect.StructType):
        if info.tag_field is not None:
            fields = {info.tag_field: info.tag, **fields}
        if info.array_like:
            return list(fields.values())
    return fields


def has_example(info: inspect.Type) -> bool:
    """Return whether the type is annotated with an example."""
    return isinstance(info, inspect.Metadata) and "examples" in (info.extra_json_schema or {})


def number_within(info: inspect.IntType | inspect.FloatType) -> float:
    """Return a number near the lower bound; 1 if there are no bounds."""
    highest = info.le if info.lt is None else info.lt
    number: float
    if info.ge is not None:
        number = info.ge
    elif info.gt is None:
        number = 1 if highest is None else min(1, highest if info.lt is None else highest - 1)
    elif isinstance(info, inspect.FloatType) and highest is not None:
        number = (info.gt + highest) / 2
    else:
        number = info.gt + 1
    return number if info.multiple_of is None else number + -number % info.multiple_of
