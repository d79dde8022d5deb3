"""The tab "Look inside": neurons of a language, what fires in an answer, answers without some."""
