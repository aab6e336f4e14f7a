"""Types that the hooks of a job take and return: the functions by which a `Job` looks at a run that has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Kept(Protocol):
    """A run that has ended, as it was recorded; the argument of a job's hooks.

    Whoever recorded it may be a stranger, so nothing in it may be run.
    """

    @property
    def run_id(self) -> str:
        """Id of the run in MLflow."""

    @property
    def name(self) -> str:
        """Name of the run, as in `trial-007`."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """The last value of each metric, by name."""

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags of the run, including those that the job has logged."""

    @property
    def digest(self) -> str:
        """Digest of the data that the run was trained on; empty if it does not say."""

    def file(self, name: str) -> Path | None:
        """Return the path of a local copy of the file `name` that the run kept, None if it kept none."""


class PerExample(NamedTuple):
    """How a model did on each example that a metric was measured on."""

    scores: NDArray[np.float64] | NDArray[np.bool_]
    """(N,), their mean is the metric; for an accuracy, whether each example was classified correctly."""
    examples: str
    """A digest that two runs share only if they were measured on the same examples, in the same order."""


class Verified(NamedTuple):
    """The result of a job's check of a model that `sweep best` has fetched: as good as recorded."""

    how_to_load: str
    """Code or commands that load the model, printed at the end."""
    doubt: str = ""
    """Why MLflow's copy of the model was made anew; empty if it was taken, or is the same."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section that a job adds to a study's report, about the best trial."""

    title: str
    """Heading of the section."""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    """PNG files by name, shown in the section and kept with the trial."""
    header: Sequence[str] = ()
    """Names of the table's columns."""
    rows: Sequence[Sequence[str]] = ()
    """Rows of the table, a cell for each name in `header`."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Other files to keep with the trial, by name."""
    note: str = ""
    """Sentence below the table."""
