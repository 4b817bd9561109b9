"""Logging to standard error, print to standard output: in the order in which they were said."""

import logging

logger = logging.getLogger(__name__)
logger.setLevel(logging.DEBUG)
logger.addHandler(logging.StreamHandler())
for step in range(200):
    print(f"out {2 * step}")
    logger.info("err %d", 2 * step + 1)
logger.info("Test set: Average loss: 0.125")
