"""Files of recorders and archives: WFDB, EDF, ISHNE, DICOM, FLAC."""
