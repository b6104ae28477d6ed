"""Doing the work: agents, the pools that run them, and the one step task."""

from schemas.agents import Retry
from schemas.errors import AgentError, Permanent, Unanswered
from workers.agent import Agent, agent
from workers.context import Context

__all__ = ["Agent", "AgentError", "Context", "Permanent", "Retry", "Unanswered", "agent"]
