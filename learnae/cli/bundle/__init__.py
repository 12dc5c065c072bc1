"""`learnae bundle`: one file with what somebody who helps needs to see, and nothing that only its user may know."""

from learnae.cli.bundle.command import bundle

__all__ = ["bundle"]
