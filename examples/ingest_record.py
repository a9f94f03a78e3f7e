"""A recording becomes a beat table: `python ingest_record.py`, without a server.

A simulated Holter record of twelve minutes is written to `records/`; its beats go to
`beats/sim001.parquet`, one row a beat. Put your own data set's TOML and folder in their place.
"""

from pathlib import Path

from flows.ingest.build import Plan, build_table
from flows.ingest.simulate import write_simulated
from storage.datasets.dataset import load_spec
from tasks.signal.preprocessing import Preprocessing


def main() -> None:
    """Simulate two records, and make the second one's beat table."""
    toml = write_simulated(Path("records"), subjects=2, hours=0.2, seed=1)
    spec = load_spec(str(toml))
    plan = Plan(spec, toml.parent, Path("beats"), Preprocessing(), signal=True)
    outcome, entry = build_table(plan, "sim001")
    print(f"{outcome}: beats/{entry.file}")
    print(f"lead {entry.lead}, {60 * entry.hours:.0f} minutes")
    print(f"{entry.beats} beats, {entry.af_beats} of them in AF, {entry.flagged_beats} flagged")
    print(f"sha256 {entry.sha256}")


if __name__ == "__main__":
    main()
