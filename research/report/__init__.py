"""Results and predictions in, result.json and one self-contained report.html out."""
