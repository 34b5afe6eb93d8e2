"""One stage of a run, from run.json to result.json: the loop, its pieces, and what it reports."""
