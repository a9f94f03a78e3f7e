"""How answers are judged: metrics, episodes, intervals, drift, the gate."""
