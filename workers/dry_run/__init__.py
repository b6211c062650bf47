"""The run's own stages on synthetic data for about a second, to predict its speed and refine its partition."""
