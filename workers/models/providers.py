"""The providers of models that pydantic-ai knows, and the variables of the environment that they want.

Written down here, because pydantic-ai takes a second to load; a test holds it to what that knows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

_OPENAI = ("OPENAI_API_KEY", "OPENAI_BASE_URL")
"""With a server of one's own as `OPENAI_BASE_URL` no key is wanted."""

PROVIDERS: Mapping[str, tuple[str, ...]] = {
    "alibaba": ("ALIBABA_API_KEY", "DASHSCOPE_API_KEY"),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "azure": ("AZURE_OPENAI_API_KEY",),
    "azure-responses": ("AZURE_OPENAI_API_KEY",),
    "bedrock": (),
    "bedrock-mantle": (),
    "cerebras": ("CEREBRAS_API_KEY",),
    "cohere": ("CO_API_KEY",),
    "crusoe": ("CRUSOE_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "fireworks": ("FIREWORKS_API_KEY",),
    "github": ("GITHUB_API_KEY",),
    "github-copilot": ("GITHUB_COPILOT_API_KEY", "GITHUB_COPILOT_API_TOKEN", "COPILOT_GITHUB_TOKEN"),
    "google": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "google-cloud": (),
    "google-decisions": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "groq": ("GROQ_API_KEY",),
    "heroku": ("HEROKU_INFERENCE_KEY",),
    "huggingface": ("HF_TOKEN",),
    "litellm": (),
    "meta": ("META_API_KEY",),
    "mistral": ("MISTRAL_API_KEY",),
    "moonshotai": ("MOONSHOTAI_API_KEY",),
    "nebius": ("NEBIUS_API_KEY",),
    "ollama": ("OLLAMA_BASE_URL",),
    "openai": _OPENAI,
    "openai-chat": _OPENAI,
    "openai-chatgpt": (),
    "openai-codex": (),
    "openai-decisions": _OPENAI,
    "openai-responses": _OPENAI,
    "openrouter": ("OPENROUTER_API_KEY",),
    "ovhcloud": ("OVHCLOUD_API_KEY",),
    "sambanova": ("SAMBANOVA_API_KEY",),
    "snowflake": ("SNOWFLAKE_TOKEN",),
    "system-one": ("SYSTEM_ONE_BASE_URL",),
    "together": ("TOGETHER_API_KEY",),
    "typesafe": ("TYPESAFE_API_KEY",),
    "vercel": ("VERCEL_AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN"),
    "vllm": ("VLLM_BASE_URL",),
    "xai": ("XAI_API_KEY",),
    "zai": ("ZAI_API_KEY",),
}
"""Each with its variables, of which one is enough; without any where credentials come from elsewhere."""

GATEWAY = "gateway/"
_GATEWAY_KEYS = ("PYDANTIC_AI_GATEWAY_API_KEY", "PAIG_API_KEY")


def unknown(provider: str) -> str | None:
    """What is wrong with this name of a provider, with the one that is most like it; None if there is one."""
    if provider in PROVIDERS or provider.startswith(GATEWAY):
        return None
    close = get_close_matches(provider.lower(), PROVIDERS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(PROVIDERS)}"
    return f"there is no provider {provider!r}; {hint}"


def wanted(provider: str) -> tuple[str, ...]:
    """The variables of which this provider wants one."""
    return _GATEWAY_KEYS if provider.startswith(GATEWAY) else PROVIDERS.get(provider, ())


def missing(names: Sequence[str]) -> str | None:
    """The variable to set if none of these is set."""
    if not names or any(os.environ.get(name) for name in names):
        return None
    return names[0]  # whoever uses another one knows of it
