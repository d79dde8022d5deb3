"""The tab "About & API": what this is, where it comes from, and programs that ask the same."""
