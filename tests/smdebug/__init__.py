"""Tests of the drop-in `smdebug`."""
