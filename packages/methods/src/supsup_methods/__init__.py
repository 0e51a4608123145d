"""supsup-methods: training, evaluation, recipes and commands of Supermasks in Superposition.

Import from the modules: `supsup_methods.training.train`, `supsup_methods.runs.open_run`, `supsup_methods.recipes.RECIPES`,
`supsup_methods.supsup.SupSup`. This file imports nothing, so that commands start at once.
"""
