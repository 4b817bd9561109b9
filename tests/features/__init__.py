"""Tests of the features: computed once, kept, equal to what the network itself computes."""
