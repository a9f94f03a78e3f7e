"""Write the schemas of the commands' JSON from their kinds: `python docs/list_answers.py`."""

from __future__ import annotations

import json
from pathlib import Path

from flows.cli.answer.schema import document

if __name__ == "__main__":
    text = json.dumps(document(), indent=1) + "\n"
    (Path(__file__).parent / "answers.schema.json").write_text(text)
