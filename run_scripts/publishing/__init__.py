"""From a trained model's directory to its published folder, and on to the Hub."""
