"""Tests of the board: its facts and sensors."""
