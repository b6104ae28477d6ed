"""Find the agents and workflows of an app: the modules that `--app` or `BATON_APP` names."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from orchestrator.definitions.reactions import Reaction
from orchestrator.definitions.vocabulary import Composable
from schemas.agents import AgentSpec
from schemas.errors import BatonError, DefinitionError, Fault, NotFound
from schemas.memory import MemorySettings
from schemas.tools import DeclaredTool, MayCall
from schemas.workflows import Workflow

_NAME_ONE = "name it with --app or BATON_APP, e.g. `--app examples.text_digest` or `--app ./my.py`"


@dataclass(frozen=True)
class Loaded:
    """What the modules of an app hold, by name."""

    modules: tuple[ModuleType, ...]
    workflows: Mapping[str, Workflow] = field(default_factory=dict)
    agents: Mapping[str, Composable] = field(default_factory=dict)
    """The agents themselves; each has an attribute `spec`."""
    specs: Mapping[str, AgentSpec] = field(default_factory=dict)
    reactions: Mapping[str, Reaction] = field(default_factory=dict)
    """What starts runs when events come in."""
    memory: MemorySettings | None = None
    """How its agents remember, if it says so."""
    tools: Mapping[str, tuple[DeclaredTool, ...]] = field(default_factory=dict)
    """What agents may name; several under one name serve those that have them by themselves."""

    def workflow(self, name: str) -> Workflow:
        """The workflow of this name.

        Raises `NotFound`, naming the most similar one.
        """
        if name in self.workflows:
            return self.workflows[name]
        raise unknown("workflow", name, self.workflows, next_step="baton workflows ls")

    def agent(self, name: str) -> AgentSpec:
        """The agent of this name.

        Raises `NotFound`, naming the most similar one.
        """
        if name in self.specs:
            return self.specs[name]
        raise unknown("agent", name, self.specs, next_step="name one that the app holds")


def load(app: str) -> Loaded:
    """Import the modules of `app` (separated by commas; a `.py` file also counts) and collect what they hold.

    The current folder is importable. Of a package, the submodules that it imports are searched too. Raises
    `NotFound` for a module that does not exist or holds nothing, and `DefinitionError` for one that cannot be
    imported or that gives one name to two different things.
    """
    names = [name.strip() for name in app.split(",") if name.strip()]
    if not names:
        raise NotFound("No app is named, so there are no workflows or agents to find.", next_step=_NAME_ONE)
    roots = [imported(name) for name in names]
    found = _Search()
    for root in roots:
        found.search(root)
    found.look_names_up()
    if found.faults:
        raise DefinitionError(f"app {app!r}", found.faults)
    if not found.workflows and not found.specs:
        raise NotFound(
            f"{app!r} holds neither a workflow nor an agent at the top level of its modules.",
            next_step="define one there, or import it there from where it is defined",
        )
    return Loaded(
        tuple(roots),
        found.workflows,
        found.agents,
        found.specs,
        found.reactions,
        found.memory,
        {name: tuple(tools) for name, tools in found.tools.items()},
    )


def unknown(kind: str, name: str, known: Iterable[str], next_step: str) -> NotFound:
    """The error for a name that does not exist, with the most similar one that does."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    listed = f"; there are: {', '.join(names)}." if names else "."
    hint = f"; did you mean {close[0]!r}?" if close else listed
    return NotFound(f"There is no {kind} {name!r}{hint}", next_step=next_step)


