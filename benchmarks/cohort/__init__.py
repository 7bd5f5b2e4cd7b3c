"""What a cohort's loops cost and survive, and which spoilt images its report finds."""
