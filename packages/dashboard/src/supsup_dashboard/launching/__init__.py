"""From a recipe's types to a form, from the form to a command, and where it may run."""
