"""A warm process that imports next to nothing, so that a test has one in half a second; all else is the real one.

`python light.py -m houndsight.warm ...`: what stands before `-m` is how the seed names its interpreter.
"""

import sys

from houndsight.warm import pool
from houndsight.warm.__main__ import main

if __name__ == "__main__":
    del sys.argv[1:3]
    pool.LIBRARIES = {"script": (), "classifier": ()}
    pool.LOOK_SECONDS = 0.1
    main()
