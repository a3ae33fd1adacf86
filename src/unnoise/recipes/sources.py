"""The sections of a recipe's data: the source, its options, the parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from .section import Count, Section, Seed


class Split(Section):
    """Sizes of the parts; parts without a size stay empty, a null `train` takes the rest."""

    train: Count | None = None
    validation: Annotated[int, Field(ge=0, strict=True)] = 0
    test: Annotated[int, Field(ge=0, strict=True)] = 0
    seed: Seed = 0


Conditions = dict[str, Literal["class", "vector"]]  # column → what it is


class DataBase(Section):
    normalisation: Literal["standardise", "range"] = "standardise"
    split: Split = Split()


class ArraysData(DataBase):
    source: Literal["arrays"]
    path: Path
    labels: Path | None = None
    layout: str | None = None
    value_range: tuple[float, float] | None = None
    class_names: list[str] | None = None
    conditions: Conditions | None = None
    channels: str | None = None
    name: str | None = None
    licence: str = "not stated"
    stream: bool | None = None


class FolderData(DataBase):
    source: Literal["folder"]
    path: Path
    size: Count | tuple[Count, Count] | None = None
    mode: str = "auto"
    labelled: bool = True
    class_names: list[str] | None = None
    conditions: Conditions | None = None
    name: str | None = None
    licence: str = "not stated"
    stream: bool | None = None


class ShardData(FolderData):
    """Pictures or numbers in shards; path: one, a folder of them, or a pattern."""

    column: str | None = None
    label: str | None = None
    layout: str | None = None
    value_range: tuple[float, float] | None = None


class ParquetData(ShardData):
    source: Literal["parquet"]  # type: ignore[assignment]


class WebdatasetData(ShardData):
    source: Literal["webdataset"]  # type: ignore[assignment]


class DigitsData(DataBase):
    source: Literal["digits"]


class Mnist5kData(DataBase):
    source: Literal["mnist5k"]
    path: Path | None = None
    fetch: bool = False


class FashionData(DataBase):
    source: Literal["fashion"]
    part: Literal["train", "test", "all"] = "train"
    path: Path | None = None
    fetch: bool = False


class OwnData(DataBase):
    """Data that a program gave, which the recipe cannot open again."""

    source: Literal["own"]


Data = Annotated[
    ArraysData
    | FolderData
    | ParquetData
    | WebdatasetData
    | DigitsData
    | Mnist5kData
    | FashionData
    | OwnData,
    Field(discriminator="source"),
]
