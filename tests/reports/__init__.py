"""Tests of the page that reports on a job."""
