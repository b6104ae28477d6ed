"""The task `baton.submit`: a Celery program that knows nothing else of Baton starts a run with it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from billiard.exceptions import WorkerLostError
from celery import Task
from celery.exceptions import Reject

from orchestrator.masking.masker import discreet
from schemas.errors import BatonError, Fault, InputError, SubmissionRefused, Unavailable
from schemas.intake import SUBMIT
from workers.process import WorkerProcess
from workers.requests import Unquoted

log = logging.getLogger(__name__)


class SubmitMessage(Unquoted):
    """A message whose processes die twice over it is set aside: it would take one after the other with it.

    Flower and logs are told which workflow it starts, and not with which input.
    """

    @property
    def kwargsrepr(self) -> str:
        named = self.kwargs.get("workflow") if isinstance(self.kwargs, dict) else None
        workflow = named if named is not None else next(iter(self.args or ()), "?")
        return f"{{'workflow': {discreet(repr(workflow))[:100]}}}"

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        lost = exc_info.exception
        again = (self.delivery_info or {}).get("redelivered")
        if again and isinstance(getattr(lost, "exc", lost), WorkerLostError):
            self.task.set_aside("the process that took it in died, twice", self.args, self.kwargs)
            return self.acknowledge()
        return super().on_failure(exc_info, send_failed_event, return_ok)


class SubmitTask(Task):
    """Makes a run of its arguments (see `schemas.intake.SubmitRequest`); its result is the id of the run."""

    name = SUBMIT
    Request = "workers.submit:SubmitMessage"
    acks_late = True
    reject_on_worker_lost = True
    ignore_result = False
    max_retries = None
    throws = (SubmissionRefused,)

    process: WorkerProcess

    def run(self, *args: Any, **kwargs: Any) -> str:
        """What cannot become a run fails and is kept as a dead letter; nothing is tried in vain."""
        try:
            answer = self.process.submitter.take_in(_named(args, kwargs), self.request.id)
        except Unavailable as error:
            log.warning("a submission goes back to its queue: %s", error)
            raise Reject(str(error), requeue=True) from error
        except BatonError as error:
            self.set_aside(str(error), args, kwargs)
            raise SubmissionRefused(discreet(str(error))) from None
        return str(answer.run_id)

    def set_aside(self, reason: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Keep this message as a dead letter."""
        self.process.set_aside(SUBMIT, reason, {"args": list(args), "kwargs": dict(kwargs)})


def _named(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by name; the workflow and its input may come without theirs. Raises `InputError`."""
    if len(args) > 2:
        raise InputError(
            SUBMIT, [Fault("", f"{len(args)} arguments without a name, but only two may have none")]
        )
    return dict(zip(("workflow", "input"), args, strict=False)) | dict(kwargs)
