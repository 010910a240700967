"""Text and documents that people write: parsed into values, and printed canonically."""
