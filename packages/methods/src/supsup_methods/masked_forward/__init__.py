"""What a task's mask costs beside a forward pass, checked and measured (Appendix D.4). Needs torch and torchvision alone."""
