"""Types of values in params.yaml with their bounds. They refuse what no run can use and what breaks a message."""

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

T = TypeVar("T")


def word_for_none(word: str) -> tuple[Any, ...]:
    """Let a word in params.yaml stand for None; refuse YAML's null, which DVC would write back as an empty value."""

    def validate(value: Any) -> Any:
        if value is None:
            raise ValueError(f"null is not allowed: write {word}")
        return None if value == word else value

    serializer = PlainSerializer(lambda value: word if value is None else value)
    return BeforeValidator(validate), serializer, Field(json_schema_extra={"word_for_none": word})


Auto = Annotated[T | None, *word_for_none("auto")]
"""A value, or the word auto (None here): the data, the source or another section decides."""
OrNone = Annotated[T | None, *word_for_none("none")]
"""A value, or the word none (None here)."""
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]*$"
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\x{2028}\x{2029}]*$"
SHARD = r"^[1-9][0-9]{0,3}/[1-9][0-9]{0,3}$"
PATTERNS = {
    NAME: "a name of letters, digits, _ and -",
    PRINTABLE: "text without control characters",
    SHARD: "a shard i/n",
}
"""What a pattern means, for messages."""
MOST_SHARDS = 1000
PART = 255  # bytes of a file's name
PATH = 4000  # bytes of a path: fewer than Linux allows, because the folder of the project comes first


def possible_path(path: str) -> str:
    """A path that a file system can have. Raises ValueError."""
    if len(path.encode()) > PATH or any(len(part.encode()) > PART for part in path.split("/")):
        raise ValueError(f"must be a path of at most {PATH} bytes whose parts have at most {PART} bytes")
    return path


def possible_shard(shard: str) -> str:
    """A shard i/n that exists. Raises ValueError."""
    i, n = map(int, shard.split("/"))
    if not i <= n <= MOST_SHARDS:
        raise ValueError(f"must be a shard i/n with i <= n <= {MOST_SHARDS}")
    return shard


Name = Annotated[str, Field(pattern=NAME, max_length=100, description="letters, digits, _ and -")]
Text = Annotated[str, Field(pattern=PRINTABLE, min_length=1, max_length=1000)]
PathText = Annotated[str, Field(pattern=PRINTABLE, min_length=1), AfterValidator(possible_path)]
Arch = Annotated[str, Field(pattern=PRINTABLE, min_length=1, max_length=200)]
Shard = Annotated[str, Field(pattern=SHARD), AfterValidator(possible_shard)]
Positive = Annotated[float, Field(gt=0, le=1_000_000)]
NotNegative = Annotated[float, Field(ge=0, le=1_000_000)]
Temperature = Annotated[float, Field(ge=0.001, le=1000)]
Fraction = Annotated[float, Field(ge=0, le=1)]
InnerFraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
CountOrZero = Annotated[int, Field(ge=0, le=1_000_000)]
Images = Annotated[int, Field(ge=1, le=1_000_000_000)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Option = bool | int | float | Text | Annotated[list[int | float], Field(max_length=100)]
Group = Annotated[dict[Name, Arch], Field(max_length=100)]
