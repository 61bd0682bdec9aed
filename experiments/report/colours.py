# SPDX-License-Identifier: Apache-2.0
"""Colours of the page and its figures, safe for the colour-blind, on a light ground."""

# Lightness falls with the width, so that the order shows without hue.
WIDTHS = {
    2: "#f6e7a0",
    3: "#c3dd90",
    4: "#86cc9c",
    5: "#45b0aa",
    6: "#22789f",
    7: "#2a5590",
    8: "#2b2f6b",
}
DARK_WIDTHS = (6, 7, 8)  # white text on these

INK, MUTED, RULE = "#1b1f24", "#57606a", "#d5d9de"
# Blue, vermilion and green of the Okabe-Ito set; grey for what is only there to compare with.
BLUE, VERMILION, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#8b949e"
SAND = "#d9c58b"
# Boxes over photographs: the bright pair that no colour blindness confuses, over a dark edge.
LABEL_BOX, PREDICTION_BOX = "#ffe14d", "#35c4ff"
