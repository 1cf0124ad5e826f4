"""Small, seeded data sets with known truth and faults planted on purpose."""

from foveal.simulate.retina import simulate_retina as simulate_retina

__all__ = ["simulate_retina"]
