"""How good is the policy, and how good is the reward model."""
