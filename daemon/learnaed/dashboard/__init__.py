"""The dashboard: the web page that a daemon shows of itself at `/`; its files are served by `status`.

Plain HTML, CSS and JavaScript modules under `static`, without a build step and without anything from elsewhere.
"""

from learnaed.dashboard.assets import HEADERS, Asset, assets

__all__ = ["HEADERS", "Asset", "assets"]
