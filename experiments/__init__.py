"""One file per question that a person asks: `launch/run.sh experiments.NAME`."""
