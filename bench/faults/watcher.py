"""A reader beside the writers that are killed: what it is answered goes into a file, to be judged afterwards.

`python -m bench.faults.watcher STORE LOG` opens the store again and again until its standard input ends.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

from bench.faults.state import MODES, contents, digest
from datastore.errors import NotFound, PergamonError
from retriever.client import open_store

_SEARCHES = 3
"""Of each opening, as the generation may be superseded in between."""

_PAUSE_S = 0.1
"""Between openings."""


def main() -> None:
    store, log = Path(sys.argv[1]), Path(sys.argv[2])
    ended = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    with log.open("a") as lines:
        while not ended.is_set():
            try:
                with closing(open_store(store)) as retriever:
                    for _ in range(_SEARCHES):
                        for mode in MODES:
                            generation, seen = contents(retriever, mode)
                            lines.write(json.dumps({"generation": generation, "digest": digest(seen)}) + "\n")
            except NotFound:
                pass
            except PergamonError as error:
                lines.write(json.dumps({"error": str(error)}) + "\n")
            lines.flush()
            time.sleep(_PAUSE_S)


if __name__ == "__main__":
    main()
