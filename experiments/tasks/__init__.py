"""The tasks: a model, data, a loss, and what is looked at; a study picks one."""
