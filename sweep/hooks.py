"""What the hooks of a job are given and give: the functions by which a `Job` looks at a run that has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Kept(Protocol):
    """A run that has ended, as its job is shown it again: what was recorded of it.

    Whoever recorded it may be a stranger, so nothing of it is to be run.
    """

    @property
    def run_id(self) -> str:
        """Id of the run in MLflow."""

    @property
    def name(self) -> str:
        """Name of the run, as in `trial-007`."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """The last value of each metric."""

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags of the run, those that the job has logged among them."""

    @property
    def digest(self) -> str:
        """Digest of the data that it was trained on; empty if it does not say."""

    def file(self, name: str) -> Path | None:
        """A copy on this machine of the file `name` that the run kept, None if it kept none."""


class PerExample(NamedTuple):
    """How a model did on each example that a metric was measured on."""

    scores: NDArray[np.float64] | NDArray[np.bool_]
    """(N,), the mean of which is the metric: whether each image was classified correctly, say."""
    examples: str
    """A digest that two runs share only if they were measured on the same examples, in the same order."""


class Verified(NamedTuple):
    """A model that `sweep best` has fetched and its job has found as good as recorded."""

    how_to_load: str
    """What to type to use it, printed at the end."""
    doubt: str = ""
    """Why the model as MLflow keeps it was better not taken; empty if it was, or is the same."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a study's report, about its best trial."""

    title: str
    """Its heading."""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    """PNG files by their names, which are shown and kept with the trial."""
    header: Sequence[str] = ()
    """Names of the columns of a table."""
    rows: Sequence[Sequence[str]] = ()
    """Rows of that table."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Other files to keep with the trial, by their names."""
    note: str = ""
    """A sentence below."""
