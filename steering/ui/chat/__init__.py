"""The tab "Chat": what a turn does to the page, how messages are shown, and the chat as a file."""