class _Search:
    """Collects workflows and agents from namespaces, and the names that mean two different things."""

    def __init__(self) -> None:
        self.workflows: dict[str, Workflow] = {}
        self.agents: dict[str, Composable] = {}
        self.specs: dict[str, AgentSpec] = {}
        self.reactions: dict[str, Reaction] = {}
        self.memory: MemorySettings | None = None
        self.tools: dict[str, list[DeclaredTool]] = {}
        self.faults: list[Fault] = []
        self._homes: dict[tuple[str, str], str] = {}

    def search(self, root: ModuleType) -> None:
        for module in (root, *_submodules(root)):
            for value in list(vars(module).values()):
                self._look_at(value, module.__name__)

    def _look_at(self, value: Any, home: str) -> None:
        if isinstance(value, Workflow):
            known = self.workflows.setdefault(value.name, value)
            self._agree("workflow", value.name, home, same=known is value or known.id == value.id)
        elif isinstance(value, Reaction):
            same = self.reactions.setdefault(value.name, value) == value
            self._agree("reaction", value.name, home, same=same)
        elif isinstance(value, MemorySettings):
            self.memory = self.memory or value
            self._agree("memory", "", home, same=self.memory == value)
        elif isinstance(value, DeclaredTool):
            known_tools = self.tools.setdefault(value.spec.name, [])
            if not any(one is value for one in known_tools):
                known_tools.append(value)
        elif isinstance(value, Composable):
            spec = getattr(value, "spec", None)
            if isinstance(spec, AgentSpec):
                # Two functions may share a spec to the letter and still do different things.
                same = self.agents.setdefault(spec.name, value) is value
                self.specs.setdefault(spec.name, spec)
                self._agree("agent", spec.name, home, same=same)

    def look_names_up(self) -> None:
        """Whether each tool that an agent names is one tool of the app, and each agent one of its agents."""
        for agent, found in self.agents.items():
            missing = [name for name in found.needs() if name not in self.agents]
            said = [str(unknown("agent", name, self.agents, next_step="")) for name in missing]
            said += [] if missing else found.misnamed(self.agents)
            self.faults += [Fault(f"agent {agent}", one) for one in said]
            entries: tuple[MayCall, ...] = getattr(found, "may_call", ())
            for name in (one.name for one in entries if one.is_named):
                known = len(self.tools.get(name, ()))
                if known == 0:
                    error = unknown("tool", name, self.tools, next_step="")
                    self.faults.append(Fault(f"agent {agent}", str(error)))
                elif known > 1:
                    self.faults.append(Fault(f"agent {agent}", f"{known} tools have the name {name!r}"))

    def _agree(self, kind: str, name: str, home: str, *, same: bool) -> None:
        first = self._homes.setdefault((kind, name), home)
        if not same:
            self.faults.append(Fault(home, f"{kind} {name!r} differs from the one of this name in {first}"))


def _submodules(root: ModuleType) -> Iterator[ModuleType]:
    prefix = f"{root.__name__}."
    for name, module in sorted(sys.modules.items()):
        if name.startswith(prefix) and isinstance(module, ModuleType):
            yield module


def imported(name: str) -> ModuleType:
    """The module of this name, or of this `.py` file; the current folder is importable. Raises as `load` does."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return _import_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    except BatonError:
        raise  # a definition in the module has faults, and says so better than we could
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise NotFound(
                f"There is no module {name!r} that could be imported from here.",
                next_step=f"go to the folder that holds it, or {_NAME_ONE}",
            ) from error
        raise _broken(name, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise NotFound(f"There is no file {str(path)!r}.", next_step=_NAME_ONE)
    name, folder = path.stem, str(path.resolve().parent)
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
        return known
    if known is not None or not name.isidentifier():
        raise NotFound(f"{str(path)!r} cannot be a module of the name {name!r}.", next_step="rename the file")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None  # noqa: S101  it always is for a name that ends in .py
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _broken(name: str, error: BaseException) -> DefinitionError:
    what = f"{type(error).__name__}: {str(error) or 'it exits when it is imported'}"
    if isinstance(error, ValidationError):
        what = _said(error)
    return DefinitionError(f"app {name!r}", [Fault(_where(error), what)])


def _said(error: ValidationError) -> str:
    """What does not fit, such as a declared limit, in one line."""
    found = error.errors(include_url=False, include_context=False)
    told = (
        f"{'.'.join(map(str, one['loc']))}: {one['msg']}, not {one['input']!r}" for one in found if one["loc"]
    )
    return f"{error.title}: " + "; ".join([*told, *(one["msg"] for one in found if not one["loc"])])


def _where(error: BaseException) -> str:
    """The line to look at: the innermost one that is the user's own, not a library's."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(error.filename)}:{error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    own = [f for f in frames if f.filename != __file__ and not _installed(f.filename)]
    last = (own or frames)[-1]
    return f"{_shown(last.filename)}:{last.lineno}"


def _installed(filename: str) -> bool:
    libraries = {str(Path(os.__file__).parent), *(p for p in sys.path if p.endswith("-packages"))}
    return any(filename.startswith(f"{library}{os.sep}") for library in libraries)


def _shown(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename
