"""Figures that a page under test shows, with the numbers that plotly packs into them unpacked again."""

import base64
import json

import numpy as np


def shown_figures(page):
    """Return the figures as their JSON, in the order of the page."""
    return [json.loads(chart.proto.spec, object_hook=_unpacked) for chart in page.get("plotly_chart")]


def _unpacked(value):
    if "bdata" not in value:
        return value
    numbers = np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
    shape = [int(part) for part in value.get("shape", str(len(numbers))).split(",")]
    return numbers.reshape(shape).tolist()
