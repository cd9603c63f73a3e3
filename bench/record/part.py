"""What the parts of a record have in common."""

from __future__ import annotations

from typing import Annotated, Any

from peft_update_bench.bench.printable import printable
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

Count = Annotated[int, Field(ge=0)]
Ratio = Annotated[FiniteFloat, Field(gt=0)]
Fraction = Annotated[FiniteFloat, Field(ge=0)]
Accuracy = Annotated[FiniteFloat, Field(ge=0, le=1)]
"""Fraction of images whose class is right."""


class Part(BaseModel):
    """Read strictly: no other key, no other type, no null, no NaN, and no character that cannot be printed."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _absent_rather_than_null_and_printable(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for name, value in data.items():
                if value is None:
                    raise ValueError(f"{name} is null; a metric that was not measured is absent")
        # So that what is made now is what a file of it is read as, also where an optimizer is told in several lines.
        return printable(data)
