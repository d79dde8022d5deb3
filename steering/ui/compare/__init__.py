"""The tab "Compare": one question, three answers side by side, each sentence coloured."""
