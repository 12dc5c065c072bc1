"""`python -m learnaed`: the same as the `learnaed` command; the demo and service files start daemons so."""

from learnaed.main import main

if __name__ == "__main__":
    main()
