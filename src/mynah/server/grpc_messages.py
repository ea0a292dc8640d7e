"""The messages of ``cosyvoice.proto``, built when this module is imported.

Written as a table, so that no generated code has to match the installed version of protobuf; a
test compares it with the file that clients are generated from.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "cosyvoice"
SERVICE = f"{PACKAGE}.CosyVoice"
METHOD = "Inference"

_Field: TypeAlias = "tuple[str, int, str] | tuple[str, int, str, str]"

ONE_OF, OPTIONAL, REPEATED = "RequestPayload", "optional", "repeated"

MESSAGES: dict[str, tuple[_Field, ...]] = {
    "sftRequest": (("spk_id", 1, "string"), ("tts_text", 2, "string")),
    "zeroshotRequest": (
        ("tts_text", 1, "string"),
        ("prompt_text", 2, "string"),
        ("prompt_audio", 3, "bytes"),
        ("spk_id", 10, "string"),
    ),
    "crosslingualRequest": (
        ("tts_text", 1, "string"),
        ("prompt_audio", 2, "bytes"),
        ("spk_id", 10, "string"),
    ),
    "instructRequest": (
        ("tts_text", 1, "string"),
        ("spk_id", 2, "string"),
        ("instruct_text", 3, "string"),
    ),
    "instruct2Request": (
        ("tts_text", 1, "string"),
        ("instruct_text", 2, "string"),
        ("prompt_audio", 3, "bytes"),
        ("spk_id", 10, "string"),
    ),
    "SpeechOptions": (
        ("speed", 1, "float", OPTIONAL),
        ("seed", 2, "uint32", OPTIONAL),
        ("stream", 3, "bool", OPTIONAL),
        ("language", 4, "string"),
        ("model", 5, "string"),
        ("lexicon", 6, "Pronunciation", REPEATED),
        ("timeout_s", 7, "double", OPTIONAL),
    ),
    "Pronunciation": (("word", 1, "string"), ("said", 2, "string")),
    "Request": (
        ("sft_request", 1, "sftRequest", ONE_OF),
        ("zero_shot_request", 2, "zeroshotRequest", ONE_OF),
        ("cross_lingual_request", 3, "crosslingualRequest", ONE_OF),
        ("instruct_request", 4, "instructRequest", ONE_OF),
        ("instruct2_request", 5, "instruct2Request", ONE_OF),
        ("options", 10, "SpeechOptions"),
    ),
    "Response": (("tts_audio", 1, "bytes"),),
}
"""Fields of every message: name, number, type, and its label or the group that it is in, if any."""

_Proto = descriptor_pb2.FieldDescriptorProto


def _file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="mynah/server/cosyvoice.proto", package=PACKAGE, syntax="proto3"
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields:
            _add(message, *field)
        # protobuf wants the groups that stand for `optional` after all others
        for proto in message.field:
            if proto.proto3_optional:
                proto.oneof_index = len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{proto.name}")
    method = file.service.add(name=SERVICE.rpartition(".")[2]).method.add(name=METHOD)
    method.input_type, method.output_type = f".{PACKAGE}.Request", f".{PACKAGE}.Response"
    method.server_streaming = True
    return file


def _add(message: Any, name: str, number: int, kind: str, group: str = "") -> None:
    field = message.field.add(name=name, number=number, label=_Proto.LABEL_OPTIONAL)
    if kind in MESSAGES:
        field.type, field.type_name = _Proto.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = _Proto.Type.Value(f"TYPE_{kind.upper()}")
    if group == REPEATED:
        field.label = _Proto.LABEL_REPEATED
    elif group == OPTIONAL:
        field.proto3_optional = True
    elif group:
        if not message.oneof_decl:
            message.oneof_decl.add(name=group)
        field.oneof_index = 0


# A pool of its own: a program may also import code that was generated from the official file.
_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())

Request: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.Request"))
"""One request."""
Response: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.Response"))
"""One piece of audio."""
