"""Write the schema of our facets in OpenLineage's events: `python docs/list_facets.py`."""

from __future__ import annotations

import json
from pathlib import Path

from flows.exchange.facets import schema

if __name__ == "__main__":
    text = json.dumps(schema(), indent=1) + "\n"
    (Path(__file__).parent / "openlineage.schema.json").write_text(text)
