"""Reports as blocks, figures and pages."""
