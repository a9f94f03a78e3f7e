"""From a lead to beats: filters, QRS detection, quality, segments."""
