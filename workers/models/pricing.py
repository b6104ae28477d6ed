"""Whether anybody knows what a model costs, for those who look before it is asked."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import BatonError
from workers.models.named import Model


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
