"""Examples of messages, made of their types."""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any

import msgspec
from msgspec import inspect

# What the plainest value of a type without bounds is.
PLAINEST: dict[type[inspect.Type], Any] = {
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


def example_of(payload_type: Any) -> Any:
    """A value of the type as JSON has it: each field's own example, else the plainest that there is.

    What is not required is left out where it has no example of its own (``msgspec.Meta(examples=[...])``).

    Raises:
        ValueError: What came out does not fit the type, as where a field has a pattern and no example.
    """
    example = msgspec.to_builtins(value_of(inspect.type_info(payload_type), ()), str_keys=True)
    try:
        msgspec.json.decode(msgspec.json.encode(example), type=payload_type)
    except msgspec.ValidationError as error:
        raise ValueError(f"{example!r} does not fit: {error}") from error
    return example


def value_of(info: inspect.Type, inside: tuple[type, ...]) -> Any:
    """A value of a type.

    Args:
        info: The type.
        inside: The classes that it stands in: one that holds itself is not followed for ever.
    """
    match info:
        case inspect.Metadata():
            own = (info.extra_json_schema or {}).get("examples")
            return own[0] if own else value_of(info.type, inside)
        case inspect.UnionType():
            others = [each for each in info.types if getattr(each, "cls", None) not in inside]
            return value_of((others or info.types)[0], inside)
        case inspect.LiteralType():
            return info.values[0]
        case inspect.EnumType():
            return next(iter(info.cls))
        case inspect.IntType() | inspect.FloatType():
            return number_within(info)
        case inspect.StrType():
            return "text".ljust(info.min_length or 0, ".")[: info.max_length]
        case inspect.TupleType():
            return [value_of(each, inside) for each in info.item_types]
        case inspect.CollectionType():
            least = 0 if getattr(info.item_type, "cls", None) in inside else 1
            count = max(info.min_length or 0, least)
            return [value_of(info.item_type, inside) for _ in range(count)]
        case inspect.NamedTupleType():
            return [value_of(each.type, inside) for each in info.fields]
        case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
            return object_of(info, (*inside, info.cls))
    return PLAINEST.get(type(info), {})


def object_of(
    info: inspect.StructType | inspect.DataclassType | inspect.TypedDictType,
    inside: tuple[type, ...],
) -> Any:
    """An object with the required fields and those that have an example."""
    fields = {
        each.encode_name: value_of(each.type, inside)
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
    """Whether somebody has given one."""
    return isinstance(info, inspect.Metadata) and "examples" in (info.extra_json_schema or {})


def number_within(info: inspect.IntType | inspect.FloatType) -> float:
    """A number within the bounds, near the lower one; 1 where there is none."""
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
