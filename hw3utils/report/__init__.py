"""From executed notebooks to pages: papermill, the report, the committed run."""
