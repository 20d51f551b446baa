"""The style of every picture of the docs."""

import matplotlib
from matplotlib import pyplot as plt

# Colours that colour-blind readers can distinguish on white (Okabe and Ito 2008).
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#7f7f7f",
)  # fmt: skip

STYLE = {
    "axes.prop_cycle": matplotlib.cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE, GREY]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "font.size": 9,
    "image.cmap": "gray",
    "legend.frameon": False,
    "savefig.dpi": 110,
}


def reset(gallery_conf, fname):
    """Apply the style before each gallery page: see Sphinx-Gallery's ``reset_modules``."""
    plt.switch_backend("agg")
    matplotlib.rcParams.update(STYLE)
