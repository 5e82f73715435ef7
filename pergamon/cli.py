"""The command `pergamon`: assembles the subcommands and turns errors into one line and an exit status."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from importlib.metadata import version

import typer

from datastore.errors import PergamonError
from datastore.store.refusals import exhausted
from pergamon.commands import ask, benchmark, build, care, evaluate, exchange, inspect, keep, plan, search, serve, tune

EXIT_FAILED = 1

app = typer.Typer(
    name="pergamon",
    help="Turn any pile of text into a retrieval datastore that a language model can query.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("build", epilog=build.EXAMPLES)(build.build)
app.command("publish", epilog=build.PUBLISH_EXAMPLES)(build.publish)
app.command("add", epilog=keep.ADD_EXAMPLES)(keep.add)
app.command("update", epilog=keep.UPDATE_EXAMPLES)(keep.update)
app.command("delete", epilog=keep.DELETE_EXAMPLES)(keep.delete)
app.command("compact", epilog=keep.COMPACT_EXAMPLES)(keep.compact)
app.command("info", epilog=inspect.INFO_EXAMPLES)(inspect.info)
app.command("verify", epilog=inspect.VERIFY_EXAMPLES)(inspect.verify)
app.command("plan", epilog=plan.EXAMPLES)(plan.plan)
app.command("tune", epilog=tune.EXAMPLES)(tune.tune)
app.command("repair", epilog=care.REPAIR_EXAMPLES)(care.repair)
app.command("snapshot", epilog=care.SNAPSHOT_EXAMPLES)(care.snapshot)
app.command("restore", epilog=care.RESTORE_EXAMPLES)(care.restore)
app.command("export", epilog=exchange.EXPORT_EXAMPLES)(exchange.export)
app.command("import", epilog=exchange.IMPORT_EXAMPLES)(exchange.import_)
app.command("search", epilog=search.EXAMPLES)(search.search)
app.command("serve", epilog=serve.SERVE_EXAMPLES)(serve.serve)
app.command("route", epilog=serve.ROUTE_EXAMPLES)(serve.route)
app.command("ask", epilog=ask.EXAMPLES)(ask.ask)
app.add_typer(evaluate.app, name="eval", help="Measure a datastore on judged collections.")
app.add_typer(benchmark.app, name="bench", help="Measure speed.")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pergamon {version('pergamon')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    pass


def main() -> None:
    """Run the command; exit with 0 done, 1 failed with a one-line reason on standard error, 2 wrong usage."""
    # Threads of OpenMP that wait by spinning take the cores from the other processes of a service; sleeping costs the
    # encoder nothing. Read when torch or FAISS is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A segment has six files open, and the usual 1,024 would not do for two hundred of them. What a login allows
    # at most is there to be taken: the lower figure is for programs that call select(), which this one does not.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        app()
    except PergamonError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(EXIT_FAILED)
    except OSError as error:  # what no reader or writer of a format expects: permissions, a full or failing device
        where = f"{error.filename}: " if error.filename is not None else ""
        short = exhausted(error.filename, error)
        said = short or f"{where}{error.strerror or error}; check the path, its permissions and its device"
        typer.echo(f"error: {said}", err=True)
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
