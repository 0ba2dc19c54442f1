"""docs/asyncapi.yaml and the wire code say the same, field by field."""

import enum
import json
import re
from pathlib import Path

import jsonschema
import msgspec
import pytest
import yaml

from jaga_agent.wire import evidence, messages, orders, topics
from jaga_agent.wire.base import encode
from support.places import ROOT

GOLDEN = Path(__file__).parent / "golden"
RECORDS = {
    "heartbeat": messages.Heartbeat,
    "event": messages.Event,
    "status": messages.Status,
    "history": evidence.History,
    "watermark": evidence.Watermark,
    "command": orders.Command,
    "reply": orders.Reply,
}
INSIDE = (evidence.Histogram, evidence.Digest, evidence.HistoryItem, orders.Order)
"""What travels packed in another message."""


def struct(name):
    """The contract's struct or enum of that name."""
    return next(
        getattr(module, name)
        for module in (messages, evidence, orders)
        if hasattr(module, name)
    )


DIALECT = "application/schema+json;version=draft-2020-12"

DOCUMENT = yaml.safe_load((ROOT / "docs/asyncapi.yaml").read_text(encoding="utf-8"))
SCHEMAS = DOCUMENT["components"]["schemas"]


def code_schemas():
    """What msgspec says of the structs, by name."""
    return {
        name: schema
        for kind in (*RECORDS.values(), *INSIDE)
        for name, schema in msgspec.json.schema(kind)["$defs"].items()
    }


