"""`python -m foveal.cli`, the same as `foveal`."""

from foveal.cli.main import main

if __name__ == "__main__":
    main()
