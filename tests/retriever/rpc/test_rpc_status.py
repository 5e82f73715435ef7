"""An error means the same on both sides of the wire."""

from __future__ import annotations

import logging
from collections.abc import Callable

import grpc
import pytest

from datastore import errors
from datastore.errors import FailedPrecondition, InvalidArgument, PergamonError, Unavailable
from retriever.rpc.remote_retriever import RemoteRetriever
from retriever.rpc.remote_shard import RemoteShard
from retriever.rpc.status import CLASSES, CODES, ERROR_DETAIL_KEY
from retriever.stubs.pergamon.common.v1 import error_pb2
from retriever.stubs.pergamon.retrieval.v1 import retrieval_pb2, retrieval_pb2_grpc

ALL = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PergamonError)]

FailWith = Callable[[Exception], RemoteShard]


@pytest.fixture
def fail_with(serve: Callable[..., str], make_shard: Callable[..., object]) -> FailWith:
    """A remote shard whose calls raise the given exception at the server."""

    def start(error: Exception) -> RemoteShard:
        def fail(_: float | None) -> None:
            raise error

        return RemoteShard(serve(shard=make_shard(fail)))

    return start


def test_the_map_is_complete_and_one_to_one() -> None:
    assert set(CODES) == set(ALL)
    assert len(CLASSES) == len(CODES)


@pytest.mark.parametrize("kind", ALL)
def test_every_class_comes_back(kind: type[PergamonError], fail_with: FailWith) -> None:
    error = kind("k is 0; naïve 雪", mend="pass 1 to 10", field="k")
    with pytest.raises(PergamonError) as caught:
        fail_with(error).describe()
    assert type(caught.value) is kind
    assert (str(caught.value), caught.value.problem, caught.value.mend, caught.value.field) == (
        str(error),
        error.problem,
        error.mend,
        "k",
    )


def test_a_subclass_comes_back_as_its_class_of_the_tree(fail_with: FailWith) -> None:
    class OfAKind(InvalidArgument):
        pass

    with pytest.raises(InvalidArgument, match="seen; mend"):
        fail_with(OfAKind("seen", mend="mend")).describe()


@pytest.mark.parametrize("text", ["x" * 10_000, "雪" * 10_000, "\udce9" * 5])
def test_texts_that_do_not_fit_are_shortened(text: str, fail_with: FailWith) -> None:
    with pytest.raises(InvalidArgument) as caught:
        fail_with(InvalidArgument(text, mend=text, field=text)).describe()
    assert 5 <= len(caught.value.problem) <= 800
    assert caught.value.problem[0] in "x雪?"


def test_an_unexpected_exception_is_logged_and_not_told(fail_with: FailWith, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(PergamonError, match="failed unexpectedly") as caught:
        fail_with(RuntimeError("secret path")).describe()
    assert type(caught.value) is PergamonError
    reference = caught.value.problem.split()[-1]
    assert "secret" not in str(caught.value)
    assert reference in caplog.text
    assert "RuntimeError: secret path" in caplog.text


def test_other_tools_see_the_text_and_the_detail(serve: Callable[..., str], retriever: object) -> None:
    with grpc.insecure_channel(serve(retriever=retriever)) as channel:
        stub = retrieval_pb2_grpc.RetrievalServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Search(retrieval_pb2.SearchRequest(query="lamp", k=0), timeout=10)
    call = caught.value
    assert isinstance(call, grpc.Call)
    assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (call.details() or "").startswith("k is 0; it must be between 1 and 10000")
    detail = error_pb2.ErrorDetail.FromString(dict(call.trailing_metadata() or ())[ERROR_DETAIL_KEY])
    assert detail.field == "k"


def test_a_server_without_the_service_is_no_fit(serve: Callable[..., str], retriever: object) -> None:
    address = serve(retriever=retriever)
    with pytest.raises(FailedPrecondition, match=f"Describe: the server at {address} does not know the call"):
        RemoteShard(address).describe()


def test_a_closed_client_says_so(serve: Callable[..., str], retriever: object) -> None:
    client = RemoteRetriever(serve(retriever=retriever))
    client.info()
    client.close()
    with pytest.raises(Unavailable, match="closed"):
        client.info()
