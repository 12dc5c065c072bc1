"""Where daemons keep their profiles, and the files there that a client may read; used by daemon and CLI."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import platformdirs

STATUS_FILE: Final = "status.json"
"""While a daemon runs: {"url", "pid", "peer", "topic"}."""
TOKEN_FILE: Final = "token"
"""The secret that a request to steer the daemon must carry; readable by its user alone."""
SUMMARY_FILE: Final = "summary.json"
"""Left behind by a daemon that ended cleanly: {"status": its last status}."""
PRIVATE_MARK: Final = "private"
"""In a profile that was in a private swarm: its topic. Such a profile is not started without a secret."""
LOG_FILE: Final = "learnaed.log"


def default_home() -> Path:
    """The directory of profiles unless `--home` or LEARNAE_HOME says otherwise: the user's data directory here."""
    return Path(platformdirs.user_data_dir("learnae"))