def bare(schema):
    """The part of a schema that binds: no prose, no defaults, references by name."""
    if isinstance(schema, list):
        return [bare(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].removesuffix("/schema").rsplit("/", 1)[1]
        return {"$ref": name}
    prose = {"title", "description", "default", "x-enum-varnames"}
    return {key: bare(value) for key, value in schema.items() if key not in prose}


def defects():
    schema = json.loads(
        (Path(__file__).parent / "asyncapi-3.0.0.schema.json").read_text()
    )
    return jsonschema.Draft7Validator(schema)


def test_the_document_is_valid_asyncapi_3():
    assert [error.message for error in defects().iter_errors(DOCUMENT)] == []


def test_the_validator_would_notice():
    broken = {**DOCUMENT, "operations": {"sendNothing": {"action": "whisper"}}}
    assert not defects().is_valid(broken)


def test_every_struct_and_enum_of_the_contract_is_documented():
    assert set(SCHEMAS) == set(code_schemas())
    assert {schema["schemaFormat"] for schema in SCHEMAS.values()} == {DIALECT}


@pytest.mark.parametrize("name", code_schemas())
def test_types_bounds_and_nullability_agree(name):
    assert bare(SCHEMAS[name]["schema"]) == bare(code_schemas()[name])


@pytest.mark.parametrize("name", code_schemas())
def test_positions_and_names_agree(name):
    documented, kind = SCHEMAS[name]["schema"], struct(name)
    if issubclass(kind, enum.Enum):
        pairs = zip(documented["x-enum-varnames"], documented["enum"], strict=True)
        assert dict(pairs) == {member.name: member.value for member in kind}
        return
    titles = [item["title"] for item in documented["prefixItems"]]
    assert tuple(titles) == kind.__struct_fields__
    assert all(item["description"] for item in documented["prefixItems"])
    assert documented["minItems"] == len(titles) - len(kind.__struct_defaults__)


def test_each_channel_is_a_topic_and_each_topic_a_channel():
    addresses = {
        name: channel["address"] for name, channel in DOCUMENT["channels"].items()
    }
    assert addresses == {
        leaf: f"{topics.ROOT}/{{region}}/{{site}}/{leaf}" for leaf in topics.LEAVES
    }
    for leaf, address in addresses.items():
        topic = topics.parse(address.format(region="6408", site="kpu-kutim"))
        assert topic == topics.Topic("6408", "kpu-kutim", leaf)
        assert set(DOCUMENT["channels"][leaf]["parameters"]) == {"region", "site"}


def test_parameters_examples_are_accepted():
    parameters = DOCUMENT["components"]["parameters"]
    assert all(
        topics.REGION_PATTERN.fullmatch(e) for e in parameters["region"]["examples"]
    )
    assert all(topics.SITE_PATTERN.fullmatch(e) for e in parameters["site"]["examples"])


@pytest.mark.parametrize(
    ("leaf", "action", "retain"),
    [
        ("heartbeat", "send", False),
        ("event", "send", False),
        ("status", "send", True),
        ("history", "send", False),
        ("watermark", "receive", True),
        ("command", "receive", False),
    ],
)
def test_delivery(leaf, action, retain):
    [operation] = [
        operation
        for operation in DOCUMENT["operations"].values()
        if operation["channel"]["$ref"] == f"#/channels/{leaf}"
    ]
    assert operation["action"] == action
    assert operation["bindings"]["mqtt"]["qos"] == 1
    assert operation["bindings"]["mqtt"]["retain"] is retain
    assert operation["messages"] == [{"$ref": f"#/channels/{leaf}/messages/{leaf}"}]
    name = RECORDS[leaf].__name__
    assert DOCUMENT["channels"][leaf]["messages"] == {
        leaf: {"$ref": f"#/components/messages/{name}"}
    }
    message = DOCUMENT["components"]["messages"][name]
    assert (
        message["contentType"]
        == DOCUMENT["defaultContentType"]
        == "application/msgpack"
    )
    assert message["payload"] == {"$ref": f"#/components/schemas/{name}"}


def test_a_command_is_answered():
    reply = DOCUMENT["operations"]["receiveCommand"]["reply"]
    assert reply["channel"] == {"$ref": "#/channels/reply"}


def test_every_order_is_described_and_its_arguments_are_few():
    action = next(
        item
        for item in SCHEMAS["Order"]["schema"]["prefixItems"]
        if item["title"] == "action"
    )
    said = re.findall(r"[a-z-]+", action["description"].partition("One of")[2])
    assert said == list(orders.ACTIONS)


def test_the_will_is_a_status():
    will = DOCUMENT["servers"]["collector"]["bindings"]["mqtt"]["lastWill"]
    assert will["topic"] == DOCUMENT["channels"]["status"]["address"]
    assert (will["qos"], will["retain"]) == (1, True)


EXAMPLES = [
    (name, example)
    for name, message in DOCUMENT["components"]["messages"].items()
    for example in message["examples"]
]


@pytest.mark.parametrize(
    ("name", "example"), EXAMPLES, ids=[example["name"] for _, example in EXAMPLES]
)
def test_an_example_is_its_golden_file(name, example):
    kind = struct(name)
    value = msgspec.json.decode(json.dumps(example["payload"]), type=kind)
    golden = bytes.fromhex((GOLDEN / f"{example['name']}.msgpack.hex").read_text())
    assert encode(value) == golden
    # And it is valid by the document's own schema.
    schema = {**SCHEMAS[name]["schema"], "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(schema).validate(example["payload"])


def test_every_golden_file_is_an_example():
    files = {path.name.partition(".")[0] for path in GOLDEN.iterdir()}
    assert {example["name"] for _, example in EXAMPLES} == files


def test_every_kind_of_event_is_described_and_has_an_example():
    kind = next(
        item
        for item in SCHEMAS["Event"]["schema"]["prefixItems"]
        if item["title"] == "kind"
    )
    for name, words in messages.EVENT_KINDS.items():
        assert re.search(rf"\b{name}\b", kind["description"])
        listed = f"[{', '.join(words)}]"
        assert not words or listed in " ".join(kind["description"].split())
    examples = DOCUMENT["components"]["messages"]["Event"]["examples"]
    shown = {example["payload"][5] for example in examples}
    assert shown >= set(messages.EVENT_KINDS) - {"started", "stopped"}
