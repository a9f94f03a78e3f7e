"""The board that the agent runs on: its facts, its sensors, and how they were during a run."""
