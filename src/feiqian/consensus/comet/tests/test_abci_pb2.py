"""The generated messages are those of `abci.proto`, and its tags and types are CometBFT's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from feiqian.consensus.comet import abci_pb2 as pb
from feiqian.testing.cometbft import ROOT, Judge

SOURCE = ROOT / "src"
PROTO = "feiqian/consensus/comet/abci.proto"


@pytest.mark.parametrize("suffix", ["_pb2.py", "_pb2.pyi"])
def test_generated_code_is_fresh(suffix: str, tmp_path: Path) -> None:
    generate = [sys.executable, "-m", "grpc_tools.protoc", f"-I{SOURCE}", f"--python_out={tmp_path}"]
    subprocess.run([*generate, f"--pyi_out={tmp_path}", PROTO], check=True, cwd=SOURCE)
    name = PROTO.replace(".proto", suffix)
    assert (SOURCE / name).read_text() == (tmp_path / name).read_text(), "run `make proto`"


@pytest.fixture(scope="module")
def published(cometbft: Judge) -> dict:
    """CometBFT's messages and enums by name: fields and values with number, kind and type."""
    return json.loads(cometbft("messages"))


def messages() -> list[Descriptor]:
    return list(pb.DESCRIPTOR.message_types_by_name.values())


def enums() -> list[EnumDescriptor]:
    nested = [enum for message in messages() for enum in message.enum_types]
    return [*pb.DESCRIPTOR.enum_types_by_name.values(), *nested]


def type_name(field: FieldDescriptor) -> str:
    named = field.message_type or field.enum_type
    return named.name.removeprefix("Abci").lower() if named else ""


@pytest.mark.parametrize("message", messages(), ids=lambda message: message.name)
def test_every_field_is_cometbfts(message: Descriptor, published: dict) -> None:
    theirs = published["messages"][message.name.replace("AbciParams", "ABCIParams")]
    for field in message.fields:
        ours = {
            "number": field.number,
            "kind": field.type,
            "is_repeated": field.is_repeated,
            "type": type_name(field),
        }
        assert ours == theirs[field.name], field.full_name


@pytest.mark.parametrize("enum", enums(), ids=lambda enum: enum.full_name)
def test_every_value_is_cometbfts(enum: EnumDescriptor, published: dict) -> None:
    name = enum.full_name.removeprefix("feiqian.abci.")
    assert {value.name: value.number for value in enum.values} == published["enums"][name]


def test_every_call_is_here(published: dict) -> None:
    for message, descriptor in (("Request", pb.Request.DESCRIPTOR), ("Response", pb.Response.DESCRIPTOR)):
        assert set(published["messages"][message]) == {field.name for field in descriptor.fields}
