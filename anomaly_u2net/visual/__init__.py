"""Overlays, panels and sheets, all on one absolute colour scale tied to the threshold."""

from anomaly_u2net.visual.export import claim_names, overlay_names, write_png
from anomaly_u2net.visual.overlay import heatmap, outline, overlay, scale_position
from anomaly_u2net.visual.panel import panel
from anomaly_u2net.visual.sheet import sheet

__all__ = [
    "claim_names",
    "heatmap",
    "outline",
    "overlay",
    "overlay_names",
    "panel",
    "scale_position",
    "sheet",
    "write_png",
]
