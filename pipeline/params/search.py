"""The search space of a parameter, which stands beside its type and its bounds in the schema."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel


@dataclass(frozen=True)
class Search:
    """Where `stages.tune` looks for a better value: between `low` and `high`, or among `choices`.

    log: search the logarithm of the value, for parameters whose ratios matter.
    choices: the values of a switch or a word; then there is no range.
    control: whether an entry with `control: true` is searched along this parameter, too. A control keeps the loss
        weights and the switches that make it the control of another entry; its temperature, for one, is free.
    off: the value that switches the mechanism off. An entry that has it in params.yaml is not searched along this
        parameter: DGKD with survival 1 stays DGKD.
    needs: other parameters of the section, e.g. "teachings.intensive", and the values without which this one has no
        effect. An entry that has others is not searched along it.
    """

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()
    control: bool = False
    off: float | None = None
    needs: tuple[tuple[str, Any], ...] = ()

    def unmet(self, section: BaseModel) -> str | None:
        """The first of `needs` that a section does not meet, e.g. "drop is one"; None if it meets all."""
        for name, needed in self.needs:
            value: Any = section
            for part in name.split("."):
                value = getattr(value, part)
            if value != needed:
                return f"{name} is {str(value).lower()}"
        return None

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        """Describe the space in the JSON schema, for the page of parameters."""
        return {**handler(core_schema), "search": str(self)}

    def __str__(self) -> str:
        """The space in words."""
        if self.choices:
            return ", ".join(str(choice) for choice in self.choices)
        return f"{self.low:g} to {self.high:g}{', log' if self.log else ''}"


def searches(schema: type[BaseModel]) -> dict[str, Search]:
    """The parameters of a section that are searched, in the order of the schema, by name."""
    found = {}
    for name, field in schema.model_fields.items():
        for item in field.metadata:
            if isinstance(item, Search):
                found[field.alias or name] = item
    return found
