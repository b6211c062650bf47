"""Networks: blocks and their blueprints, from a model's name or from the user's own modules."""
