"""Covering combinations: as few as hold each value of a search space, to see that each value can be used."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from sweep.errors import SweepError

MOST_TRIED = 8
"""In how many combinations a value is tried before it counts as one that is always refused."""


def require_each_goes(
    values: Mapping[str, Sequence[str]], attempt: Callable[[dict[str, str]], None]
) -> list[dict[str, str]]:
    """Check that `attempt` takes each of `values` in some combination; return the combinations that it took.

    A combination that it refuses does not count against its values as long as others with them are taken: the trials
    that meet it will say so. The order in which the values are given makes no difference.

    Args:
        values: The values to try, by key.
        attempt: Raises a SweepError, or one of Hydra's errors, for a combination that cannot be trained.

    Raises:
        SweepError: (or an error of Hydra's) The error of `attempt` for a value that was refused in every combination.
    """
    values = {key: sorted(set(given)) for key, given in sorted(values.items())}
    drawn = random.Random(0)
    taken: list[dict[str, str]] = []

    def refusal(combination: dict[str, str]) -> Exception | None:
        try:
            attempt(combination)
        except (SweepError, HydraException, OmegaConfBaseException) as error:
            return error
        taken.append(combination)
        return None

    def refusal_of_all(combinations: Iterable[dict[str, str]]) -> Exception | None:
        """Return the first refusal, None as soon as one combination is taken."""
        first = None
        for combination in combinations:
            error = refusal(combination)
            if error is None:
                return None
            first = first or error
        return first

    def some_with(fixed: dict[str, str]) -> Iterator[dict[str, str]]:
        yield from [combination | fixed for combination in taken]
        for _ in range(MOST_TRIED):
            yield {key: drawn.choice(given) for key, given in values.items()} | fixed

    refusals = [error for combination in covering_combinations(values) if (error := refusal(combination))]
    if not taken and refusal_of_all(some_with({})):
        raise refusals[0]
    for key, given in values.items():
        for value in given:
            if any(combination[key] == value for combination in taken):
                continue
            if error := refusal_of_all(some_with({key: value})):
                raise error
    return taken


def covering_combinations(values: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    """Yield as few combinations as hold every one of `values` at least once."""
    for i in range(max(map(len, values.values()), default=1)):
        yield {key: choices[min(i, len(choices) - 1)] for key, choices in values.items()}
