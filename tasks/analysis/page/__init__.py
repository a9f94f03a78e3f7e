"""The report of one record: what it shows, in words, charts and strips, as HTML and as a PDF."""
