"""What Holdfast ships for testing agents."""
