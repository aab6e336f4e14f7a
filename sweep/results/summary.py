"""The summary of a study for a person: the table of its trials, the best of them, and what to type next."""

import re
import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from sweep.outcome import INTERRUPTED
from sweep.results.table import StudyTable, TrialRow
from sweep.study.progress import terminal_width

MOST_ROWS = 50
WIDTH_WITHOUT_TERMINAL = 120
"""Columns of a table that is written to a file or a pipe."""
TAKEN = ("trial", "front", "seconds", "status", "run", "length")
"""Column names that are no settings, and "length", which means nothing by itself."""
INDENT = " " * 8
"""Indentation of lines that belong to the line above."""


def counts_in_words(table: StudyTable) -> str:
    """Return how many trials there are, and how they ended, as text."""
    counts = Counter("copied" if row.copy_of is not None else row.state for row in table.rows)
    interrupted = counts.pop(INTERRUPTED, 0)
    told = ", ".join(f"{counts[state]} {state}" for state in sorted(counts))
    if interrupted:
        told += f"; besides, {interrupted} interrupted"
    return f"{counts.total()} trials, {told}"


def summary_in_words(table: StudyTable, remarks: Sequence[str], where_to_look: Sequence[str]) -> str:
    """Return the table of trials, best first, the best one, and what to type next, as text.

    Args:
        table: The study, with a trial that has finished.
        remarks: Sentences about the best trial.
        where_to_look: Lines that say what to type, or where to go, to see the record.
    """
    lines = [table_in_words(table), "", f"study   {table.name}: {counts_in_words(table)}"]
    lines += best_lines(table)
    lines += [wrapped(f"{INDENT}{remark}") for remark in remarks]
    lines += where_to_look
    lines.append(f"fetch   sweep best --study {table.name}")
    return "\n".join(lines)


def best_lines(table: StudyTable, *, with_settings: bool = False) -> list[str]:
    """Return the best trial, or the Pareto front, as lines of text."""

    def line(row: TrialRow) -> str:
        settings = settings_of(row, table.dimensions) if with_settings else {}
        told = "".join(f"  {key}={short(value)}" for key, value in settings.items())
        return f"trial {row.number}: {table.job.in_words(row.values)}{told}"

    if len(table.objectives) == 1:
        return [f"best    {line(table.best)}"]
    return [f"front   {len(table.front)} trials that no other beats in one objective without losing in another:"] + [
        f"        {line(row)}" for row in table.front
    ]


def table_in_words(table: StudyTable) -> str:
    """Return a line for each trial, best first by the first objective, at most MOST_ROWS.

    Trials without a value come last. Settings that all trials share are printed below, once.
    """
    on_front = {row.number for row in table.front}
    several = len(table.objectives) > 1
    columns, common = compared(table.ranked, table.dimensions)
    header = ["trial", *table.objectives, *["front"] * several, *columns, "seconds", "status"]
    rows = [
        [
            str(row.number),
            *(value_in_words(table, row, objective) for objective in table.objectives),
            *["*" if row.number in on_front else ""] * several,
            *(bare(cells[i]) for cells in columns.values()),
            f"{row.seconds:.1f}",
            status_in_words(row),
        ]
        for i, row in enumerate(table.ranked[:MOST_ROWS])
    ]
    first = len(header) - 2 - len(columns)
    lines = fitted(header, rows, spare=[len(header) - 2, *reversed(range(first, first + len(columns)))])
    if len(table.rows) > MOST_ROWS:
        lines.append(f"... and {len(table.rows) - MOST_ROWS} more, all in MLflow")
    if common:
        told = "  ".join(f"{key}={short(value)}" for key, value in common.items())
        lines.append(wrapped(f"the same in all: {told}"))
    return "\n".join(lines)


class Compared(NamedTuple):
    """The settings that differ between trials, and those that do not."""

    columns: dict[str, list[str]]
    """The values that differ, one for each trial, by key; shortened as far as they stay distinct."""
    common: dict[str, str]
    """The settings that are the same in all trials, by the whole key."""


def compared(rows: Sequence[TrialRow], searched: Iterable[str]) -> Compared:
    """Return which of the settings `searched` differ between the trials `rows`, the items of a list together."""
    keys = whole_lists(searched, {name for row in rows for name in row.params})
    cells = {key: [row.run.setting(key) for row in rows] for key in keys}
    common = {key: values[0] for key, values in cells.items() if len(rows) > 1 and len(set(values)) == 1}
    names = short_names(key for key in cells if key not in common)
    return Compared({names[key]: values for key, values in cells.items() if key not in common}, common)


