"""Files of recorders and archives: WFDB, EDF, ISHNE, FLAC."""
