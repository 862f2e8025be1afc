"""``python -m anomaly_u2net``: the command line."""

from anomaly_u2net.cli.main import main

if __name__ == "__main__":
    main()
