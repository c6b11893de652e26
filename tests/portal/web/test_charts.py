"""Tests of charts: geometry of the columns, words for screen readers, and the table behind them."""

from flask import Flask, render_template_string

from portal.web.charts import HEIGHT, WIDTH, ColumnChart, Series

CHART = ColumnChart(
    "Updates by day",
    "Day",
    ["Mon", "Tue"],
    [Series("updated", "updated", [3, 6]), Series("rolled back", "rolled_back", [1, 2])],
)


def test_columns_are_stacked_and_fill_the_drawing() -> None:
    bars = list(CHART.bars())

    assert CHART.top == 8
    assert [bar.state for bar in bars] == ["updated", "rolled_back"] * 2
    assert [(bar.y, bar.height) for bar in bars] == [(62.5, 37.5), (50, 12.5), (25, 75), (0, 25)]
    assert bars[0].x < bars[0].x + bars[0].width < WIDTH / 2 < bars[2].x
    assert all(bar.y >= 0 and bar.y + bar.height <= HEIGHT for bar in bars)
    assert bars[3].text == "Tue: 2 rolled back"


def test_the_numbers_are_also_text(app: Flask) -> None:
    with app.test_request_context():
        page = render_template_string(
            '{% from "support/_charts.html" import column_chart %}{{ column_chart(chart) }}', chart=CHART
        )

    assert 'aria-label="Updates by day. Tue: 6 updated, 2 rolled back."' in page
    assert '<td>Mon</td><td class="number">3</td><td class="number">1</td>' in page
    assert "style=" not in page


def test_a_chart_without_values_draws_nothing() -> None:
    empty = ColumnChart("Nothing", "Day", ["Mon"], [Series("updated", "updated", [0])])

    assert empty.is_empty
    assert not CHART.is_empty
    assert list(empty.bars()) == []
    assert list(ColumnChart("Nothing", "Day", [], []).rows()) == []
