"""Table 9 (Figure 6, right): how many outputs SupSup needs, PermutedMNIST with FC 1024-1024, between the bounds."""

from supsup_methods.recipes.permuted import FC, output_sizes

TABLE9 = output_sizes("table9", FC)
