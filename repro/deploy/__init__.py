"""What happens to a packed file: inference, costs, other formats."""
