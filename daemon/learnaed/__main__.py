"""`python -m learnaed`: the same as the `learnaed` command; the demo starts its daemons so."""

from learnaed.main import main

if __name__ == "__main__":
    main()
