"""What all figures have in common: colours and symbols that everybody can tell apart, on light and on dark paper."""

import plotly.graph_objects as go

# From the Okabe-Ito palette, which colour-blind readers can tell apart, without its black and its yellow: neither can be read
# on both a light and a dark page.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
GREY = "#808080"
"""Of what stands behind: the paper's values, thresholds, chance."""
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY)
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star", "hexagon")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_FEW_NUMBERS = 10
SCALE = "Cividis"
"""Of heat maps: it grows lighter evenly, for colour-blind readers as well."""


def labelled(figure: go.Figure, x: str, y: str) -> go.Figure:
    """Return the figure with titles on its axes, units in brackets or after a comma, and its legend below."""
    return figure.update_layout(
        xaxis_title=x, yaxis_title=y, legend={"orientation": "h", "yanchor": "top", "y": -0.2}, margin={"t": 40}
    )


def counted(figure: go.Figure, largest: int) -> go.Figure:
    """Return the figure with ticks at whole numbers alone, on an x axis that counts from 0 or 1 to `largest`."""
    return (
        figure.update_xaxes(dtick=1) if largest <= _FEW_NUMBERS else figure
    )  # of more, plotly picks whole ones itself


def see_through(colour: str) -> str:
    """Return a colour for areas, through which lines and other areas can be seen.

    Args:
        colour: as #rrggbb.
    """
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.25)"
