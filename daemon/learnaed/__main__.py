"""Entry point of the `learnaed` command and of `python -m learnaed`."""

import sys


def main() -> None:
    """Run the command. Ctrl+C is no error while its modules still load, either."""
    try:
        from learnaed.main import main as run
    except KeyboardInterrupt:
        sys.exit(0)
    run()


if __name__ == "__main__":
    main()
