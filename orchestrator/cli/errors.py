"""Every error becomes one sentence and the next command; a traceback appears only with `--debug`."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from schemas.errors import BatonError, SchemaOutdated, Unavailable

# By name, because an error whose library was never imported cannot have been raised.
_POSTGRES_LOST = ("psycopg:OperationalError", "sqlalchemy.exc:OperationalError")
_BROKER_LOST = ("kombu.exceptions:OperationalError", "redis.exceptions:RedisError")
_NO_TABLE = ("psycopg.errors:UndefinedTable", "psycopg.errors:InvalidSchemaName")


class Door(TyperGroup):
    """The root of all commands: whatever they raise leaves through `invoke`."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            told = told_to_people(error)
            if told is None:
                raise
            if ctx.params.get("debug"):
                typer.echo(_unsaid("".join(traceback.format_exception(error))), nl=False, err=True)
            tell(told)
            raise typer.Exit(1) from error


def told_to_people(error: Exception) -> BatonError | None:
    """The same error in one sentence; None for those that Typer handles itself."""
    if isinstance(error, BatonError):
        return error
    if _is_one_of(error, ("typer._click.exceptions:ClickException",)):
        return None
    if isinstance(error, (typer.Exit, typer.Abort, BrokenPipeError)):
        return None
    if _is_one_of(error, _NO_TABLE):
        return SchemaOutdated()
    if _is_one_of(error, _POSTGRES_LOST):
        return Unavailable(f"Postgres cannot be reached: {_line(error)}", next_step="baton doctor")
    if _is_one_of(error, _BROKER_LOST):
        return Unavailable(f"The broker cannot be reached: {_line(error)}", next_step="baton doctor")
    if _is_one_of(error, ("pydantic_core:ValidationError",)) and getattr(error, "title", "") == "Settings":
        return _settings(error)
    return BatonError(
        f"Baton did not expect this: {type(error).__name__}: {_line(error)}",
        next_step="run the same after `baton --debug`, and report what it prints",
    )


def tell(error: BatonError) -> None:
    """Print an error and what to do about it, without credentials."""
    typer.secho("error: ", fg="red", bold=True, nl=False, err=True)
    typer.echo(_unsaid(str(error)), err=True)
    if error.next_step:
        typer.secho("next:  ", fg="cyan", bold=True, nl=False, err=True)
        typer.echo(_unsaid(error.next_step), err=True)


def _unsaid(text: str) -> str:
    from orchestrator.masking.masker import discreet

    return discreet(text)


def _is_one_of(error: Exception, names: tuple[str, ...]) -> bool:
    for name in names:
        module, _, attribute = name.partition(":")
        kind = getattr(sys.modules.get(module), attribute, None)
        if isinstance(kind, type) and isinstance(error, kind):
            return True
    return False


def _line(error: Exception) -> str:
    """The first line of a message, without its last full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _settings(error: Any) -> BatonError:
    faults = "; ".join(f"BATON_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
    return BatonError(f"The environment is wrong: {faults}", next_step="mend or unset these variables")
