"""Everything outside the program that is written from the table of verbs; not installed."""
