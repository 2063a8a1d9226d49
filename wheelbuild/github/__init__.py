"""What the farm asks of GitHub. The token comes from the environment and is said nowhere."""
