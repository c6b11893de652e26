"""Charts as plain SVG, drawn on the server: stacked columns, with a table behind each. Used by pages of operators.

A chart needs neither JavaScript nor inline styles, which the Content-Security-Policy forbids: each rectangle has the
colour of a state. `templates/support/_charts.html` writes the markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

WIDTH = 1000
HEIGHT = 100
"""Size of the drawing area in units of the SVG, which the page stretches to its own size."""
_GAP = 0.12
"""Share of a column that stays empty."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one kind, one for each column.

    Attributes:
        name: what the values count, for the legend and the table.
        state: the state whose colour the series has, such as `updated`.
        values: the numbers, not negative.
    """

    name: str
    state: str
    values: Sequence[int]


@dataclass(frozen=True, slots=True)
class Bar:
    """One rectangle, in units of the SVG."""

    state: str
    x: float
    y: float
    width: float
    height: float
    text: str
    """What the rectangle stands for, shown on hover."""


@dataclass(frozen=True)
class ColumnChart:
    """Columns from left to right; in each, the series stand on each other in their order.

    Attributes:
        title: what the chart shows.
        heading: heading of the labels in the table, such as `Day`.
        labels: a label for each column.
        series: the series, lowest first.
    """

    title: str
    heading: str
    labels: Sequence[str]
    series: Sequence[Series]

    @property
    def top(self) -> int:
        """The height of the tallest column; at least 1."""
        return max((sum(values) for values in self._columns()), default=1) or 1

    @property
    def is_empty(self) -> bool:
        """Whether every value is 0."""
        return not any(any(series.values) for series in self.series)

    @property
    def summary(self) -> str:
        """The title and the last column in words, for screen readers."""
        if not self.labels:
            return self.title
        values = ", ".join(f"{series.values[-1]} {series.name}" for series in self.series)
        return f"{self.title}. {self.labels[-1]}: {values}."

    def rows(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the rows of the table: a label and the values of all series."""
        yield from zip(self.labels, self._columns(), strict=True)

    def bars(self) -> Iterator[Bar]:
        """Yield the rectangles of all values that are not 0."""
        slot, scale = WIDTH / max(1, len(self.labels)), HEIGHT / self.top
        for position, (label, values) in enumerate(self.rows()):
            for series, value, end in zip(self.series, values, accumulate(values), strict=True):
                if value:
                    yield Bar(
                        state=series.state,
                        x=round((position + _GAP / 2) * slot, 2),
                        y=round(HEIGHT - end * scale, 2),
                        width=round((1 - _GAP) * slot, 2),
                        height=round(value * scale, 2),
                        text=f"{label}: {value} {series.name}",
                    )

    def _columns(self) -> list[tuple[int, ...]]:
        return list(zip(*(series.values for series in self.series), strict=True))
