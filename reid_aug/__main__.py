"""``python -m reid_aug``: the command line where its script is not on the path."""

from reid_aug.cli import main

main()
