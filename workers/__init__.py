"""Doing the work: agents, the pools that run them, and the one step task."""

from schemas.agents import Retry
from schemas.errors import AgentError, Permanent, ToolError, Unanswered
from workers.agent import Agent, agent
from workers.batching import Batch
from workers.context import Context
from workers.cuts.declared import ContextBudget, Drop, Summarise, Truncate
from workers.guards.policy import Guard
from workers.memory.declared import Embedded, Embedder, Memory, memory
from workers.memory.embedding import embedder
from workers.models.declare import llm_agent
from workers.models.named import Model
from workers.tools.call import ToolCall
from workers.tools.declared import Tool, ask_first, fallback, schema_tool, tool

__all__ = [
    "Agent",
    "AgentError",
    "Batch",
    "Context",
    "ContextBudget",
    "Drop",
    "Embedded",
    "Embedder",
    "Guard",
    "Memory",
    "Model",
    "Permanent",
    "Retry",
    "Summarise",
    "Tool",
    "ToolCall",
    "ToolError",
    "Truncate",
    "Unanswered",
    "agent",
    "ask_first",
    "embedder",
    "fallback",
    "llm_agent",
    "memory",
    "schema_tool",
    "tool",
]
