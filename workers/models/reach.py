"""What has to be there before a model can be asked, for those who only look: its key, and a price."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import BatonError
from workers.models.named import Model
from workers.models.providers import missing


@dataclass(frozen=True)
class KeyOf:
    """The key of a model in the environment of this process: whether it is there, never what it is."""

    model: Model
    kind = "model"

    @property
    def what(self) -> str:
        return f"{self.model.name} {' '.join(self.model.variables)}"

    def look(self) -> str:
        name = missing(self.model.variables)
        if name is None:
            return f"What {self.model.name} wants is set, {' or '.join(self.model.variables)}."
        raise BatonError(
            f"{name} is not set here, so {self.model.name} cannot be asked",
            next_step=f"set {name} in the environment of its workers",
        )


@dataclass(frozen=True)
class PriceOf:
    """What a model costs: whether anybody knows. Without that it is not called."""

    model: Model
    kind = "price"

    @property
    def what(self) -> str:
        return self.model.name

    def look(self) -> str:
        try:
            from workers.models.clients import check_price  # takes a second, and only where somebody asks
        except ImportError as error:
            raise BatonError(
                f"{error.name} is missing here, so {self.model.name} cannot be asked",
                next_step="pip install 'baton-agents[llm]'",
            ) from None
        check_price(self.model)
        return f"The price of {self.model.name} is known."
