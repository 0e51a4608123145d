"""Table 8 (Figure 6, left): how many outputs SupSup needs, PermutedMNIST with LeNet 300-100, between the bounds."""

from supsup_methods.recipes.permuted import LENET, output_sizes

TABLE8 = output_sizes("table8", LENET)
