"""Conversions that both services share: passages and their names, vectors, and checks of what a request holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from datastore.documents import AttributeValue, Passage, PassageName
from datastore.errors import InvalidArgument
from retriever.api import Hit
from retriever.stubs.pergamon.common.v1 import passage_pb2

_INT64 = range(-(1 << 63), 1 << 63)
_UINT32_MAX = (1 << 32) - 1

NumberT = TypeVar("NumberT", int, float)


def encodable(text: str, field: str) -> str:
    """`text`; InvalidArgument if UTF-8 cannot hold it, as when it was read from bytes in another encoding."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            f"{field} has {text[error.start]!a} at position {error.start}, which is no Unicode character",
            mend="pass valid Unicode text",
            field=field,
        ) from None
    return text


def vector_to_bytes(vector: NDArray[np.float32], field: str) -> bytes:
    """float32 [dimension] as little-endian bytes: on the wire 7 to 25 times faster here than a repeated float."""
    if vector.ndim != 1 or not vector.size:
        raise InvalidArgument(
            f"{field} has the shape {list(vector.shape)}; wanted [dimension]",
            mend="pass one vector a query",
            field=field,
        )
    return vector.astype("<f4", copy=False).tobytes()


def vector_from_bytes(data: bytes, field: str) -> NDArray[np.float32]:
    """A writable float32 [dimension] of finite numbers; InvalidArgument for anything else."""
    if not data or len(data) % 4:
        raise InvalidArgument(
            f"{field} has {len(data)} bytes; wanted 4 for each of its float32 values",
            mend="pass the vector as little-endian float32",
            field=field,
        )
    vector = np.frombuffer(data, dtype="<f4").astype(np.float32)
    finite = np.isfinite(vector)
    if not finite.all():
        position = int(np.argmin(finite))
        raise InvalidArgument(
            f"{field} has {vector[position]} at position {position}; wanted finite numbers",
            mend="check the encoder's output",
            field=field,
        )
    return vector


def check_range(value: NumberT, low: NumberT, high: NumberT, field: str) -> NumberT:
    """`value`; InvalidArgument unless it is between the two bounds."""
    if not low <= value <= high:  # also refuses NaN
        raise InvalidArgument(
            f"{field} is {value}; it must be between {low} and {high}",
            mend=f"pass a {field} in that range",
            field=field,
        )
    return value


def names_to_messages(names: Sequence[PassageName]) -> list[passage_pb2.PassageName]:
    return [
        passage_pb2.PassageName(
            document_id=encodable(document_id, "document_id"),
            chunk_index=check_range(chunk_index, 0, _UINT32_MAX, "chunk_index"),
        )
        for document_id, chunk_index in names
    ]


def names_from_messages(messages: Sequence[passage_pb2.PassageName]) -> list[PassageName]:
    return [PassageName(message.document_id, message.chunk_index) for message in messages]


def _attribute_to_message(value: AttributeValue) -> passage_pb2.AttributeValue:
    match value:
        case bool():
            return passage_pb2.AttributeValue(bool_value=value)
        case int():
            if value in _INT64:
                return passage_pb2.AttributeValue(int_value=value)
            return passage_pb2.AttributeValue(string_value=str(value))  # as the attribute columns keep it
        case float():
            return passage_pb2.AttributeValue(double_value=value)
        case str():
            return passage_pb2.AttributeValue(string_value=value)


def _attribute_from_message(message: passage_pb2.AttributeValue) -> AttributeValue:
    match message.WhichOneof("value"):
        case "bool_value":
            return message.bool_value
        case "int_value":
            return message.int_value
        case "double_value":
            return message.double_value
        case _:
            return message.string_value


def attributes_from_message(message: Mapping[str, passage_pb2.AttributeValue]) -> dict[str, AttributeValue]:
    return {name: _attribute_from_message(value) for name, value in message.items()} if message else {}


def passage_to_message(passage: Passage | Hit) -> passage_pb2.Passage:
    """The passage, or the passage that a hit is of."""
    return passage_pb2.Passage(
        document_id=passage.document_id,
        chunk_index=passage.chunk_index,
        text=passage.text,
        title=passage.title,
        source=passage.source,
        start=passage.start,
        end=passage.end,
        attributes={name: _attribute_to_message(value) for name, value in passage.attributes.items()},
    )


def passage_from_message(message: passage_pb2.Passage) -> Passage:
    return Passage(
        document_id=message.document_id,
        chunk_index=message.chunk_index,
        text=message.text,
        title=message.title,
        source=message.source,
        start=message.start,
        end=message.end,
        attributes=attributes_from_message(message.attributes),
    )
