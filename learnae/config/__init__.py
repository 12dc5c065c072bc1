"""The daemon's settings: what there is to set, where it comes from, how it is checked; used by both commands."""

from learnae.config.config import Config
from learnae.config.file import FILE_NAME
from learnae.config.parsers import LOG_FORMATS, LOG_LEVELS
from learnae.config.setting import Setting, settable
from learnae.config.sources import ENVIRONMENT_PREFIX, flag

__all__ = ["ENVIRONMENT_PREFIX", "FILE_NAME", "LOG_FORMATS", "LOG_LEVELS", "Config", "Setting", "flag", "settable"]
