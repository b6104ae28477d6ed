"""Who is told: what `BATON_NOTIFY` names."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from orchestrator.people.notices import Target
from schemas.errors import Fault, InputError
from schemas.notices import Notice
from schemas.settings import Settings


class Plugin:
    """A function of somebody else's: `module:function`, called with each `Notice`."""

    def __init__(self, name: str, function: Callable[[Notice], object]) -> None:
        self.name = name
        self._function = function

    def tell(self, notice: Notice) -> None:
        self._function(notice)


def targets(settings: Settings) -> list[Target]:
    """Whom `BATON_NOTIFY` names. Raises `InputError` for one that cannot be told."""
    found: list[Target] = []
    for name in filter(None, (one.strip() for one in settings.notify.split(","))):
        if name.startswith(("http://", "https://")):
            from orchestrator.people.webhook import Webhook  # its library is needed only here

            found.append(Webhook(name, settings.notify_secret))
        else:
            found.append(Plugin(name, _function(name)))
    return found


def _function(name: str) -> Callable[[Notice], object]:
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            "BATON_NOTIFY", [Fault("", f"{name!r} is neither a URL nor a module:function ({error})")]
        ) from None
    if not callable(function):
        raise InputError("BATON_NOTIFY", [Fault("", f"{name!r} cannot be called")])
    return function  # type: ignore[no-any-return]
