"""``python -m pyro_sws``: the command line."""

from pyro_sws.cli import main

if __name__ == "__main__":
    main()
