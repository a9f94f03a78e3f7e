"""Lineage events of flows and decisions, in OpenLineage's form, for the receiver of a catalogue."""
