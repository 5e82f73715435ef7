"""The BM25 index of a segment: one Lucene index, its document numbers the segment's rows.

The index has one field with term frequencies and lengths, no positions and no stored text. Passages are addressed by
row only: what they say lies in the passage store.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from datastore.bm25.analysis import ANALYZERS, check_analyzer, terms_of
from datastore.bm25.jvm import MAX_QUERY_TERMS, calls, java_array, java_class, java_text, lucene
from datastore.bm25.query import HitReader, bag_of_words, best_accepted
from datastore.bm25.similarity import score_as_part
from datastore.bm25.statistics import Bm25Statistics
from datastore.errors import AlreadyExists, DataLoss, FailedPrecondition, InvalidArgument
from datastore.filters.survivors import Survivors

DEFAULT_K1 = 0.9
DEFAULT_B = 0.4

_TEXT = "text"
_ROW = "row"
_MARK_EVERY = 4096
"""Every so many rows one passage carries its row as a term, to check at the end that Lucene kept the order."""
_WRITE_BUFFER_MB = 64.0
_KEPT_FREQUENCIES = 1 << 16
"""Terms whose document frequency is kept in memory: some 10 MB."""


def _open_directory(path: Path) -> Any:
    # Without Lucene's lock, which would leave a file behind: a segment is written once, by one writer.
    locks = lucene("store.NoLockFactory").INSTANCE
    return lucene("store.FSDirectory").open(java_class("java.nio.file.Path").of(str(path.absolute())), locks)


class Bm25Writer:
    """Writes the BM25 index of one segment; for one thread.

    Use it in a ``with`` block, whose end finishes the index and whose failure removes it. Memory does not grow with the
    number of passages.

    Args:
        path: the folder to make; it must not exist, or be empty (else AlreadyExists).
        analyzer: a name of `ANALYZERS` (else InvalidArgument).

    A full disk raises ResourceExhausted; after any error, the writer can only be aborted.
    """

    def __init__(self, path: Path, analyzer: str = "english") -> None:
        check_analyzer(analyzer)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise AlreadyExists(f"{path} is not an empty folder; wanted a new one", mend="choose another or remove it")
        self._path = path
        self._subject = f"BM25 index {path}"
        self._rows = 0
        self._open = True
        with calls(self._subject):
            path.mkdir(parents=True, exist_ok=True)
            config = lucene("index.IndexWriterConfig")(ANALYZERS[analyzer]())
            config.setRAMBufferSizeMB(_WRITE_BUFFER_MB)
            config.setMergeScheduler(lucene("index.SerialMergeScheduler")())
            policy = lucene("index.LogByteSizeMergePolicy")()  # merges neighbours only, so the order stays
            policy.setNoCFSRatio(1.0)  # one compound file
            config.setMergePolicy(policy)
            self._writer = lucene("index.IndexWriter")(_open_directory(path), config)
            # The same Java objects carry every passage.
            self._text = _field(_TEXT, lucene("index.IndexOptions").DOCS_AND_FREQS, tokenized=True)
            self._row = _field(_ROW, lucene("index.IndexOptions").DOCS, tokenized=False)
            self._passage = _document(self._text)
            self._marked_passage = _document(self._text, self._row)

    def add(self, texts: Iterable[str]) -> None:
        """Append passages in row order: the first text ever added is row 0."""
        with calls(self._subject):
            for text in texts:
                self._text.setStringValue(java_text(text))
                if self._rows % _MARK_EVERY:
                    self._writer.addDocument(self._passage)
                else:
                    self._row.setStringValue(str(self._rows))
                    self._writer.addDocument(self._marked_passage)
                self._rows += 1

    def finish(self) -> None:
        """Merge into one Lucene segment, write it durably (fsync), close, and check that each row is its passage's."""
        with calls(self._subject):
            self._writer.forceMerge(1)
            self._writer.commit()
            self._writer.close()
            self._check()
        self._open = False

    def _check(self) -> None:
        with contextlib.closing(_open_reader(self._path)) as reader:
            passages, segments = int(reader.numDocs()), list(reader.leaves())
            if not passages == reader.maxDoc() == self._rows or len(segments) > 1:
                raise DataLoss(
                    f"{self._subject} has {passages} passages in {len(segments)} parts; wanted {self._rows} in one",
                    mend="build it again",
                )
            for row in range(0, self._rows, _MARK_EVERY):
                marked = segments[0].reader().postings(lucene("index.Term")(_ROW, str(row)))
                if marked is None or marked.nextDoc() != row:
                    raise DataLoss(f"{self._subject} has lost the place of row {row}", mend="build it again")

    def abort(self) -> None:
        """Close and remove the folder. Does nothing after `finish` or `abort`."""
        if self._open:
            self._open = False
            try:
                with calls(self._subject):
                    self._writer.rollback()
            finally:
                shutil.rmtree(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._open:
                self.finish()
        finally:
            self.abort()


def _field(name: str, index_options: Any, *, tokenized: bool) -> Any:
    kind = lucene("document.FieldType")()
    kind.setIndexOptions(index_options)
    kind.setTokenized(tokenized)
    kind.setOmitNorms(not tokenized)
    kind.freeze()
    return lucene("document.Field")(name, "", kind)


def _document(*fields: Any) -> Any:
    document = lucene("document.Document")()
    for field in fields:
        document.add(field)
    return document


def _open_reader(path: Path) -> Any:
    return lucene("index.DirectoryReader").open(_open_directory(path))


class Bm25Segment:
    """The open BM25 index of one segment, which any number of `Bm25Index` may search.

    Raises:
        DataLoss: the folder is missing or its files are not what was written; the message names it.
    """

    def __init__(self, path: Path) -> None:
        self._subject = f"BM25 index {path}"
        with calls(self._subject):
            if not path.is_dir():
                raise DataLoss(f"{self._subject} is not there; wanted a folder", mend="build it again")
            self.reader = _open_reader(path)
            if (parts := int(self.reader.leaves().size())) > 1:
                self.close()
                raise DataLoss(f"{self._subject} has {parts} parts; wanted one", mend="build it again")

    def close(self) -> None:
        """Let go of the files, which stay open for those that search them."""
        with calls(self._subject):
            self.reader.close()


class Bm25Index:
    """The BM25 indexes of some segments, searched as one; read-only and thread-safe.

    A global row is the row in its segment plus the passages of the segments before it in `paths`.

    Args:
        paths: the folders that `Bm25Writer` made.
        analyzer: the name they were made with.
        segments: of `paths`, where they are open already; they stay the caller's to close.
        check: called before the first reading, and again after it failed; raises DataLoss where the files are not what
            was written. Lucene compares few checksums when it opens an index, and none when it searches.

    Raises:
        DataLoss: a folder is missing or its files are not what was written; the message names it.
        FailedPrecondition: more passages together than Lucene can address, 2,147,483,519.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        analyzer: str,
        segments: Sequence[Bm25Segment] = (),
        check: Callable[[], None] | None = None,
    ) -> None:
        check_analyzer(analyzer)
        self._check = check
        with contextlib.ExitStack() as opened:
            for path in () if segments else paths:
                segments = [*segments, opened.enter_context(contextlib.closing(Bm25Segment(path)))]
            readers = [segment.reader for segment in segments]
            self._subject = f"BM25 index {paths[0]}" if len(paths) == 1 else f"{len(paths)} BM25 indexes"
            with calls(self._subject):
                self._rows = [int(reader.maxDoc()) for reader in readers]
                _check_total(sum(self._rows))
                self._analyzer = ANALYZERS[analyzer]()
                self._reader = lucene("index.MultiReader")(java_array(lucene("index.IndexReader"), readers), False)
                # It holds on to each reader by itself: what was opened here is let go of, and closes with it.
                self._passage_count = int(self._reader.maxDoc())
                self._document_count = int(self._reader.getDocCount(_TEXT))
                self._total_terms = int(self._reader.getSumTotalTermFreq(_TEXT))
                self._hits = HitReader()
                # The index never changes, and to ask it costs a crossing of the bridge and a look-up in every segment.
                self._document_frequency = functools.lru_cache(_KEPT_FREQUENCIES)(
                    functools.partial(_read_document_frequency, self._reader)
                )
                self._closed = False

    @property
    def passage_count(self) -> int:
        """Passages in all segments, those without terms included."""
        return self._passage_count

    def statistics(self, query: str) -> Bm25Statistics:
        """What this index counts for the terms of a query, to be summed over shards (`Bm25Statistics.merge`)."""
        with self._reading():
            return self._statistics(terms_of(self._analyzer, query))

    def search(
        self,
        query: str,
        k: int,
        *,
        k1: float = DEFAULT_K1,
        b: float = DEFAULT_B,
        statistics: Bm25Statistics | None = None,
        accept: Sequence[Survivors] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k passages that score highest for a bag of words, each word counting as often as it occurs in the query.

        Args:
            query: any text; without a term (empty, or all stop words) it finds nothing.
            k: at least 1.
            k1: how slowly further occurrences of a term stop counting; 0 or more.
            b: how much long passages are marked down, 0 to 1.
            statistics: of the whole collection for this query, where this index is a part of it (see
                `datastore.bm25.similarity`); None scores with this index's own.
            accept: for each of `paths`, which of its passages may be found; None for all. The score of a passage is
                what it would be without: all passages count in the statistics.

        Returns:
            Global rows int64 [n] and scores float32 [n], n <= k, best first, ties by row. Only passages that contain a
            term of the query are found.

        Raises:
            InvalidArgument: a value is out of its range, or `statistics` are not of this query.
            FailedPrecondition: `accept` is of other segments.
        """
        _check_parameters(k, k1, b)
        if accept is not None and [survivors.passages for survivors in accept] != self._rows:
            raise FailedPrecondition(
                f"accept has {[survivors.passages for survivors in accept]} passages; {self._subject} has {self._rows}",
                mend="pass the survivors of each segment, in the order of the index",
            )
        with self._reading():
            counts = Counter(terms_of(self._analyzer, query))
            if len(counts) > MAX_QUERY_TERMS:
                raise InvalidArgument(
                    f"query has {len(counts)} distinct terms; at most {MAX_QUERY_TERMS} are taken",
                    mend="shorten the query",
                    field="query",
                )
            weights = {term: float(count) for term, count in counts.items()}
            if statistics is not None:
                weights, k1, b = score_as_part(weights, k1, b, self._statistics(counts), statistics)
            if not weights or (accept is not None and not any(survivors.count for survivors in accept)):
                return np.empty(0, np.int64), np.empty(0, np.float32)
            return self._best(weights, k, k1, b, accept)

    def close(self) -> None:
        """Close the files, once the searches under way are done. Later searches raise FailedPrecondition."""
        self._closed = True
        with calls(self._subject):
            self._reader.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        if (check := self._check) is not None:
            check()
            self._check = None
        with calls(self._subject):
            if self._closed or not self._reader.tryIncRef():
                raise FailedPrecondition(f"{self._subject} is closed; wanted it open", mend="open it again")
            try:
                yield
            finally:
                self._reader.decRef()

    def _best(
        self, weights: Mapping[str, float], k: int, k1: float, b: float, accept: Sequence[Survivors] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        # A searcher is cheap, and its similarity is this query's own.
        searcher = lucene("search.IndexSearcher")(self._reader)
        searcher.setSimilarity(lucene("search.similarities.BM25Similarity")(k1, b))
        query = bag_of_words(_TEXT, weights)
        if accept is None:
            return self._hits.read(searcher.search(query, k).scoreDocs)
        held = [survivors for survivors in accept if survivors.passages]  # a folder without passages has no leaf
        k = min(k, sum(survivors.count for survivors in held))
        return self._hits.read(best_accepted(searcher, query, k, held))

    def _statistics(self, terms: Iterable[str]) -> Bm25Statistics:
        frequencies = {term: self._document_frequency(term) for term in dict.fromkeys(terms)}
        return Bm25Statistics(self._document_count, self._total_terms, frequencies)


def _read_document_frequency(reader: Any, term: str) -> int:
    return int(reader.docFreq(lucene("index.Term")(_TEXT, term)))


def _check_total(passages: int) -> None:
    limit = int(lucene("index.IndexWriter").MAX_DOCS)
    if passages > limit:
        raise FailedPrecondition(
            f"the segments have {passages} passages together; Lucene can address {limit}", mend="serve with more shards"
        )


def _check_parameters(k: int, k1: float, b: float) -> None:
    for name, value, low, high in (("k", k, 1, (1 << 31) - 1), ("k1", k1, 0.0, 1e6), ("b", b, 0.0, 1.0)):
        if not low <= value <= high:  # also refuses NaN
            raise InvalidArgument(
                f"{name} is {value}; it must be between {low} and {high}",
                mend=f"pass a {name} in that range",
                field=name,
            )
