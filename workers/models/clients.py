"""The clients of model providers, and what a call of them costs. Loaded in workers only."""

from __future__ import annotations

import asyncio
import inspect
import os
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import genai_prices
from pydantic import TypeAdapter
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse
from pydantic_ai.models import Model as Client
from pydantic_ai.models import ModelRequestParameters, infer_model
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

from orchestrator.credentials import own
from schemas.errors import Permanent
from schemas.usage import Usage
from workers.calls import MOST_OUTPUT
from workers.loop import before_end
from workers.models.named import Model
from workers.models.providers import missing

RESPONSE = TypeAdapter(ModelResponse)
_PARAMETERS = TypeAdapter(ModelRequestParameters)

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Model, Client]] = WeakKeyDictionary()
"""A client keeps its connections, which belong to an event loop."""


def client_of(model: Model) -> Client:
    """Its client on this event loop. Raises `Permanent` if it cannot be one."""
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        _clients[loop] = {}
        before_end(partial(_close, _clients[loop]))
    made = _clients[loop]
    if model not in made:
        made[model] = _made(model)
    return made[model]


async def _close(made: dict[Model, Client]) -> None:
    """Close their connections: pydantic-ai does it for agents that are entered, and ours live longer than those."""
    while made:
        inner: Any = getattr(made.popitem()[1], "client", None)
        if inspect.iscoroutinefunction(close := getattr(inner, "close", None)):
            await close()


def _made(model: Model) -> Client:
    client = _of_provider(model)
    # What is tried again passes the gates again, and what has to wait for long waits in Postgres.
    inner: Any = getattr(client, "client", None)
    if hasattr(inner, "max_retries"):
        inner.max_retries = 0
    return client


def _of_provider(model: Model) -> Client:
    name = missing(model.variables)
    if name is not None:
        what = "the address" if name.endswith("_URL") else "the key"
        raise Permanent(f"set {name} in the environment of the worker: it is to hold {what} of {model.name}")
    if model.base_url is None:
        return _inferred(model)
    # Never the key of OpenAI, which its client would take from the environment for any server.
    credential = os.environ[model.key] if model.key else "none"
    return OpenAIChatModel(model.id, provider=OpenAIProvider(base_url=model.base_url, api_key=credential))


def _inferred(model: Model) -> Client:
    try:
        return infer_model(model.name)
    except ImportError as error:
        raise Permanent(f"{model.name} cannot be asked: {error}") from None
    except UserError as error:
        raise Permanent(own(f"{model.name} cannot be asked: {error}")) from None


def check_price(model: Model) -> None:
    """Raises `Permanent` for a model of which nobody knows what it costs: it is not called."""
    if model.price is not None:
        return
    try:
        _known(model, genai_prices.Usage(input_tokens=1, output_tokens=1))
    except LookupError:
        raise Permanent(
            f"the price of {model.name} is not known",
            next_step="mend its name, or say it, price=Price(input=..., output=...)",
        ) from None


def _known(model: Model, used: Any) -> float:
    # The price of OpenAI's models is the same whichever of its interfaces is named.
    provider = model.provider.removesuffix("-chat").removesuffix("-responses")
    return float(genai_prices.calc_price(used, model.id, provider_id=provider).total_price)


def usage_of(model: Model, messages: list[ModelMessage], response: ModelResponse) -> Usage:
    """What a call has consumed."""
    used = response.usage
    given, made = used.input_tokens, used.output_tokens
    if not given and not made:
        # A provider that does not count: about four characters are a token.
        given = len(ModelMessagesTypeAdapter.dump_json(messages)) // 4
        made = len(RESPONSE.dump_json(response)) // 4
        used = type(used)(input_tokens=given, output_tokens=made)
    if model.price is not None:
        return Usage(tokens=given + made, usd=model.price.of(given, made), model_calls=1)
    try:
        usd = _known(model, used)
    except ValueError:  # its counts contradict each other, but it is paid: without what was cheaper
        usd = _known(model, type(used)(input_tokens=given, output_tokens=made))
    return Usage(tokens=given + made, usd=usd, model_calls=1)


def bounds_of(
    model: Model,
    messages: list[ModelMessage],
    settings: ModelSettings | None,
    parameters: ModelRequestParameters,
) -> tuple[Usage, Usage]:
    """The least and the most that a call is taken to consume before it is made.

    Of what it is told, four bytes are a token; as its answer it has none, or all the tokens that `max_tokens` of its
    settings allow for, or `MOST_OUTPUT` if they say nothing.
    """
    told = len(ModelMessagesTypeAdapter.dump_json(messages)) + len(_PARAMETERS.dump_json(parameters))
    given, made = told // 4 + 1, (settings or {}).get("max_tokens") or MOST_OUTPUT
    return _estimate(model, given, 0), _estimate(model, given, made)


def _estimate(model: Model, given: int, made: int) -> Usage:
    if model.price is not None:
        usd = model.price.of(given, made)
    else:
        usd = _known(model, genai_prices.Usage(input_tokens=given, output_tokens=made))
    return Usage(tokens=given + made, usd=usd, model_calls=1)