def settings_of(row: TrialRow, searched: Iterable[str]) -> dict[str, str]:
    """Return a trial's values for the keys `searched`, the items of a list together."""
    found = {key: row.run.setting(key) for key in whole_lists(searched, row.params)}
    return {key: value for key, value in found.items() if value}


def whole_lists(searched: Iterable[str], params: Collection[str] = ()) -> list[str]:
    """Return the keys `searched`, with a list in place of its items and length; `params` are recorded names."""
    keys = list(searched)
    items = {key: key.rpartition(".")[0] for key in keys if key.rpartition(".")[2].isdigit()}
    lengths = {key: name for key in keys if (name := key.removesuffix(".length")) != key}
    lists = {key: name for key, name in lengths.items() if name in items.values() or f"{name}.0" in params}
    return list(dict.fromkeys((items | lists).get(key, key) for key in keys))


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Return the shortest end of each key that no other key has and that means something: `lr` for `optimizer.lr`."""
    parts = {key: key.lstrip("+").split(".") for key in keys}

    def is_unique(key: str, num_parts: int) -> bool:
        end = parts[key][-num_parts:]
        return (
            not end[0].isdigit()
            and end[0] not in TAKEN
            and all(other[-num_parts:] != end for another, other in parts.items() if another != key)
        )

    return {
        key: ".".join(own[-next((n for n in range(1, len(own)) if is_unique(key, n)), len(own)) :])
        for key, own in parts.items()
    }


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a line for each of `rows`, each column as wide as its widest cell and flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def fitted(header: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[int] = ()) -> list[str]:
    """Return the lines of a table no wider than the terminal.

    Where it is too narrow, names in the `header` are broken, then long cells cut; then the columns at the places
    `spare` are left out, in this order, and named below.
    """
    width = terminal_width() or WIDTH_WITHOUT_TERMINAL
    for lines in _narrower(header, rows, spare):
        if len(lines[0]) <= width:
            break
    return lines


def _narrower(header: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[int]) -> Iterator[list[str]]:
    """Yield the lines of a table, then those of narrower and narrower ones."""
    yield aligned([header, *rows])
    for most in (40, 16, 10):
        yield _broken(header, rows, most)
    for count in range(1, len(spare) + 1):
        gone = spare[:count]
        kept = [i for i in range(len(header)) if i not in gone]
        missing = ", ".join(header[i] for i in sorted(gone))
        lines = _broken([header[i] for i in kept], [[row[i] for i in kept] for row in rows], 16)
        yield [*lines, wrapped(f"no room for {missing}: a wider terminal shows more")]


def _broken(header: Sequence[str], rows: Sequence[Sequence[str]], most: int) -> list[str]:
    """Return the aligned lines of a table with names over several lines, and no cell longer than `most`."""
    cells = [[cell if len(cell) <= most else f"{cell[: most - 2]}.." for cell in row] for row in rows]
    widths = [max(map(len, column), default=0) for column in zip(*cells, strict=True)] or [0] * len(header)
    names = [_break(name, width) for name, width in zip(header, widths, strict=True)]
    height = max(map(len, names))
    padded = [[""] * (height - len(name)) + name for name in names]
    return aligned([*zip(*padded, strict=True), *cells])


def _break(name: str, width: int) -> list[str]:
    """Return `name` over as many lines as it needs to be no wider than `width`, where it has parts."""
    lines = [""]
    for part in re.findall(r"[^/_. -]+[/_. -]*|[/_. -]+", name):
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return [line.rstrip() for line in lines]


def wrapped(text: str) -> str:
    """Return a sentence over as many lines as the terminal needs, with an indent; on one line without a terminal."""
    width = terminal_width()
    if width is None:
        return text
    return "\n".join(
        textwrap.wrap(text, max(width, 40), subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False)
    )


def status_in_words(row: TrialRow) -> str:
    """Return how a trial ended, in one word, or whose copy it is."""
    return row.state if row.copy_of is None else f"as {row.copy_of}"


def value_in_words(table: StudyTable, row: TrialRow, objective: str) -> str:
    """Return a trial's value of `objective` as text; a dash if it failed, or has none."""
    if row.state not in ("finished", "pruned", "stopped") or objective not in row.values:
        return "-"
    return table.job.metric(objective).in_words(row.values[objective])


def short(param: str) -> str:
    """Return a recorded setting with its numbers rounded to four digits."""
    if param.startswith("[") and param.endswith("]"):
        return f"[{','.join(short(item) for item in param[1:-1].split(','))}]"
    try:
        return param if param.lstrip("-").isdigit() else f"{float(param):.4g}"
    except ValueError:
        return param


def bare(param: str) -> str:
    """Return a setting as it stands in a column: a list without its brackets."""
    told = short(param)
    return told[1:-1] if re.fullmatch(r"\[[^\[\]]+\]", told) else told
