"""JSON Schemas of payload types: references, and the conversion to draft 07."""

import copy
import enum
from typing import Annotated, Any

import msgspec
import pytest
from jsonschema import Draft7Validator

from falcon_pachinko.schema.json_schema import REFERENCE, draft_07, schemas_of


class Colour(enum.Enum):
    RED = "red"


class Leaf(msgspec.Struct, tag="leaf"):
    """A ``leaf``."""

    colour: Colour
    pair: tuple[int, str]


class Branch(msgspec.Struct, tag="branch"):
    parts: list["Leaf | Branch"]
    properties: dict[str, Annotated[int, msgspec.Meta(examples=[1])]] = {}


def test_each_type_refers_to_shared_schemas_by_name() -> None:
    schemas, shared = schemas_of([Leaf, list[Branch], int])
    assert schemas[0] == {"$ref": f"{REFERENCE}Leaf"}
    assert schemas[1] == {"type": "array", "items": {"$ref": f"{REFERENCE}Branch"}}
    assert schemas[2] == {"type": "integer"}
    assert list(shared) == ["Branch", "Colour", "Leaf"]


def test_any_value_fits_object_and_other_classes_have_no_schema() -> None:
    [schema], _ = schemas_of([dict[str, object]])
    assert list(Draft7Validator(schema).iter_errors({"a": None, "b": [1, {}]})) == []
    assert list(Draft7Validator(schema).iter_errors([])) != []
    with pytest.raises(TypeError, match=r"Unknown.* is not supported"):
        schemas_of([type("Unknown", (), {})])


def test_schemas_are_valid_draft_07_and_accept_encoded_values() -> None:
    [schema], shared = schemas_of([Branch])
    document = {**schema, "components": {"schemas": shared}}
    Draft7Validator.check_schema(document)
    leaf = Leaf(colour=Colour.RED, pair=(1, "a"))
    branch = Branch(parts=[leaf, Branch(parts=[])], properties={"a": 1})
    value = msgspec.json.decode(msgspec.json.encode(branch))
    assert list(Draft7Validator(document).iter_errors(value)) == []
    value["parts"][0]["pair"] = [1, "a", "b"]
    assert list(Draft7Validator(document).iter_errors(value)) != []


@pytest.mark.parametrize(
    ("schema", "converted"),
    [
        (
            {"prefixItems": [{"type": "integer"}], "items": False},
            {"items": [{"type": "integer"}], "additionalItems": False},
        ),
        ({"description": "A ``leaf``."}, {"description": "A `leaf`."}),
        ({"anyOf": [{"discriminator": {}, "type": "object"}]}, {"anyOf": [{"type": "object"}]}),
        ({"enum": [{"discriminator": 1}]}, {"enum": [{"discriminator": 1}]}),
        ({"properties": {"discriminator": {}}}, {"properties": {"discriminator": {}}}),
        (True, True),
    ],
    ids=["tuple", "description", "discriminator", "data", "property", "boolean"],
)
def test_keywords_are_converted_to_draft_07(schema: Any, converted: Any) -> None:
    assert draft_07(schema) == converted


def test_a_type_without_a_schema_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        schemas_of([complex])


def test_two_classes_with_one_qualified_name_are_a_type_error() -> None:
    same = [msgspec.defstruct("Same", [("x", int)], module="tests") for _ in range(2)]
    with pytest.raises(TypeError, match=r"two classes share the module and name .*Same"):
        schemas_of(same)


def test_a_changed_result_does_not_change_the_next_one() -> None:
    struct = msgspec.defstruct(
        "Changed",
        [
            ("words", Annotated[list[str], msgspec.Meta(examples=[["a"]])]),
            ("pair", tuple[int, str], (1, "c")),
        ],
        module="tests",
    )
    schemas, shared = schemas_of([struct, list[Leaf]])
    before = copy.deepcopy((schemas, shared))
    fields = shared["Changed"]["properties"]
    fields["words"]["examples"][0].append("x")
    fields["words"]["items"]["type"] = "x"
    fields["pair"]["items"].clear()
    schemas[0].clear()
    shared["Leaf"]["description"] = "x"
    assert schemas_of([struct, list[Leaf]]) != (schemas, shared)
    assert schemas_of([struct, list[Leaf]]) == before


def test_other_classes_of_the_same_name_have_their_own_schemas() -> None:
    one, other = (msgspec.defstruct("Same", [("x", kind)], module="tests") for kind in (int, str))
    assert schemas_of([one])[1]["Same"]["properties"]["x"] == {"type": "integer"}
    assert schemas_of([other])[1]["Same"]["properties"]["x"] == {"type": "string"}
