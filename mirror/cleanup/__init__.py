"""Taking Peili off hosts: what is removed, and how many hosts learn together that all of them are clean."""
